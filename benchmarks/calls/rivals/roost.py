"""Roost: a synchronous stub for round trips, an asyncio client for pipelines, 2 hosts."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.calls.rivals import System
from benchmarks.calls.windows import window
from benchmarks.objects import Counter
from runtime import Runtime, aconnect

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def system() -> Iterator[System]:
    """Start it."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"COUNTERS": Counter}, data_dir=data, hosts=2) as rt,
    ):
        counter = rt.env.COUNTERS.getByName("one")

        def pipelined(actors: int) -> Any:
            def drive(calls: int) -> None:
                async def main() -> None:
                    client = await aconnect(data)
                    names = [str(number) for number in range(actors)]
                    methods = [client.env.COUNTERS.getByName(name).increment for name in names]
                    await window(methods, calls)
                    await client.close()

                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(main())

            return drive

        yield System(lambda: counter.increment(1), pipelined(1), pipelined(1000), counter.take)
