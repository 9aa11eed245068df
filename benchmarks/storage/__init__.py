"""What a durable call costs: counters in storage and SQL rows, against SQLite by hand.

The systems take turns within a run, because the speed of a machine and of its disk drifts; each is
warmed up by a turn that does not count. `n = get; put(n + 1)` per call, pipelined.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.calls import calls_a_second
from benchmarks.calls.windows import window
from benchmarks.objects import Counter
from benchmarks.report import Report, at_least, at_most, percentile, result
from benchmarks.storage.objects import Durable, Table
from benchmarks.storage.raw import database, increments, opening
from runtime import AsyncRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from benchmarks.calls.windows import Call
    from benchmarks.report import Result, Target

TAKES = "5 min"
RIVALS = ("apsw",)
PLOTTED = ()

HOSTS = 2
OBJECTS = 1000

CALLS_A_SECOND = 60_000
"""The target for 1,000 objects, strict."""
ONE_OBJECT = 80_000
"""The target for one object, strict."""
TIMES_RAW = 12
"""The target for 1,000 objects, against SQLite with a commit a call."""
OF_MEMORY = 0.6
"""The target for relaxed, against the same counter in memory."""
TIMES_OPEN = 3
"""The target for waking an object, against opening a database and reading a value."""
CLASSES = {"COUNTERS": Counter, "DURABLE": Durable, "TABLES": Table}


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    turns = 1 if quick else 3
    rates, targets = uvloop.run(
        throughput(turns, calls=2_000 if quick else 60_000, objects=20 if quick else OBJECTS)
    )
    woken, target = uvloop.run(waking(turns, 20 if quick else 1_000))
    many = uvloop.run(creation(turns, 2_000 if quick else 1_000_000))
    return Report([*rates, *woken, *many], [*targets, target])


async def throughput(turns: int, calls: int, objects: int) -> tuple[list[Result], list[Target]]:
    """Pipeline calls to one object and to many, strict and relaxed, and do the same by hand."""
    rates: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        drivers: dict[tuple[str, str], Callable[[], Coroutine[Any, Any, float]]] = {}
        for durability in ("strict", "relaxed"):
            data = stack.enter_context(tempfile.TemporaryDirectory())
            rt = await stack.enter_async_context(
                AsyncRuntime(objects=CLASSES, data_dir=data, hosts=HOSTS, durability=durability)
            )
            for namespace, method, what in (
                ("DURABLE", "increment", "get and put"),
                ("TABLES", "insert_and_select", "SQL insert and select"),
                ("COUNTERS", "increment", "counter in memory"),
            ):
                for count in (1, objects):
                    stubs = [rt.env[namespace].getByName(f"{n}") for n in range(count)]
                    methods = [getattr(stub, method) for stub in stubs]
                    made = calls if namespace != "TABLES" else calls // 30
                    drivers[what, f"{_named(count)}, {durability}"] = partial(
                        _pipelined, methods, made
                    )
            connection = stack.enter_context(database(strict=durability == "strict"))
            for size in (1, 100):
                made = calls // (60 if size == 1 else 2)
                drivers[f"raw apsw, {size} a commit", f"{_named(objects)}, {durability}"] = partial(
                    _by_hand, connection, made, objects, size
                )
        for turn in range(-1, turns):
            for name, driver in drivers.items():
                rate = await driver()
                if turn >= 0:
                    rates.setdefault(name, []).append(rate)
    many = _named(objects)
    found = {name: median(of_it) for name, of_it in rates.items()}
    strict = found["get and put", f"{many}, strict"]
    targets = [
        at_least(f"{many}, strict", strict, CALLS_A_SECOND, "calls/s"),
        at_least(
            f"{many}, strict, against raw apsw with a commit a call",
            strict / found["raw apsw, 1 a commit", f"{many}, strict"],
            TIMES_RAW,
            "x",
        ),
        at_least(
            "one object, strict", found["get and put", "one object, strict"], ONE_OBJECT, "calls/s"
        ),
        at_least(
            f"{many}, relaxed, against the counter in memory",
            found["get and put", f"{many}, relaxed"]
            / found["counter in memory", f"{many}, relaxed"],
            OF_MEMORY,
            "x",
        ),
    ]
    results = [
        result(f"{what}, {where}", "raw apsw" if "raw" in what else "Roost", of_it, "calls/s")
        for (what, where), of_it in rates.items()
    ]
    return results, targets


async def _pipelined(methods: Sequence[Call], calls: int) -> float:
    return await calls_a_second(window(methods, calls), calls)


async def _by_hand(connection: Any, calls: int, objects: int, size: int) -> float:
    return increments(connection, calls, objects=objects, in_transaction=size)


def _named(objects: int) -> str:
    return "one object" if objects == 1 else f"{objects:,} objects"


async def waking(turns: int, objects: int) -> tuple[list[Result], Target]:
    """Call objects that are not in memory, one after the other."""
    by_hand, ours = [], []
    with tempfile.TemporaryDirectory() as data:
        async with AsyncRuntime(objects=CLASSES, data_dir=data, hosts=HOSTS) as rt:
            stubs = [rt.env.DURABLE.getByName(f"{n}") for n in range(objects)]
            await asyncio.gather(*(stub.increment(1) for stub in stubs))
        for _ in range(turns + 1):
            by_hand.append(percentile(opening(objects), 50))
            ours.append(percentile(await _wake(data, objects), 50))
    results = [
        result("open and answer, p50", "raw apsw", by_hand[1:], "µs"),
        result("open and answer, p50", "Roost", ours[1:], "µs"),
    ]
    raw, roost = (each.value for each in results)
    return results, at_most("waking an object, against raw apsw", roost / raw, TIMES_OPEN, "x")


async def _wake(data: str, objects: int) -> list[float]:
    """Return the microseconds of the first call of each object."""
    taken = []
    async with AsyncRuntime(objects=CLASSES, data_dir=data, hosts=HOSTS) as rt:
        stubs = [rt.env.DURABLE.getByName(f"{n}") for n in range(objects)]
        await asyncio.gather(*(rt.env.DURABLE.getByName(f"warm{n}").peek() for n in range(64)))
        for stub in stubs:
            began = time.perf_counter_ns()
            assert await stub.peek() == 1
            taken.append((time.perf_counter_ns() - began) / 1e3)
    return taken


async def creation(turns: int, objects: int) -> list[Result]:
    """Create small objects through the API, and start again."""
    await _create(objects // 100)
    made = [await _create(objects) for _ in range(turns)]
    taken, size, rss, again = zip(*made, strict=True)
    return [
        result(f"creating {objects:,} objects", "Roost", taken, "s"),
        result(f"disk of {objects:,} objects, each", "Roost", size, "bytes"),
        result(f"memory of a host after {objects:,} objects", "Roost", rss, "MiB"),
        result(f"start with {objects:,} objects, to an answer", "Roost", again, "s"),
    ]


async def _create(objects: int) -> tuple[float, float, float, float]:
    """Create objects; returns seconds, bytes of each, MiB of a host, and seconds of a start."""
    with tempfile.TemporaryDirectory() as data:
        async with AsyncRuntime(objects=CLASSES, data_dir=data, hosts=HOSTS, idle_s=1.0) as rt:
            began = time.perf_counter()
            for first in range(0, objects, 10_000):
                stubs = [
                    rt.env.DURABLE.getByName(f"{n}")
                    for n in range(first, min(objects, first + 10_000))
                ]
                await asyncio.gather(*(stub.increment(1) for stub in stubs))
            taken = time.perf_counter() - began
            rss = max(_rss(host.pid) for host in rt.status())
        size = _bytes_in(Path(data))
        began = time.perf_counter()
        async with AsyncRuntime(objects=CLASSES, data_dir=data, hosts=HOSTS) as rt:
            await rt.env.DURABLE.getByName("0").peek()
            again = time.perf_counter() - began
    return taken, size / objects, rss, again


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
