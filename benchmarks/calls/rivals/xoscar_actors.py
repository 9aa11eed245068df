"""xoscar: a pool of two processes beside the caller's own."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import xoscar as xo

from benchmarks.calls.rivals import System
from benchmarks.calls.windows import window

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counter(xo.Actor):  # type: ignore[misc]  # xoscar has no types
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
    with asyncio.Runner() as runner:
        pool = runner.run(xo.create_actor_pool("127.0.0.1:0", n_process=2))

        async def create(number: int) -> Any:
            strategy = xo.allocate_strategy.ProcessIndex(1 + number % 2)
            return await xo.create_actor(
                Counter,
                address=pool.external_address,
                uid=f"counter-{number}",
                allocate_strategy=strategy,
            )

        counter = runner.run(create(0))
        many: list[Any] = []

        def pipeline(calls: int) -> None:
            runner.run(window([counter.increment], calls))

        def pipeline_many(calls: int) -> None:
            if not many:
                many.extend(runner.run(create(number + 1)).increment for number in range(1000))
            runner.run(window(many, calls))

        async def increment() -> Any:
            return await counter.increment(1)

        async def take(array: Any) -> Any:
            return await counter.take(array)

        yield System(
            lambda: runner.run(increment()),
            pipeline,
            pipeline_many,
            lambda array: runner.run(take(array)),
        )
        runner.run(pool.stop())
