"""A KV namespace as one process has it open: the place where reads and writes find their tiers.

Reads run on the thread that asks, first in the shared cache if there is one, then on disk. Writes go to
the namespace's writer thread. Any number of processes may have a namespace open, and any number of
threads may use a store. A store survives a fork: the child opens everything anew at its first use,
and never touches, not even to close, what its parent had open.
"""

from __future__ import annotations

import os
import sqlite3
import time
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from runtime.kv.changes import Publisher
from runtime.kv.commit import Committer, Write
from runtime.kv.durable import DiskTier
from runtime.kv.shared_tier import SharedTier, Statistics
from runtime.kv.tiers import Entry, Large
from runtime.kv.trust import Trust
from runtime.kv.watch import Watching
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.kv.shared_tier import FindCache
    from runtime.kv.tiers import DurableTier, Listed
    from runtime.kv.value_file import ValueFile
    from runtime.kv.watch import SyncWatch, Watch

T = TypeVar("T", Entry, Large)

CACHE_BYTES = 256 * 1024 * 1024
"""What the shared cache of an instance takes at most, unless configured otherwise."""

_stores: WeakSet[Store] = WeakSet()
_parents: list[object] = []  # what a parent had open, kept so that nothing closes it


class Store:
    """An open KV namespace; see the module's text. `open_store` makes one."""

    directory: Path
    """Where the namespace is kept; its own directory, 0700."""

    clock: Callable[[], float]
    """The time in seconds since the epoch, by which keys expire."""

    text: Callable[[str], Any]
    """Returns a key's value as text, None when it is absent, where the shared cache says it at once.

    `UNKNOWN` says nothing.
    """

    submit: Callable[..., None]
    """Puts writes in line; their futures are answered when they are durable, or failed.

    Raises KVError when the store is closed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float],
        cache: FindCache | None,
        cache_bytes: int,
        first_to_say: Callable[[], bool] | None,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._first_to_say = first_to_say
        self._trust = Trust(directory)
        self._tier: SharedTier
        self._durable: DurableTier
        self._committer: Committer
        self._begin()
        _stores.add(self)

    def _begin(self) -> None:
        # Also in a forked child, where nothing may fail: so nothing is opened here.
        self._durable = DiskTier(self.directory, self.clock)
        self._tier = SharedTier(
            self.directory, self._trust, self._cache, self._cache_bytes, self._first_to_say
        )
        self.text = self._tier.text
        words = self._trust.words
        self._committer = Committer(
            self._durable,
            self.clock,
            self._tier,
            Publisher(self.directory, words),
            self.directory.name,
        )
        self.submit = self._committer.submit
        self._watching = Watching(self.directory, words, self.clock, self.first_expiry, self.tidy)

    def read(self, key: bytes) -> Entry | None:
        """Return a key's entry, None when it is absent or expired.

        Raises KVError when the disk cannot be read, or holds what Roost did not write.
        """
        return self._read(key, self._durable.read)

    def open(self, key: bytes) -> Entry | Large | None:
        """As `read`, but a value too large to be held in memory comes as a file open for reading."""
        return self._read(key, self._durable.open)

    def _read(self, key: bytes, load: Callable[[bytes], Entry | T | None]) -> Entry | T | None:
        try:
            entry = self._tier.read(key, load)
        except (sqlite3.Error, OSError) as cause:
            raise KVError(f"KV GET failed: {cause}") from cause
        if entry is None or (entry.expires is not None and entry.expires <= self.clock()):
            return None
        return entry

    def scan(self, lower: bytes, upper: bytes, limit: int) -> list[Listed]:
        """Return the first `limit` present keys of `lower <= key < upper`, in byte order.

        Raises KVError as `read` does.
        """
        try:
            return self._durable.scan(lower, upper, limit, self.clock())
        except (sqlite3.Error, OSError) as cause:
            raise KVError(f"KV GET failed: {cause}") from cause

    def statistics(self) -> Statistics:
        """Return what the shared cache did for this process."""
        return self._tier.statistics()

    def new_file(self) -> ValueFile:
        """Begin the file of a value that arrives as a stream. Raises OSError."""
        return self._durable.new_file()

    def drain(self) -> None:
        """Block until every write submitted so far is answered."""
        self._committer.drain()

    def tidy(self) -> None:
        """Block until nothing expired is left on disk, and nothing that a crash left behind.

        Happens by itself while a process that writes has nothing to write. Raises KVError.
        """
        try:
            self._committer.tidy()
        except (sqlite3.Error, OSError) as cause:
            raise KVError(f"the KV namespace {self.directory} cannot be tidied: {cause}") from cause

    def first_expiry(self) -> float | None:
        """Return when the first of all entries expires, or has. Raises KVError as `read` does."""
        try:
            return self._durable.first_expiry()
        except (sqlite3.Error, OSError) as cause:
            raise KVError(f"KV GET failed: {cause}") from cause

    def watch(self, watch: Watch | SyncWatch) -> None:
        """Begin a watch. Raises KVError."""
        try:
            self._watching.add(watch)
        except OSError as cause:
            raise KVError(
                f"the KV namespace {self.directory} cannot be watched: {cause}"
            ) from cause

    def end_watches(self) -> None:
        """End all watches of this process, and those that begin from now on."""
        self._watching.end()

    def remove(self, key: bytes) -> None:
        """Remove a key and wait until that is durable. Raises KVError."""
        future: Future[None] = Future()
        self.submit(Write(key, None, future=future))
        future.result()

    def disagreeing(self) -> list[bytes]:
        """Return the keys of which the shared cache has not what the disk has: none, ever.

        Raises KVError as `read` does.
        """
        try:
            return self._tier.disagreeing(self._durable.read)
        except (sqlite3.Error, OSError) as cause:
            raise KVError(f"KV GET failed: {cause}") from cause

    def distrust(self) -> None:
        """Have all processes forget what the shared cache has of this namespace."""
        self._tier.distrust()

    def close(self) -> None:
        """Finish all writes and close the namespace. Reading afterwards opens it again."""
        self._watching.close()
        self._committer.close()
        self._durable.close()

    def __repr__(self) -> str:
        return f"<KV store {self.directory}>"


def open_store(
    directory: Path,
    *,
    clock: Callable[[], float] = time.time,
    cache: FindCache | None = None,
    cache_bytes: int = CACHE_BYTES,
    first_to_say: Callable[[], bool] | None = None,
) -> Store:
    """Open the KV namespace that is kept in `directory`; creates it when there is none.

    `cache` says which directory in shared memory the instance of now has, if one runs; whoever looks
    there first makes the cache, of `cache_bytes` for all its namespaces. `first_to_say` is asked before
    a warning that the cache is of no use: one process in all says so. Raises KVError when the namespace cannot
    be opened, or a newer Roost made it.
    """
    try:
        with closing(DiskTier(directory, clock)) as tier:
            tier.ensure()
        return Store(
            directory,
            clock=clock,
            cache=cache,
            cache_bytes=cache_bytes,
            first_to_say=first_to_say,
        )
    except (sqlite3.Error, OSError) as cause:
        raise KVError(f"the KV namespace {directory} cannot be opened: {cause}") from cause


def _after_fork() -> None:
    for store in list(_stores):
        _parents.append((store._durable, store._committer, store._watching))  # noqa: SLF001  (ours)
        store._begin()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
