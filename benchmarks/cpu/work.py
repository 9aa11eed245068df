"""The work: a loop in pure Python, which holds the interpreter's lock as CPU-heavy scripts do."""

from __future__ import annotations

import time

from workers import DurableObject


def work(loops: int) -> int:
    """Compute something, without a library."""
    value = 1
    for number in range(loops):
        value = (value * 1_103_515_245 + number) & 0x7FFFFFFF
    return value


def loops_for(milliseconds: float) -> int:
    """Return how many loops take so long here."""
    loops = 10_000
    best = min(_seconds(loops) for _ in range(20))
    return int(loops * milliseconds / 1000 / best)


def _seconds(loops: int) -> float:
    began = time.perf_counter()
    work(loops)
    return time.perf_counter() - began


class Worker(DurableObject):
    """An object that does the work."""

    def work(self, loops: int) -> int:
        """Do it."""
        return work(loops)
