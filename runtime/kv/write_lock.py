"""The write lock of a namespace: one writer at a time among all processes and threads.

It is a kernel lock (flock) on a file, so it dies with its holder, whatever kills it. Each taking
opens the file anew: a lock belongs to an open file, and two threads that shared one would both have
it. A process forked while the lock is held closes its copy of the file at once, because a copy would
keep the lock alive after the holder's death.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from typing import TYPE_CHECKING

from runtime.kv.forks import close_in_children, closed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def write_lock(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Hold the lock that the file at `path` stands for; waits for it as long as it takes.

    Not if it shall not `wait`: raises BlockingIOError then. A `shared` lock keeps out only who wants it
    for himself.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    close_in_children(descriptor)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        yield
    finally:
        closed(descriptor)
        os.close(descriptor)


_flock = ctypes.PyDLL(None).flock
"""As `fcntl.flock`, without handing over the interpreter's lock: for what never waits."""


class KeptLock:
    """The same lock, for one thread that takes it often: its file stays open.

    To take it while it is free and to free it are 1 µs each. To open, lock and close a file hands
    over the interpreter's lock three times, and a busy event loop does not give it back soon.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Wait for the lock, as long as it takes. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            close_in_children(self._descriptor)
        if _flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def free(self) -> None:
        """Let others have it."""
        _flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. Not while the lock is held."""
        if self._descriptor >= 0:
            closed(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
