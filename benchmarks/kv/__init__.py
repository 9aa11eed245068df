"""What KV costs: reads from shared memory and from disk, durable writes, listings, two processes.

Beside it, in the same run: a plain dict, raw `lmdb` in shared memory, diskcache as its authors ship it
(its writes made as durable as ours), and Redis over a Unix socket, if it is installed.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kv import ours, rivals
from benchmarks.report import Report, at_least, at_most, result

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Result, Target

TAKES = "1 min"
RIVALS = ("lmdb", "diskcache", "redis")
PLOTTED = ("hot get, 1 KiB", "hot get, 64 KiB", "durable puts, 1 KiB, 1 caller")

TIMES_LMDB = 3
TIMES_FASTER_THAN_DISKCACHE = 3
"""The targets of a hot get, against a get of raw lmdb and of diskcache."""

TIMES_THE_PUTS = 10
"""The target of puts a second with 256 in flight, against diskcache's own set."""

P99_OF_P50 = 5
"""The target of a get's 99th percentile beside a writer, against its median."""


def run(*, quick: bool = False) -> Report:
    """Measure everything, a system's turn after another's; the first turn warms up."""
    turns, scale = (2, 0.01) if quick else (7, 1.0)
    found: dict[tuple[str, str], list[float]] = {}
    units: dict[str, str] = {}

    def measure(name: str, system: str, unit: str, once: Callable[[], float]) -> None:
        units[name] = unit
        found.setdefault((name, system), []).append(once())

    skipped: list[str] = []
    with ExitStack() as stack:
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shelf = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        roost = ours.Roost(disk, shelf, scale)
        stack.callback(roost.close)
        systems: list[ours.Roost | rivals.Rival] = [roost]
        systems += rivals.all_of(disk, shelf, scale, stack, skipped)
        for _ in range(turns + 1):
            for system in systems:
                for name, unit, once in system.tests():
                    measure(name, system.name, unit, once)
    results = [
        result(name, system, values[1:], units[name]) for (name, system), values in found.items()
    ]
    results.sort(key=lambda each: list(units).index(each.name))
    return Report(results, _targets(results), skipped)


def _targets(results: list[Result]) -> list[Target]:
    by = {(each.name, each.system): each.value for each in results}
    targets = []
    for size in ("1 KiB", "64 KiB"):
        get = f"hot get, {size}"
        roost = by[get, "Roost"]
        targets += [
            at_most(f"{get}: times raw lmdb", roost / by[get, "lmdb"], TIMES_LMDB, "x"),
            at_least(
                f"{get}: times as fast as diskcache",
                by[get, "diskcache"] / roost,
                TIMES_FASTER_THAN_DISKCACHE,
                "x",
            ),
        ]
    puts = "durable puts, 1 KiB"
    targets += [
        at_least(
            "256 puts in flight: times diskcache's own set",
            by[f"{puts}, 256 in flight", "Roost"] / by[f"{puts}, 1 caller", "diskcache"],
            TIMES_THE_PUTS,
            "x",
        ),
        at_most(
            "a get beside a writer: p99 against p50",
            by["get beside a writer, p99", "Roost"] / by["get beside a writer, p50", "Roost"],
            P99_OF_P50,
            "x",
        ),
    ]
    return targets
