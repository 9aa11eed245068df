"""What a fork must find: locks that are free, and files that the child does not keep open.

A thread that is inside of SQLite at the moment of a fork leaves mutexes locked in the child for ever.
So what enters SQLite or LMDB does it under a lock from here, and a fork waits for all of them: for a
commit at most, for none is held while another lock is waited for.

A descriptor that stands for this process (it holds a kernel lock, or is the end of a pipe that says
that somebody listens) would go on doing so in a child, after this process's death. So children close it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from weakref import WeakSet

_locks: WeakSet[threading.Lock] = WeakSet()
_taken: list[threading.Lock] = []
_ours: set[int] = set()


def lock_for_forks() -> threading.Lock:
    """Return a new lock of this kind."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def close_in_children(descriptor: int) -> None:
    """Have forked children close a descriptor, until `closed` says that it is closed here."""
    _ours.add(descriptor)


def closed(descriptor: int) -> None:
    """Forget a descriptor that is about to be closed."""
    _ours.discard(descriptor)


def _before() -> None:
    for lock in list(_locks):
        lock.acquire()
        _taken.append(lock)


def _after() -> None:
    while _taken:
        _taken.pop().release()


def _in_child() -> None:
    for descriptor in _ours:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _ours.clear()
    _after()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
