"""dask.distributed: actors on two worker processes of one thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distributed import Client

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
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        counter = client.submit(Counter, actor=True).result()
        many: list[Any] = []

        def pipeline(calls: int) -> None:
            for future in [counter.increment(1) for _ in range(calls)]:
                future.result()

        def pipeline_many(calls: int) -> None:
            if not many:
                futures = [client.submit(Counter, actor=True, pure=False) for _ in range(1000)]
                many.extend(future.result() for future in futures)
            for future in [many[number % 1000].increment(1) for number in range(calls)]:
                future.result()

        yield System(
            lambda: counter.increment(1).result(),
            pipeline,
            pipeline_many,
            lambda array: counter.take(array).result(),
        )
