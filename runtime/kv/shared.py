"""The cache of an instance in shared memory: an LMDB environment that each process opens once.

It lies in a directory of the instance's own in /dev/shm, which is there as long as the instance is.
Nothing in it is synced, and nothing in it outlives the instance. LMDB allows a process one opening of
an environment, and none across a fork: `open_shared` hands out the process's own.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import lmdb

from runtime.kv.coherence import Tables
from runtime.kv.forks import lock_for_forks
from runtime.kv.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 2
"""Part of the file's name: what another version made is not opened."""

READERS = 2000
"""Reading transactions at one moment, in all processes."""

SMALLEST = 1024 * 1024
"""Bytes; a cache of less is none."""

_READERS_FILE_BYTES = 64 * (READERS + 8)

_ID = b"id"

_opened: WeakValueDictionary[tuple[int, int], Shared] = WeakValueDictionary()
_opening = lock_for_forks()
_inherited: set[tuple[int, int]] = set()
_parents: list[object] = []  # what a parent had open, kept so that nothing closes it


class Shared:
    """The cache as this process has it open; see the module's text."""

    tables: Tables

    id: int
    """Names this cache among all that ever were."""

    largest: int
    """Bytes of the largest record that is worth its room."""

    def __init__(self, path: Path, size: int) -> None:
        self.environment: Any = lmdb.open(
            os.fspath(path),
            map_size=0 if path.stat().st_size else size,  # as it was made
            subdir=False,
            mode=0o600,
            sync=False,
            metasync=False,
            readahead=False,
            max_readers=READERS,
            max_dbs=8,
            max_spare_txns=1,
        )
        self.environment.reader_check()  # frees what killed processes were reading
        self._writing = lock_for_forks()
        names = (b"meta", b"0", b"1", b"journals")
        meta, young, old, journals = map(self.environment.open_db, names)
        # Two generations, and a quarter for what is dropped but still read, and LMDB's own pages.
        room = self.environment.info()["map_size"] * 3 // 8
        self.tables = Tables(meta, (young, old), journals, room)
        self.largest = min(room // 8, 1024 * 1024)
        with self.environment.begin(write=True) as txn:
            txn.put(_ID, secrets.token_bytes(8), db=meta, overwrite=False)
            self.id = int.from_bytes(txn.get(_ID, b"", db=meta), "little")

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Have the one writing transaction; commits at the end. Raises lmdb.Error."""
        with self._writing, self.environment.begin(write=True) as txn:
            yield txn

    @contextmanager
    def write_soon(self) -> Iterator[Any]:
        """As `write`, with None instead of the transaction if another thread has it."""
        if not self._writing.acquire(blocking=False):
            yield None
            return
        try:
            with self.environment.begin(write=True) as txn:
                yield txn
        finally:
            self._writing.release()

    def rotations(self) -> int:
        """Return how many generations were dropped so far."""
        with self.environment.begin() as txn:
            return self.tables.rotations(txn)


def open_shared(directory: Path, size: int) -> Shared | None:
    """Open the cache in a directory, or None when there is no such directory.

    Creates it with `size` bytes if nobody has yet. Raises OSError or lmdb.Error when it cannot be
    used: others could write to it, shared memory is full, another version made it.
    """
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{directory} is not this user's alone")
    path = directory / f"kv-{FORMAT}"
    with _opening, write_lock(directory / "kv.lock"):
        if not path.exists():
            _make_lock_file(directory / f"kv-{FORMAT}-lock")
            path.touch(0o600)
        status = path.stat()
        key = status.st_dev, status.st_ino
        if key in _inherited:
            raise lmdb.Error("this process was forked from one that has it open; LMDB forbids both")
        shared = _opened.get(key)
        if shared is None:
            shared = _opened[key] = Shared(path, max(size, SMALLEST))
        return shared


def _make_lock_file(path: Path) -> None:
    """Give LMDB's table of readers its memory, which LMDB itself would take at the first use.

    On a full /dev/shm this is an error, that would be a signal.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _READERS_FILE_BYTES)
    finally:
        os.close(descriptor)


def _after_fork() -> None:
    _inherited.update(_opened)
    _parents.extend(_opened.values())
    _opened.clear()


os.register_at_fork(after_in_child=_after_fork)
