"""What a KV value is, and what is asked of the two places that keep it.

The durable tier is the truth: it is read by everybody and written under the namespace's write lock.
A read tier is a cache in front of it that all processes share; it is optional, and a value found in
it is never older than the last commit to its key. Both are protocols, so that either can be replaced
without touching the other, the writer thread, or the faces that users see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from runtime.kv.value_file import StoredFile, ValueFile

T = TypeVar("T")


HELD_BYTES = 1024 * 1024
"""Values larger than this are not held in memory when they are written or read as streams."""


@dataclass(slots=True)  # not frozen: that takes 0.5 µs of each put
class Entry:
    """A value with what belongs to it."""

    value: bytes
    metadata: str | None
    """JSON text."""
    expires: float | None
    """Seconds since the epoch; from that moment on the key is absent."""


@dataclass(frozen=True, slots=True)
class Large:
    """An entry whose value is a file, open for reading: it is not held in memory."""

    file: StoredFile
    metadata: str | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class Listed:
    """What a listing tells of a key."""

    key: bytes
    metadata: str | None
    expires: float | None


@dataclass(slots=True, eq=False)
class Staged:
    """A write; once `stage` is through with it, all is done that can be done outside of the lock."""

    key: bytes
    entry: Entry | None
    """None deletes the key."""
    file: ValueFile | None = None
    """The file that holds the value already, when the value is too large for the database.

    The entry's value is empty then if it came as a stream."""


class DurableTier(Protocol):
    """Keeps a namespace on disk. Errors of the disk come out as `sqlite3.Error` or `OSError`."""

    def read(self, key: bytes) -> Entry | None:
        """Return the last committed entry of a key, expired or not. Any thread."""

    def open(self, key: bytes) -> Entry | Large | None:
        """As `read`, but a value larger than `HELD_BYTES` comes as a file. Any thread."""

    def scan(self, lower: bytes, upper: bytes, limit: int, now: float) -> list[Listed]:
        """Return the first keys of `lower <= key < upper` not expired, in byte order. Any thread."""

    def new_file(self) -> ValueFile:
        """Begin the file of a value that arrives as a stream. Any thread."""

    def stage(self, write: Staged) -> None:
        """Do a write's work that needs no lock. Nobody sees anything of it yet.

        It has a file already if its value came as a stream; that is gone when this raises.
        """

    def unstage(self, staged: Staged) -> None:
        """Undo the work of a write that will not be committed."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep all other writers of all processes out. The lock dies with its holder."""

    def commit(self, writes: Collection[Staged], now: float) -> list[bytes]:
        """Make writes to different keys durable, all or none. Under the lock, one thread.

        Returns the keys that were removed on the way, because they had expired.
        """

    def first_expiry(self) -> float | None:
        """Return when the first of all entries expires, or has. Any thread."""

    def expire(self, now: float) -> list[bytes]:
        """Remove a bounded number of expired entries; returns their keys. As `commit`."""

    def tidy(self) -> bool:
        """Remove a bounded piece of what crashes left; whether there is more. As `commit`."""

    def close_writer(self) -> None:
        """Close what `commit` opened. On the thread that committed."""

    def close(self) -> None:
        """Close what reading opened."""


class ReadTier(Protocol):
    """A shared cache in front of the durable tier. Nothing here may raise: it is only a cache."""

    def read(self, key: bytes, load: Callable[[bytes], Entry | T | None]) -> Entry | T | None:
        """Return a key's entry, expired or not; `load` reads the durable tier.

        What is loaded is kept only if it is an Entry.
        """

    def hold(self, keys: Collection[bytes]) -> None:
        """Let nobody find these keys here from now on. Under the lock, before the commit."""

    def settle(self, writes: Collection[Staged]) -> None:
        """Take the committed values. Under the lock; not called when the commit failed."""
