"""Values too large for the database: a file each, written before the row that names it.

A file is on disk, down to its directory entry, before its row is committed. Until then its writer
holds a kernel lock on it, which dies with the writer: a file that no row names and that nobody has
locked is what a crash left behind, and `remove_orphan` takes it away at any time, with no clock and
without keeping writers out. Looking at the rows after the lock was taken is what makes that safe: a
writer lets go of its file only when the row is committed.

Who must tell a crash's files from those of writers that are alive holds the write lock, under which
replaced files are removed, and `no_new_files`, under which none exists that is not locked yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import secrets
from typing import TYPE_CHECKING

from runtime.directories import sync_directory
from runtime.kv.forks import close_in_children, closed
from runtime.kv.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from _typeshed import ReadableBuffer, WriteableBuffer

FOLDER = "values"

NAME = re.compile(r"values/[0-9a-f]{32}\.val")

_MAKING = "making.lock"


class ValueFile:
    """A new value's file while it is written; `name` is within the namespace's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.size = 0
        with write_lock(directory / _MAKING, shared=True):
            while not self._made():
                pass

    def _made(self) -> bool:
        self.name = f"{FOLDER}/{secrets.token_hex(16)}.val"
        self._descriptor = os.open(
            self._directory / self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        if os.fstat(self._descriptor).st_nlink:
            close_in_children(self._descriptor)
            return True
        os.close(self._descriptor)  # taken for an orphan before it was locked
        return False

    def write(self, piece: ReadableBuffer) -> None:
        """Append to the value. Raises OSError."""
        rest = memoryview(piece).cast("B")
        self.size += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Make the whole file durable, with its entry in the directory. Raises OSError."""
        os.fsync(self._descriptor)
        sync_directory(self._directory / FOLDER)

    def keep(self) -> None:
        """Let go of the file, which a committed row names now."""
        closed(self._descriptor)
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the file, which no row will name."""
        remove(self._directory, self.name)
        closed(self._descriptor)
        os.close(self._descriptor)


class StoredFile(io.RawIOBase):
    """A committed value's file, open for reading. It stays whole when its key is written again."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises FileNotFoundError when it is gone."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read the next bytes. Raises OSError."""
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        """Close it; whoever lets go of it without that has it closed, too."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def no_new_files(directory: Path) -> AbstractContextManager[None]:
    """Wait until every new file is locked by its writer, and let none be made meanwhile."""
    return write_lock(directory / _MAKING)


def remove(directory: Path, name: str) -> None:
    """Remove a value's file if that is possible."""
    with contextlib.suppress(OSError):
        (directory / name).unlink()


def remove_orphan(
    directory: Path, name: str, is_named: Callable[[str], bool], *, keep: bool = False
) -> bool:
    """Remove a file that no row names and nobody is writing, or `keep` it; whether it was one."""
    if is_named(name):
        return False
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_named(name):
            return False
        if not keep:
            (directory / name).unlink()
        return True
    except OSError:  # being written, or gone meanwhile
        return False
    finally:
        os.close(descriptor)
