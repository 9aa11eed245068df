"""multiprocessing's BaseManager: a blocking proxy, so there is nothing to pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from benchmarks.calls.rivals import System

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counter:
    """Counts in memory."""

    def __init__(self) -> None:
        self.total = 0

    def increment(self, by: int) -> int:
        """Add and return the total."""
        self.total += by
        return self.total

    def take(self, array: Any) -> int:
        """Take an array."""
        return len(array)


class Manager(BaseManager):
    """Knows the counter."""


Manager.register("Counter", Counter)


@contextmanager
def system() -> Iterator[System]:
    """Start it."""
    with Manager() as manager:
        counter = manager.Counter()  # type: ignore[attr-defined]
        yield System(lambda: counter.increment(1), send=counter.take)
