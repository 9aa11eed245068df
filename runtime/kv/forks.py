"""Locks that are free when this process forks.

A thread that is inside of SQLite at the moment of a fork leaves mutexes locked in the child for ever.
So what enters SQLite or LMDB does it under a lock from here, and a fork waits for all of them: for a
commit at most, for none is held while another lock is waited for.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_locks: WeakSet[threading.Lock] = WeakSet()
_taken: list[threading.Lock] = []


def lock_for_forks() -> threading.Lock:
    """Return a new lock of this kind."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _before() -> None:
    for lock in list(_locks):
        lock.acquire()
        _taken.append(lock)


def _after() -> None:
    while _taken:
        _taken.pop().release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
