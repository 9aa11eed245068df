"""The two faces of a KV namespace: `KVNamespace` for asyncio, `SyncKVNamespace` for code that blocks.

Both are thin: validation, answers and the store are shared. A read runs at once on the calling
thread, without a Task. A write made in an object's name is handed to its output gate, which keeps the
order of what it lets out, and by it to the writer thread.
Semantics: Cloudflare's Workers KV, except that one machine needs no patience: a read always sees the
last write that was answered, by whichever process.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runtime.kv.answers import CHUNK_BYTES, get, list_keys
from runtime.kv.arriving import arrive, arrive_async, is_async_stream, is_stream
from runtime.kv.commit import Write
from runtime.kv.shared_tier import UNKNOWN
from runtime.kv.tiers import Entry
from runtime.kv.validation import (
    MIN_TTL,
    MISSING,
    bulk_keys,
    expiry,
    key_bytes,
    metadata_text,
    prefix_bytes,
    read_options,
    value_bytes,
)
from runtime.kv.watch import SyncWatch, Watch
from workers.body import BodyStream, stream_of
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.kv.record import Record
    from runtime.kv.store import Store
    from runtime.kv.tiers import Large
    from runtime.kv.value_file import StoredFile, ValueFile


class KVNamespace:
    """A KV namespace for asyncio; what `env` binds in a worker script."""

    def __init__(
        self,
        store: Store,
        *,
        say: Callable[[Leaving], None] | None = None,
        min_ttl: int = MIN_TTL,
    ) -> None:
        self._store = store
        self._say = say
        self._min_ttl = min_ttl

    async def get(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value, None when it is absent.

        `type` (also as the second argument): "text", "json", "arrayBuffer" (a memoryview), "bytes",
        "stream" (an async iterable of bytes, which can be the body of a Response; a value over 1 MiB
        is not held in memory). `cacheTtl` is checked and means nothing here. A list
        of 1 to 100 keys gives a dict of text or JSON. Raises TypeError for a bad key or type,
        KVError for a key of more than 512 bytes, json.JSONDecodeError for a value that is not JSON.
        """
        if type(key) is str and options is None and not more:
            text = self._store.text(key)  # the hot path: about 1 µs
            if text is not UNKNOWN:
                return text
        return self._get(key, options, more, with_metadata=False)

    async def get_with_metadata(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return `value`, `metadata` and `cacheStatus` of a key; options and errors as of `get`.

        A list of keys gives a dict, with None for those absent.
        """
        return self._get(key, options, more, with_metadata=True)

    async def put(
        self, key: Any, value: Any = MISSING, options: Any = None, /, **more: Any
    ) -> None:
        """Write a value of up to 25 MiB: str, bytes, or what gives them in pieces.

        That is a body, an (async) iterator, or an object with a `read`; over 1 MiB its pieces go to
        a file as they come, and an error in it leaves the key as it was. The value is durable when
        this returns. `expirationTtl` is in seconds, at least 60 unless configured
        otherwise; `expiration` in seconds since the epoch; `metadata` is any JSON of up to 1,024
        bytes. Raises TypeError for a bad key or value, KVError past a limit or when the disk fails.
        """
        store = self._store
        raw, metadata, expires = _checked(store, self._min_ttl, key, options, more)
        file = None
        if type(value) is not str:  # most are, and then nothing has to be asked
            if isinstance(value, BodyStream):
                value = value.take() or b""
            if is_async_stream(value):
                came = await arrive_async(value, store.new_file)
                value, file = came.in_memory(), came.file
        await self._send(raw, Entry(value_bytes(value), metadata, expires), file)

    async def delete(self, key: Any, /) -> None:
        """Remove a key, if it is there; durable when this returns. Errors as of `put`."""
        await self._send(key_bytes(key, "DELETE"), None)

    async def delete_bulk(self, keys: Any, /) -> None:
        """Remove 1 to 100 keys, where they are there; durable when this returns. Errors as of `put`.

        None is removed when one of them is refused.
        """
        await asyncio.gather(*[self._send(key, None) for key in bulk_keys(keys, "DELETE_BULK")])

    async def list(self, options: Any = None, /, **more: Any) -> Record:
        """Return a page of keys in UTF-8 byte order: `keys`, `list_complete`, `cursor`.

        Takes `prefix`, `limit` (at most 1,000, the default) and the `cursor` of the page before.
        Each key has `name`, and `expiration` and `metadata` if it was written with them. Raises
        KVError for a limit over 1,000.
        """
        return list_keys(self._store.scan, options, more)

    def watch(self, prefix: str = "") -> Watch:
        """Return the changes of keys that begin with `prefix`, by any process, from now on.

        `async for change in env.KV.watch("user:")`: each has `kind` ("put", "delete", "expired"),
        `key` and `expiration`, and who reads the key then finds that value or a later one. A reader
        who is 1,024 changes behind gets one of the kind "missed" instead of them. Raises KVError.
        """
        watch = Watch(prefix_bytes(prefix))
        self._store.watch(watch)
        return watch

    getWithMetadata = get_with_metadata
    deleteBulk = delete_bulk

    def _get(self, *request: Any, with_metadata: bool) -> Any:
        store = self._store
        return get(store.read, store.open, _stream, *request, with_metadata=with_metadata)

    def _send(
        self, key: bytes, entry: Entry | None, file: ValueFile | None = None
    ) -> asyncio.Future[None]:
        """Submit a write, as soon as the gate lets it out."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        write = Write(key, entry, file, future=future, loop=loop)
        if self._say is None:
            self._store.submit(write)
        else:
            self._say(Leaving(self._store, write))
        return future

    def __repr__(self) -> str:
        return f"<KVNamespace {self._store.directory.name}>"


class Leaving:
    """A write that waits behind the output gate of the object in whose name it is made."""

    __slots__ = ("_store", "_write")

    def __init__(self, store: Store, write: Write) -> None:
        self._store = store
        self._write = write

    def leave(self) -> None:
        """Put it in line: what was written before is durable."""
        if self._write.future.done():  # its caller was cancelled
            self._write.drop()
            return
        try:
            self._store.submit(self._write)
        except KVError as error:
            self._write.future.set_exception(error)

    def fail(self, error: BaseException) -> None:
        """Never make it: what was written before is lost."""
        self._write.drop()
        if not self._write.future.done():
            self._write.future.set_exception(error)


class SyncKVNamespace:
    """A KV namespace for code that blocks, on any thread. The API is `KVNamespace`'s."""

    def __init__(self, store: Store, *, min_ttl: int = MIN_TTL) -> None:
        self._store = store
        self._min_ttl = min_ttl

    def get(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value; see `KVNamespace.get`.

        A stream is a file-like object open for reading; iterating over it gives pieces, not lines.
        """
        if type(key) is str and options is None and not more:
            text = self._store.text(key)
            if text is not UNKNOWN:
                return text
        return self._get(key, options, more, with_metadata=False)

    def get_with_metadata(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value and metadata; see `KVNamespace.get_with_metadata`."""
        return self._get(key, options, more, with_metadata=True)

    def put(self, key: Any, value: Any = MISSING, options: Any = None, /, **more: Any) -> None:
        """Write a value and wait until it is durable; see `KVNamespace.put`."""
        store = self._store
        raw, metadata, expires = _checked(store, self._min_ttl, key, options, more)
        if is_stream(value):
            came = arrive(value, store.new_file)
            self._send(raw, Entry(came.in_memory(), metadata, expires), came.file)
        else:
            self._send(raw, Entry(value_bytes(value), metadata, expires))

    def delete(self, key: Any, /) -> None:
        """Remove a key and wait until that is durable; see `KVNamespace.delete`."""
        self._send(key_bytes(key, "DELETE"), None)

    def delete_bulk(self, keys: Any, /) -> None:
        """Remove many keys and wait until that is durable; see `KVNamespace.delete_bulk`."""
        writes = [(key, Future[None]()) for key in bulk_keys(keys, "DELETE_BULK")]
        self._store.submit(*(Write(key, None, future=future) for key, future in writes))
        for _, future in writes:
            future.result()

    def list(self, options: Any = None, /, **more: Any) -> Record:
        """Return a page of keys; see `KVNamespace.list`."""
        return list_keys(self._store.scan, options, more)

    def watch(self, prefix: str = "") -> SyncWatch:
        """Return the changes of keys from now on, to iterate over; see `KVNamespace.watch`."""
        watch = SyncWatch(prefix_bytes(prefix))
        self._store.watch(watch)
        return watch

    getWithMetadata = get_with_metadata
    deleteBulk = delete_bulk

    def _get(self, *request: Any, with_metadata: bool) -> Any:
        store = self._store
        return get(store.read, store.open, Reader, *request, with_metadata=with_metadata)

    def _send(self, key: bytes, entry: Entry | None, file: ValueFile | None = None) -> None:
        future: Future[None] = Future()
        self._store.submit(Write(key, entry, file, future=future))
        future.result()

    def __repr__(self) -> str:
        return f"<SyncKVNamespace {self._store.directory.name}>"


def _checked(
    store: Store, min_ttl: int, key: Any, options: Any, keywords: Mapping[str, Any]
) -> tuple[bytes, str | None, float | None]:
    raw = key_bytes(key, "PUT")
    if options is None and not keywords:
        return raw, None, None
    given = read_options(options, keywords)
    expires = expiry(given, store.clock(), min_ttl) if given else None
    return raw, metadata_text(given), expires


def _stream(found: Entry | Large) -> BodyStream:
    return stream_of(found.value if isinstance(found, Entry) else _Pieces(found.file))


class _Pieces:
    """A value's file, piece by piece. No generator, which would close it some time after its end."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece = b"" if self._file.closed else self._file.read(CHUNK_BYTES)
        if not piece:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()


class Reader(io.BufferedReader):
    """A value as a file open for reading, whose iteration gives pieces instead of lines."""

    def __init__(self, found: Entry | Large) -> None:
        raw: Any = io.BytesIO(found.value) if isinstance(found, Entry) else found.file
        super().__init__(raw, CHUNK_BYTES)

    def __next__(self) -> bytes:
        piece = self.read(CHUNK_BYTES)
        if not piece:
            raise StopIteration
        return piece
