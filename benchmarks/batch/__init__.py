"""What an item of a map costs, and the year of flights on one host, on two, and by hand.

The rival is `sharded`: multiprocessing with a queue a process, as one writes it by hand, durable only
at its end. Both get the flights in the same batches. The per-item figures are of methods that do
nothing, so they are all overhead.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.batch.sharded import sharded
from benchmarks.objects import Counter
from benchmarks.report import Report, at_least, result
from examples.delays.aircraft import AircraftObject
from examples.delays.flights import read
from examples.delays.model import Model
from examples.delays.run import batches
from runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Result, Target
    from examples.delays.flights import Batch

TAKES = "4 min"
RIVALS = ()
PLOTTED = ()

KEYS = 100
HOSTS = 2

TIMES_ONE_HOST = 1.85
TIMES_BY_HAND = 1.0
"""The targets: two hosts against one, and against the rival with two processes."""


class Adder(Counter):
    """A counter that takes batches, and one that stores."""

    def increment_all(self, numbers: list[int]) -> int:
        """Add a batch and return the total."""
        self.total += sum(numbers)
        return self.total

    async def store(self, by: int) -> int:
        """Add durably."""
        total: int = (await self.ctx.storage.get("total") or 0) + by
        await self.ctx.storage.put("total", total)
        return total


def run(*, quick: bool = False) -> Report:
    """Measure everything; each first turn warms up."""
    turns = 1 if quick else 5
    results = overhead(turns, items=2_000 if quick else 200_000)
    flights, targets = year(turns=1 if quick else 3, sample=80 if quick else 1)
    return Report([*results, *flights], targets)


def _add(state: list[int], numbers: list[int]) -> int:
    state[0] += sum(numbers)
    return state[0]


def _zero() -> list[int]:
    return [0]


def _nothing(number: int) -> int:
    return number


def overhead(turns: int, items: int) -> list[Result]:
    """Map items over objects that do nothing."""
    found: dict[tuple[str, str], list[float]] = {}
    pairs = [(str(number % KEYS), number) for number in range(items)]

    def measure(name: str, system: str, drive: Callable[[], int], count: int) -> None:
        began = time.perf_counter()
        drive()
        took = (time.perf_counter() - began) / count * 1e6
        found.setdefault((name, system), []).append(took)

    with (
        tempfile.TemporaryDirectory() as data,
        tempfile.TemporaryDirectory() as scratch,
        Runtime(objects={"ADDERS": Adder}, data_dir=data, hosts=HOSTS) as rt,
        ProcessPoolExecutor(HOSTS) as pool,
    ):
        adders = rt.env.ADDERS
        few = items // 10

        def through(method: str, **options: Any) -> Callable[[], int]:
            def drive() -> int:
                numbers = range(items)
                return sum(1 for _ in adders.map(method, numbers, key=_key, **options))

            return drive

        def by_hand(batch: int) -> Callable[[], int]:
            return lambda: sharded(pairs, _zero, _add, HOSTS, batch, Path(scratch))

        for _ in range(turns + 1):
            measure("item, batch 1", "Roost", through("increment"), items)
            measure("item, batch 1", "by hand", by_hand(1), items)
            measure("item, batch 256", "Roost", through("increment_all", batch=256), items)
            measure("item, batch 256", "by hand", by_hand(256), items)
            measure("item, ordered", "Roost", through("increment", ordered=True), items)
            measure("item, durable", "Roost", through("store"), items)
            measure("function", "Roost", lambda: sum(1 for _ in rt.run(_nothing, range(few))), few)
            measure(
                "function",
                "ProcessPoolExecutor",
                lambda: sum(1 for _ in pool.map(_nothing, range(few), chunksize=64)),
                few,
            )
    return [result(name, system, taken[1:], "µs") for (name, system), taken in found.items()]


def _key(number: int) -> str:
    return str(number % KEYS)


def _learn(model: Model, found: list[Batch]) -> int:
    for batch in found:
        for flight in batch.flights:
            model.observe(flight)
    return sum(len(batch.flights) for batch in found)


def year(turns: int, sample: int) -> tuple[list[Result], list[Target]]:
    """Learn the delays of all flights."""
    fleet = read(sample)
    total = sum(len(aircraft.flights) for aircraft in fleet)
    rates: dict[str, list[float]] = {}

    def roost(hosts: int) -> float:
        with (
            tempfile.TemporaryDirectory() as data,
            Runtime(objects={"AIRCRAFT": AircraftObject}, data_dir=data, hosts=hosts) as rt,
        ):
            began = time.perf_counter()
            results = rt.env.AIRCRAFT.map(
                "observe", batches(fleet), key=attrgetter("tail"), checkpoint="year"
            )
            learnt = sum(count for _, count in results)
            assert learnt == total
            return time.perf_counter() - began

    def by_hand() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            began = time.perf_counter()
            pairs = ((batch.tail, batch) for batch in batches(fleet))
            sharded(pairs, Model, _learn, HOSTS, 1, Path(scratch))
            return time.perf_counter() - began

    for _ in range(turns + 1):
        for system, seconds in (
            ("Roost, 1 host", roost(1)),
            ("Roost, 2 hosts", roost(HOSTS)),
            ("by hand, 2 processes", by_hand()),
        ):
            rates.setdefault(system, []).append(total / seconds)
    found = [result("flights", system, taken[1:], "flights/s") for system, taken in rates.items()]
    one, two, hand = (each.value for each in found)
    return found, [
        at_least("flights on two hosts against one", two / one, TIMES_ONE_HOST, "x"),
        at_least("flights on two hosts against by hand", two / hand, TIMES_BY_HAND, "x"),
    ]
