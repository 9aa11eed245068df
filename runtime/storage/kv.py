"""`ctx.storage.kv`: an object's entries without await, for classes of `new_sqlite_classes`.

The same keys and values as those of `ctx.storage.get` and `put`, one at a time. Semantics are
Cloudflare's, https://developers.cloudflare.com/durable-objects/api/sqlite-storage-api/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.storage.arguments import key_range, key_text, read_options
from runtime.storage.values import hold
from runtime.storage.write_set import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.storage.object_storage import ObjectStorage

__all__ = ["SyncKV"]


class SyncKV:
    """See the module's text."""

    __slots__ = ("_listing", "_store", "_value_bytes")

    def __init__(self, store: ObjectStorage, value_bytes: int) -> None:
        self._store = store
        self._value_bytes = value_bytes
        self._listing = 0

    def get(self, key: Any, /) -> Any:
        """Return the value of a key, or None."""
        self._store.refuse_outside()
        value = self._store.read(key_text(key))
        return None if value is ABSENT else value

    def put(self, key: Any, value: Any, /) -> None:
        """Write a value. Raises as `ctx.storage.put` does."""
        self._store.refuse_outside()
        name = key_text(key)
        self._store.write(name, hold(name, value, self._value_bytes))

    def delete(self, key: Any, /) -> bool:
        """Delete a key and return whether it was there."""
        self._store.refuse_outside()
        return self._store.remove((key_text(key),)) > 0

    def list(self, options: Any = None, /, **more: Any) -> Iterator[tuple[str, Any]]:
        """Yield keys and values in key order, with the options of `ctx.storage.list`.

        One listing at a time: a new one ends the one before, whose next step raises RuntimeError.
        """
        self._store.refuse_outside()
        wanted = key_range(read_options("list", options, more))
        self._listing += 1
        return self._list(self._listing, self._store.pages(wanted))

    def _list(self, number: int, entries: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for entry in entries:
            yield entry
            if number != self._listing:
                raise RuntimeError(
                    "kv.list() iterator was invalidated because a new call to kv.list() was "
                    "started. Only one kv.list() iterator can exist at a time."
                )
