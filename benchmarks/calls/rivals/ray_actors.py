"""Ray: an actor is a process of its own, so that 1,000 of them are left out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray

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


@contextmanager
def system() -> Iterator[System]:
    """Start it."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    counter = ray.remote(Counter).remote()

    def pipeline(calls: int) -> None:
        ray.get([counter.increment.remote(1) for _ in range(calls)])

    yield System(
        lambda: ray.get(counter.increment.remote(1)),
        pipeline,
        send=lambda array: ray.get(counter.take.remote(array)),
    )
    ray.shutdown()
