"""What a call of an object costs: one after another, thousands under way, and with large arguments.

Beside it, in turns within one run because the speed of a machine drifts: `raw`, two blocking sockets (the
floor of a round trip), and `bare`, a loop with futures and no guarantees (the limit of pipelined calls).
Then other systems (`rivals`), each with the same counter in a program of its own, as far as installed.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.calls import rivals
from benchmarks.calls.bare import bare
from benchmarks.calls.raw import raw
from benchmarks.calls.windows import rounds, window
from benchmarks.objects import Counter
from benchmarks.report import Report, at_least, at_most, percentile, result
from runtime import AsyncRuntime, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future

    from benchmarks.report import Result, Target

TAKES = "3 min"
RIVALS = ("ray", "xoscar", "distributed")
PLOTTED = (
    "synchronous round trip p50",
    "pipelined to one actor",
    "array argument of 64 MiB",
    "start-up to first answer",
)

CALLS_A_SECOND = 350_000
"""The target for one object."""

OF_BARE = 0.65
"""The target for one object, against the bare loop in the same run."""

TIMES_RAW = 1.25
"""The target for a round trip, against raw ZeroMQ in the same run."""

BETWEEN_OBJECTS = 150_000
"""The target for calls a second from one object to another of the same host, each awaited."""

TIMES_RAY = 50
GB_A_SECOND = 2.5
START_S = 0.4
IDLE_MIB = 120
"""The targets against Ray, for an array of 64 MiB, for the start, and for an idle tree of 2 hosts."""


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    turns = 2 if quick else 9
    results, targets = round_trips(turns, calls=50 if quick else 2_000)
    results += batches(turns, calls=2_000 if quick else 128_000)
    calls = 2_000 if quick else 60_000
    results += submitted(turns, 1_000 if quick else 20_000)
    found, more = uvloop.run(pipelined(turns, calls, objects=20 if quick else 1_000))
    results += found
    others, skipped = rivals.run(quick=quick)
    results += others
    return Report(results, [*targets, *more, *against(others)], skipped)


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


def submitted(turns: int, calls: int) -> list[Result]:
    """Submit calls from a plain program, and take their results; beside it a pool of one thread."""
    rates: dict[str, list[float]] = {"ThreadPoolExecutor": [], "Roost": []}
    here = Counter(None, None)
    with (
        tempfile.TemporaryDirectory() as data,
        ThreadPoolExecutor(1) as pool,
        Runtime(objects={"COUNTERS": Counter}, data_dir=data, hosts=1) as rt,
    ):
        submits: list[Callable[[int], Future[int]]] = [
            lambda by: pool.submit(here.increment, by),
            rt.env.COUNTERS.getByName("one").increment.submit,
        ]
        for turn in range(-1, turns):
            for system, submit in zip(rates, submits, strict=True):
                began = time.perf_counter()
                for future in [submit(1) for _ in range(calls)]:
                    future.result()
                if turn >= 0:
                    rates[system].append(calls / (time.perf_counter() - began))
    return [
        result("one object, submitted", system, found, "calls/s") for system, found in rates.items()
    ]


async def calls_a_second(drive: Coroutine[Any, Any, object], calls: int) -> float:
    """Return the rate of the calls that a driver makes."""
    began = time.perf_counter()
    await drive
    return calls / (time.perf_counter() - began)


async def pipelined(turns: int, calls: int, objects: int) -> tuple[list[Result], list[Target]]:
    """Pipeline calls to one object of one host, to many of two, and between two of one host."""
    bindings = {"COUNTERS": Counter}
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as two,
        bare() as limit,
    ):
        async with (
            AsyncRuntime(objects=bindings, data_dir=one, hosts=1) as rt,
            AsyncRuntime(objects=bindings, data_dir=two, hosts=2) as rt2,
        ):
            counter = rt.env.COUNTERS.getByName("one")
            counters = [rt2.env.COUNTERS.getByName(str(number)) for number in range(objects)]
            many = [each.increment for each in counters]
            names: dict[tuple[str, str], Callable[[], Coroutine[Any, Any, object]]] = {
                ("one object, pipelined", "bare loop"): lambda: window([limit.increment], calls),
                ("one object, pipelined", "Roost"): lambda: window([counter.increment], calls),
                ("one object, pipelined, async def", "Roost"): lambda: window(
                    [counter.increment_async], calls
                ),
                (f"{objects:,} objects, pipelined", "Roost"): lambda: window(many, calls),
                ("one object, gathered", "bare loop"): lambda: rounds([limit.increment], calls),
                ("one object, gathered", "Roost"): lambda: rounds([counter.increment], calls),
                ("object to object, awaited", "Roost"): lambda: counter.call_another("two", calls),
            }
            rates: dict[tuple[str, str], list[float]] = {name: [] for name in names}
            for turn in range(-1, turns):
                for name, drive in names.items():
                    rate = await calls_a_second(drive(), calls)
                    if turn >= 0:
                        rates[name].append(rate)
    results = [result(name, system, found, "calls/s") for (name, system), found in rates.items()]
    limit_rates, one_rates, _, many_rates, _, _, between = rates.values()
    return results, [
        at_least("one object, pipelined", median(one_rates), CALLS_A_SECOND, "calls/s"),
        at_least(
            "one object, pipelined, against the bare loop",
            median(a / b for a, b in zip(one_rates, limit_rates, strict=True)),
            OF_BARE,
            "x",
        ),
        at_least(
            f"{objects:,} objects on 2 hosts against one object",
            median(a / b for a, b in zip(many_rates, one_rates, strict=True)),
            1.0,
            "x",
        ),
        at_least("object to object, awaited", median(between), BETWEEN_OBJECTS, "calls/s"),
    ]


def against(results: Sequence[Result]) -> list[Target]:
    """Hold what the rivals' program found of Roost against its targets, and against Ray."""
    values = {(found.system, found.name): found.value for found in results}
    array, pipeline = "array argument of 64 MiB", "pipelined to one actor"
    targets = [
        at_least(array, values["Roost", array], GB_A_SECOND, "GB/s"),
        at_most("start-up", values["Roost", "start-up to first answer"], START_S, "s"),
        at_most("idle tree", values["Roost", "memory of the idle tree, PSS"], IDLE_MIB, "MiB"),
    ]
    if ("Ray", array) in values:
        ratio = values["Roost", pipeline] / values["Ray", pipeline]
        targets.append(at_least(f"{pipeline}, against Ray", ratio, TIMES_RAY, "x"))
        ratio = values["Roost", array] / values["Ray", array]
        targets.append(at_least(f"{array}, against Ray", ratio, 2, "x"))
    return targets
