"""The two faces of a KV namespace: `KVNamespace` for asyncio, `SyncKVNamespace` for code that blocks.

Both are thin: validation, answers and the store are shared. A read runs at once on the calling
thread, without a Task. A write made in an object's name waits behind its output gate and is then
handed to the writer thread; the writes of one namespace object leave in the order of the calls.
Semantics: Cloudflare's Workers KV, except that one machine needs no patience: a read always sees the
last write that was answered, by whichever process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runtime.kv.answers import CHUNK_BYTES, get, list_keys
from runtime.kv.commit import Write
from runtime.kv.tiers import Entry
from runtime.kv.validation import (
    MIN_TTL,
    MISSING,
    Pieces,
    bulk_keys,
    expiry,
    key_bytes,
    metadata_text,
    read_options,
    value_bytes,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from runtime.kv.record import Record
    from runtime.kv.store import Store


class KVNamespace:
    """A KV namespace for asyncio; what `env` binds in a worker script."""

    def __init__(
        self,
        store: Store,
        *,
        confirm: Callable[[], Awaitable[None] | None] | None = None,
        min_ttl: int = MIN_TTL,
    ) -> None:
        self._store = store
        self._confirm = confirm
        self._min_ttl = min_ttl
        self._held: deque[tuple[asyncio.Future[None] | None, Write]] = deque()

    async def get(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value, None when it is absent.

        `type` (also as the second argument): "text", "json", "arrayBuffer" (a memoryview), "bytes",
        "stream" (an async iterator of bytes). `cacheTtl` is checked and means nothing here. A list
        of 1 to 100 keys gives a dict of text or JSON. Raises TypeError for a bad key or type,
        KVError for a key of more than 512 bytes, json.JSONDecodeError for a value that is not JSON.
        """
        if type(key) is str and options is None and not more:
            text = self._store.text(key)  # the hot path: about 1 µs
            if text is not None:
                return text
        return get(self._store.read, _stream, key, options, more, with_metadata=False)

    async def get_with_metadata(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return `value`, `metadata` and `cacheStatus` of a key; options and errors as of `get`.

        A list of keys gives a dict, with None for those absent.
        """
        return get(self._store.read, _stream, key, options, more, with_metadata=True)

    async def put(
        self, key: Any, value: Any = MISSING, options: Any = None, /, **more: Any
    ) -> None:
        """Write a value: str, bytes, or an (async) iterator of bytes, up to 25 MiB.

        It is durable when this returns. `expirationTtl` is in seconds, at least 60 unless configured
        otherwise; `expiration` in seconds since the epoch; `metadata` is any JSON of up to 1,024
        bytes. Raises TypeError for a bad key or value, KVError past a limit or when the disk fails.
        """
        if hasattr(type(value), "__aiter__"):
            _checked(self._store, self._min_ttl, key, options, more)  # before the stream is used
            value = await _collected(value)
        raw, entry = _put_plan(self._store, self._min_ttl, key, value, options, more)
        await self._send(raw, entry)

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

    getWithMetadata = get_with_metadata
    deleteBulk = delete_bulk

    def _send(self, key: bytes, entry: Entry | None) -> asyncio.Future[None]:
        """Submit a write once the gate lets it out; never before one that was sent earlier."""
        loop = asyncio.get_running_loop()
        write = Write(key, entry, loop.create_future(), loop)
        gate = self._confirm() if self._confirm is not None else None
        if gate is None and not self._held:
            self._store.submit(write)
        else:
            opened = None if gate is None else asyncio.ensure_future(gate, loop=loop)
            self._held.append((opened, write))
            if opened is not None:
                opened.add_done_callback(self._release)
        assert isinstance(write.future, asyncio.Future)
        return write.future

    def _release(self, _gate: asyncio.Future[None]) -> None:
        held = self._held
        while held and (held[0][0] is None or held[0][0].done()):
            gate, write = held.popleft()
            if write.future.done():  # its caller was cancelled
                continue
            try:
                if gate is not None:
                    gate.result()
                self._store.submit(write)
            except asyncio.CancelledError:
                write.future.cancel()
            except BaseException as error:
                write.future.set_exception(error)

    def __repr__(self) -> str:
        return f"<KVNamespace {self._store.directory.name}>"


class SyncKVNamespace:
    """A KV namespace for code that blocks, on any thread. The API is `KVNamespace`'s."""

    def __init__(self, store: Store, *, min_ttl: int = MIN_TTL) -> None:
        self._store = store
        self._min_ttl = min_ttl

    def get(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value; see `KVNamespace.get`. A stream is an iterator of bytes."""
        if type(key) is str and options is None and not more:
            text = self._store.text(key)
            if text is not None:
                return text
        return get(self._store.read, _chunks, key, options, more, with_metadata=False)

    def get_with_metadata(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return a key's value and metadata; see `KVNamespace.get_with_metadata`."""
        return get(self._store.read, _chunks, key, options, more, with_metadata=True)

    def put(self, key: Any, value: Any = MISSING, options: Any = None, /, **more: Any) -> None:
        """Write a value and wait until it is durable; see `KVNamespace.put`."""
        self._send(*_put_plan(self._store, self._min_ttl, key, value, options, more))

    def delete(self, key: Any, /) -> None:
        """Remove a key and wait until that is durable; see `KVNamespace.delete`."""
        self._send(key_bytes(key, "DELETE"), None)

    def delete_bulk(self, keys: Any, /) -> None:
        """Remove many keys and wait until that is durable; see `KVNamespace.delete_bulk`."""
        writes = [(key, Future[None]()) for key in bulk_keys(keys, "DELETE_BULK")]
        self._store.submit(*(Write(key, None, future) for key, future in writes))
        for _, future in writes:
            future.result()

    def list(self, options: Any = None, /, **more: Any) -> Record:
        """Return a page of keys; see `KVNamespace.list`."""
        return list_keys(self._store.scan, options, more)

    getWithMetadata = get_with_metadata
    deleteBulk = delete_bulk

    def _send(self, key: bytes, entry: Entry | None) -> None:
        future: Future[None] = Future()
        self._store.submit(Write(key, entry, future))
        future.result()

    def __repr__(self) -> str:
        return f"<SyncKVNamespace {self._store.directory.name}>"


def _put_plan(
    store: Store, min_ttl: int, key: Any, value: Any, options: Any, keywords: Mapping[str, Any]
) -> tuple[bytes, Entry]:
    raw, metadata, expires = _checked(store, min_ttl, key, options, keywords)
    return raw, Entry(value_bytes(value), metadata, expires)


def _checked(
    store: Store, min_ttl: int, key: Any, options: Any, keywords: Mapping[str, Any]
) -> tuple[bytes, str | None, float | None]:
    raw = key_bytes(key, "PUT")
    given = read_options(options, keywords)
    expires = expiry(given, store.clock(), min_ttl) if given else None
    return raw, metadata_text(given), expires


async def _collected(stream: AsyncIterable[object]) -> bytes:
    pieces = Pieces()
    async for piece in stream:
        pieces.add(piece)
    return pieces.joined()


def _chunks(value: bytes) -> Iterator[bytes]:
    for at in range(0, len(value), CHUNK_BYTES):
        yield value[at : at + CHUNK_BYTES]


async def _stream(value: bytes) -> AsyncIterator[bytes]:
    for chunk in _chunks(value):
        yield chunk
