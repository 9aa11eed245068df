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
