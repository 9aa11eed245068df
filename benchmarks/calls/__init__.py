"""What a call of an object costs: one after another, and thousands under way.

Rivals: `raw`, two blocking sockets (the floor of a round trip), and `bare`, a loop with futures and
no guarantees (the limit of pipelined calls). All take turns within a run, because the speed of a
machine drifts; each is warmed up by a turn that does not count.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.calls.bare import bare
from benchmarks.calls.raw import raw
from benchmarks.objects import Counter
from benchmarks.report import Report, at_least, at_most, percentile, result
from runtime import AsyncRuntime, Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from benchmarks.report import Result, Target

    Call = Callable[[int], Awaitable[int]]

IN_FLIGHT = 4_000
"""Calls under way at any time, when they are pipelined."""

CALLS_A_SECOND = 150_000
"""The target for one object."""

TIMES_RAW = 1.5
"""The target for a round trip, against raw ZeroMQ in the same run."""


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    turns = 2 if quick else 9
    results, targets = round_trips(turns, calls=50 if quick else 2_000)
    results += batches(turns, calls=2_000 if quick else 128_000)
    calls = 2_000 if quick else 60_000
    one, target = uvloop.run(one_object(turns, calls))
    results += [*one, uvloop.run(many_objects(turns, calls, objects=20 if quick else 1_000))]
    return Report(results, [target, *targets])


def round_trips(turns: int, calls: int) -> tuple[list[Result], list[Target]]:
    """Make one call after another."""
    systems = ("raw pyzmq", "Roost")
    p50: dict[str, list[float]] = {system: [] for system in systems}
    p99: dict[str, list[float]] = {system: [] for system in systems}
    with (
        tempfile.TemporaryDirectory() as data,
        raw() as pair,
        Runtime(objects={"COUNTERS": Counter}, data_dir=data, hosts=1) as rt,
    ):
        counter = rt.env.COUNTERS.getByName("one")

        def roost(count: int) -> list[float]:
            clock, taken = time.perf_counter_ns, []
            for _ in range(count):
                began = clock()
                counter.increment(1)
                taken.append((clock() - began) / 1e3)
            return taken

        for turn in range(-1, turns):
            for system, measure in zip(systems, (pair.round_trips, roost), strict=True):
                taken = measure(calls)
                if turn >= 0:
                    p50[system].append(percentile(taken, 50))
                    p99[system].append(percentile(taken, 99))
    results = [
        result(f"round trip {name}", system, by_system[system], "µs")
        for name, by_system in (("p50", p50), ("p99", p99))
        for system in systems
    ]
    ratios = [ours / floor for floor, ours in zip(*p50.values(), strict=True)]
    return results, [at_most("round trip p50 against raw pyzmq", median(ratios), TIMES_RAW, "x")]


def batches(turns: int, calls: int) -> list[Result]:
    """Echo batches of calls over raw sockets."""
    results = []
    with raw() as pair:
        for size in (16, 64):
            rates = [pair.batches_a_second(calls // size, size) for _ in range(turns + 1)][1:]
            name = f"echo of batches of {size}"
            results += [
                result(name, "raw pyzmq", rates, "messages/s"),
                result(name, "raw pyzmq", [size * rate for rate in rates], "calls/s"),
            ]
    return results


async def window(methods: Sequence[Call], calls: int) -> None:
    """Call methods in turn, always with so many calls under way."""
    under_way: deque[Awaitable[int]] = deque()
    for number in range(calls):
        if len(under_way) >= IN_FLIGHT:
            await under_way.popleft()
        under_way.append(methods[number % len(methods)](1))
    for call in under_way:
        await call


async def rounds(methods: Sequence[Call], calls: int) -> None:
    """Gather rounds of so many calls: what most programs do."""
    for first in range(0, calls, IN_FLIGHT):
        last = min(calls, first + IN_FLIGHT)
        await asyncio.gather(*(methods[n % len(methods)](1) for n in range(first, last)))


async def calls_a_second(drive: Coroutine[Any, Any, None], calls: int) -> float:
    """Return the rate of the calls that a driver makes."""
    began = time.perf_counter()
    await drive
    return calls / (time.perf_counter() - began)


async def one_object(turns: int, calls: int) -> tuple[list[Result], Target]:
    """Pipeline calls to one object of one host."""
    names = [
        ("one object, pipelined", "bare loop"),
        ("one object, pipelined", "Roost"),
        ("one object, pipelined, async def", "Roost"),
        ("one object, gathered", "bare loop"),
        ("one object, gathered", "Roost"),
    ]
    rates: list[list[float]] = [[] for _ in names]
    with tempfile.TemporaryDirectory() as data, bare() as limit:
        async with AsyncRuntime(objects={"COUNTERS": Counter}, data_dir=data, hosts=1) as rt:
            counter = rt.env.COUNTERS.getByName("one")
            for turn in range(-1, turns):
                drivers = (
                    window([limit.increment], calls),
                    window([counter.increment], calls),
                    window([counter.increment_async], calls),
                    rounds([limit.increment], calls),
                    rounds([counter.increment], calls),
                )
                for found, drive in zip(rates, drivers, strict=True):
                    rate = await calls_a_second(drive, calls)
                    if turn >= 0:
                        found.append(rate)
    results = [
        result(name, system, found, "calls/s")
        for (name, system), found in zip(names, rates, strict=True)
    ]
    roost = results[1].value
    return results, at_least("one object, pipelined", roost, CALLS_A_SECOND, "calls/s")


async def many_objects(turns: int, calls: int, objects: int) -> Result:
    """Pipeline calls to many objects of two hosts, each call to the next object."""
    with tempfile.TemporaryDirectory() as data:
        async with AsyncRuntime(objects={"COUNTERS": Counter}, data_dir=data, hosts=2) as rt:
            counters = [rt.env.COUNTERS.getByName(str(number)) for number in range(objects)]
            methods = [counter.increment for counter in counters]
            rates = [await calls_a_second(window(methods, calls), calls) for _ in range(turns + 1)]
    return result(f"{objects:,} objects, pipelined", "Roost", rates[1:], "calls/s")
