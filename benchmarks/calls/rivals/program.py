"""The program that drives one rival, and prints what it found as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold.memory import memory_of, tree
from benchmarks.report import percentile

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.calls.rivals import System

TURN_SECONDS = 0.6
"""How long a turn should last; its number of calls is found by a first one."""

SIZES = {"64 KiB": 1 << 16, "1 MiB": 1 << 20, "64 MiB": 1 << 26}


def calls_a_second(drive: Callable[[int], None], turns: int, seconds: float) -> list[float]:
    """Return the rates of some turns, after one that finds how many calls make a turn."""
    calls, took = 100, 0.0
    while took < seconds / 4 and calls < 2_000_000:
        calls *= 2
        began = time.perf_counter()
        drive(calls)
        took = time.perf_counter() - began
    calls = max(100, int(calls * seconds / max(took, 1e-6)))
    rates = []
    for _ in range(turns):
        began = time.perf_counter()
        drive(calls)
        rates.append(calls / (time.perf_counter() - began))
    return rates


def round_trips(call: Callable[[], Any], count: int) -> list[float]:
    """Return the microseconds of calls made one after another."""
    clock, taken = time.perf_counter_ns, []
    for _ in range(count):
        began = clock()
        call()
        taken.append((clock() - began) / 1e3)
    return taken


def throughput(send: Callable[[Any], Any], size: int, turns: int) -> list[float]:
    """Return the GB/s of an array that goes one way, each call awaited."""
    array = np.random.default_rng(0).random(size // 8)
    send(array)
    rates = []
    for _ in range(turns):
        repeats = max(1, (1 << 26) // size // 16)
        began = time.perf_counter()
        for _ in range(repeats):
            send(array)
        rates.append(repeats * size / (time.perf_counter() - began) / 1e9)
    return rates


def measure(open_system: Callable[[], Any], *, start: bool, quick: bool) -> list[dict[str, Any]]:
    """Measure everything that a system can do, or only its start."""
    turns, seconds, trips = (2, 0.02, 50) if quick else (5, TURN_SECONDS, 1000)
    rows: list[dict[str, Any]] = []

    def add(name: str, repeats: list[float], unit: str) -> None:
        rows.append({"name": name, "repeats": repeats, "unit": unit})

    began = time.perf_counter()
    system: System
    with open_system() as system:
        system.call()
        add("start-up to first answer", [time.perf_counter() - began], "s")
        add("memory of the idle tree, PSS", [memory_of(tree(os.getpid())).pss], "MiB")
        if start:
            return rows
        taken = [round_trips(system.call, trips) for _ in range(turns + 1)][1:]
        add("synchronous round trip p50", [percentile(t, 50) for t in taken], "µs")
        add("synchronous round trip p99", [percentile(t, 99) for t in taken], "µs")
        if system.pipeline is not None:
            add(
                "pipelined to one actor", calls_a_second(system.pipeline, turns, seconds), "calls/s"
            )
        if system.pipeline_many is not None:
            rates = calls_a_second(system.pipeline_many, turns, seconds)
            add("pipelined to 1,000 actors", rates, "calls/s")
        if system.send is not None:
            for name, size in SIZES.items():
                rates = throughput(system.send, size, 2 if quick else 7)
                add(f"array argument of {name}", rates, "GB/s")
    return rows


def main() -> None:
    """Run the rival that is named."""
    _, name, *words = sys.argv
    module = importlib.import_module(f"benchmarks.calls.rivals.{name}")
    rows = measure(module.system, start="start" in words, quick="quick" in words)
    print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
