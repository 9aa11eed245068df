"""The write lock of a namespace: one writer at a time among all processes and threads.

It is a kernel lock (flock) on a file, so it dies with its holder, whatever kills it. Each taking
opens the file anew: a lock belongs to an open file, and two threads that shared one would both have
it. A process forked while the lock is held closes its copy of the file at once, because a copy would
keep the lock alive after the holder's death.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_open: set[int] = set()


@contextlib.contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the lock that the file at `path` stands for; waits for it as long as it takes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _open.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        _open.discard(descriptor)
        os.close(descriptor)


def _after_fork() -> None:
    for descriptor in _open:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
