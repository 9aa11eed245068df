"""`ctx.storage` of one object: what a script reads and writes, over a write set and a slot file.

Writes go to memory and commit together, at the end of the object's turn; reads see them at once.
What memory does not know is read from the file. So no method ever waits, except `sync()`: a
coroutine that only uses storage runs to its end in one step.

The engine's side: `on_write()` is called before the first write of each change, `take_changes()`
hands a change over for commit, `committed()` or `failed()` tells how it ended. Owned by the
activation; semantics are Cloudflare's, https://developers.cloudflare.com/durable-objects/api/
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from runtime.storage.arguments import (
    KEY_BYTES,
    NOTHING,
    entries_to_put,
    key_range,
    key_text,
    keys_of,
    read_options,
)
from runtime.storage.values import hold, reveal, unpack
from runtime.storage.write_set import ABSENT, RECORDS, UNKNOWN, WriteSet, merge
from workers.errors import ObjectReset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from runtime.config import Limits
    from runtime.ids import ObjectId
    from runtime.storage.arguments import KeyRange
    from runtime.storage.slot_file import SlotFile
    from runtime.storage.write_set import Change

__all__ = ["ObjectStorage"]


class ObjectStorage:
    """See the module's text."""

    __slots__ = (
        "_confirm",
        "_failed",
        "_id",
        "_known",
        "_on_write",
        "_pending",
        "_value_bytes",
        "_writes",
        "file",
    )

    file: SlotFile
    """Where the object's entries are."""

    def __init__(
        self,
        file: SlotFile,
        object_id: ObjectId,
        class_name: str,
        on_write: Callable[[], None],
        confirm: Callable[[], Awaitable[None] | None],
        limits: Limits,
    ) -> None:
        self.file = file
        self._id = object_id
        self._on_write = on_write
        self._confirm = confirm
        self._value_bytes = limits.value_bytes
        self._writes = WriteSet(object_id, class_name)
        self._known = self._writes.known  # the hot paths' shortcuts; both dicts stay the same ones
        self._pending = self._writes.pending
        self._failed = False

    # --- for scripts -----------------------------------------------------------------------------

    async def get(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Return the value of a key, or None; of several keys, a dict of those found, in key order.

        Mutable values are copies of what was put. Raises StorageError when the file cannot be read
        or the value's class is gone.
        """
        if options is not None or more:
            read_options("get", options, more)
        if type(key) is not str:
            keys = keys_of(key)
            if keys is not None:
                values = ((name, self._get(name)) for name in keys)
                return {name: value for name, value in values if value is not ABSENT}
        elif (held := self._known.get(key, UNKNOWN)) is not UNKNOWN:
            # What memory knows needs no check of the key.
            return None if held is ABSENT else reveal(key, held)
        value = self._get(key_text(key))
        return None if value is ABSENT else value

    async def put(
        self, key: Any, value: Any = NOTHING, options: Any = None, /, **more: Any
    ) -> None:
        """Write one value, `put(key, value)`, or every one of a dict, `put(entries)`; all or none.

        None is a value like any other. Raises TypeError when a value cannot be pickled, ValueError
        when a key (2,048 bytes of UTF-8) or a value is too large.
        """
        limit = self._value_bytes
        if (
            type(key) is str
            and value is not NOTHING
            and options is None
            and not more
            and key.isascii()
            and len(key) <= KEY_BYTES
        ):
            # Nearly every put is this one, and takes half the time of the general way below.
            held = hold(key, value, limit)
            if not self._pending:
                self._begin()
            self._known[key] = self._pending[key] = held
            return
        entries = entries_to_put(key, value, options, more)
        checked = [(name, hold(name, its, limit)) for name, its in entries]
        if checked:
            self._begin()
        for name, held in checked:
            self._writes.put(name, held)

    async def delete(self, key: Any, options: Any = None, /, **more: Any) -> Any:
        """Delete a key and return whether it was there; of several, return how many were."""
        if options is not None or more:
            read_options("delete", options, more)
        keys = keys_of(key)
        names = (key_text(key),) if keys is None else keys
        found = [name for name in names if self._contains(name)]
        if found:
            self._begin()
            for name in found:
                self._writes.put(name, ABSENT)
        return bool(found) if keys is None else len(found)

    async def list(self, options: Any = None, /, **more: Any) -> dict[str, Any]:
        """Return keys and values in key order (of UTF-8 bytes), all or a range.

        Options: `start` (inclusive) or `startAfter`, `end` (exclusive), `prefix`, `reverse`,
        `limit`. Raises TypeError for a limit below 1, and for `start` with `startAfter`.
        """
        self._check()
        wanted = key_range(read_options("list", options, more))
        overlay = self._writes.overlay(wanted)
        limit = None if overlay else wanted.limit  # the overlay may hide rows
        result = {}
        with closing(self._rows(wanted, limit)) as rows:
            for raw, held in islice(merge(rows, overlay, reverse=wanted.reverse), wanted.limit):
                key = raw.decode()
                result[key] = reveal(key, held)
        return result

    async def delete_all(self, options: Any = None, /, **more: Any) -> None:
        """Delete everything that the object keeps."""
        if options is not None or more:
            read_options("delete_all", options, more)
        self._begin()
        self._writes.wipe()

    async def sync(self) -> None:
        """Wait until everything written so far is durable. Raises what its commit failed with."""
        self._check()
        waiting = self._confirm()
        if waiting is not None:
            await waiting

    deleteAll = delete_all

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"ctx.storage.{name} does not exist in this version of Roost: storage has get, put, "
            "delete, list, deleteAll and sync"
        )

    # --- for the engine --------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether the object was reset: what it had not committed is void, and this has no use."""
        return self._failed

    @property
    def is_dirty(self) -> bool:
        """Whether something was written that no change has taken."""
        return self._writes.dirty

    @property
    def changes_taken(self) -> int:
        """How many changes were taken. If neither this nor `is_dirty` changes, nothing was written."""
        return self._writes.sequence

    def records(self) -> Sequence[tuple[bytes, bytes]]:
        """Return the engine's records of this object in the file: (key, value), in order of keys.

        Those that were written and not yet committed are not among them.
        """
        self._check()
        return [*self.file.scan(self._id.raw, RECORDS, RECORDS + b"\xff")]

    def record(self, key: bytes, value: Callable[[], bytes] | None) -> None:
        """Write a record with this turn's writes, or delete it; `key` begins with RECORDS.

        `value` is called when the change is taken, so that a record that grows is made once.
        """
        self._begin()
        self._writes.records[key] = value

    def take_changes(self) -> Change | None:
        """Hand over what was written since the last call, for commit; None if there is nothing.

        Reads see it as before. Changes must be committed to the file in the order they were taken.
        """
        return self._writes.take()

    def committed(self, change: Change) -> None:
        """Take note that a change is in the file and durable."""
        self._writes.committed(change)

    def failed(self) -> None:
        """Drop what is not committed and refuse all use from now on: the object was reset."""
        self._failed = True
        self._writes.drop()

    # ---------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failed:
            raise ObjectReset(
                "this instance of the object was reset and can no longer use its storage",
                durable_object_id=str(self._id),
            )

    def _begin(self) -> None:
        """Tell the engine of the first write since a change was taken."""
        self._check()
        if not self._writes.dirty:
            self._on_write()

    def _get(self, key: str) -> Any:
        """Return a value, from memory or from the file, or ABSENT."""
        held = self._writes.find(key)
        if held is not UNKNOWN:
            return reveal(key, held)
        self._check()
        data = self.file.read(self._id.raw, key.encode())
        if data is None:
            value = held = ABSENT
        else:
            value, held = unpack(key, data)
        self._writes.learn(key, held)
        return value

    def _rows(
        self, wanted: KeyRange, limit: int | None
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield what the file has in a range, unless all of it is void."""
        if not self._writes.hollow:
            yield from self.file.scan(self._id.raw, wanted.start, wanted.end, wanted.reverse, limit)

    def _contains(self, key: str) -> bool:
        held = self._writes.find(key)
        if held is UNKNOWN:
            self._check()
            return self.file.contains(self._id.raw, key.encode())
        return held is not ABSENT
