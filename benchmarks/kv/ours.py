"""Roost's KV as a worker script has it: awaited, on uvloop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.report import percentile
from runtime.kv import KVNamespace, open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

KIB = 1024
SLICES = 40
"""Of a measurement, so short that another process's turn on the core spoils only a few."""

SIZES = {"1 KiB": KIB, "64 KiB": 64 * KIB}


def values() -> dict[str, str]:
    """Return a value of each size."""
    return {name: "x" * size for name, size in SIZES.items()}


async def each(calls: int, call: Callable[[], Awaitable[Any]]) -> float:
    """Return the microseconds of a call, awaited one after another: the median of many slices."""
    slices, share = [], max(1, calls // SLICES)
    for _ in range(calls // share):
        began = time.perf_counter()
        for _ in range(share):
            await call()
        slices.append((time.perf_counter() - began) / share * 1e6)
    return median(slices)


async def in_flight(calls: int, width: int, call: Callable[[int], Awaitable[Any]]) -> float:
    """Return the calls a second with so many under way at once, each caller awaiting its own."""

    async def caller(first: int) -> None:
        for number in range(first, calls, width):
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*map(caller, range(width)))
    return calls / (time.perf_counter() - began)


class Roost:
    """One namespace, with the shared cache."""

    name = "Roost"

    def __init__(self, disk: Path, shelf: Path, scale: float) -> None:
        self.disk, self.shelf, self.scale = disk, shelf, scale
        self.turn = 0
        self.store = open_store(disk / "ns", cache=lambda: shelf)
        self.kv = KVNamespace(self.store)
        uvloop.run(self._prepare())

    async def _prepare(self) -> None:
        for size, value in values().items():
            await self.kv.put(f"hot {size}", value)
        await asyncio.gather(
            *(self.kv.put(f"list/{number:04}", "x" * 100) for number in range(1000))
        )

    def _times(self, calls: int) -> int:
        return max(20, int(calls * self.scale))

    def _each(self, calls: int, call: Callable[[], Awaitable[Any]]) -> float:
        return uvloop.run(each(self._times(calls), call))

    def tests(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        """Yield what to measure: its name, its unit, and how."""
        kv = self.kv
        self.turn += 1
        for size, value in values().items():
            get = partial(kv.get, f"hot {size}")
            yield f"hot get, {size}", "µs", partial(self._each, 100_000, get)
            yield f"get from disk, {size}", "µs", partial(self._first_reads, value)
            yield f"durable puts, {size}, 1 caller", "puts/s", partial(self._puts, value)
            yield f"durable puts, {size}, 256 in flight", "puts/s", partial(self._many_puts, value)
        yield (
            "get of an absent key",
            "µs",
            partial(self._each, 100_000, partial(kv.get, "absent")),
        )
        yield "list of 1,000", "µs", partial(self._each, 200, partial(kv.list, prefix="list/"))
        keys = [f"list/{number:04}" for number in range(100)]
        yield "bulk get of 100", "µs", partial(self._each, 1000, partial(kv.get, keys))
        yield "hot gets, 1 KiB, 2 processes", "gets/s", partial(self._two, "get")
        yield "durable puts, 1 KiB, 2 processes of 256", "puts/s", partial(self._two, "put")
        latencies = self._beside_a_writer()
        for percent in (50, 99):
            yield (
                f"get beside a writer, p{percent}",
                "µs",
                partial(percentile, latencies, percent),
            )

    def _puts(self, value: str) -> float:
        return 1e6 / self._each(200, partial(self.kv.put, "one", value))

    def _many_puts(self, value: str) -> float:
        put = self.kv.put
        calls = self._times(20_000 if len(value) == KIB else 3_000)
        return uvloop.run(in_flight(calls, 256, lambda number: put(f"put {number % 1000}", value)))

    def _first_reads(self, value: str) -> float:
        """Read keys that the cache has not: they are written by a store that has none."""
        count = self._times(1000)
        stranger = open_store(self.disk / f"cold {self.turn} {len(value)}")
        kv = KVNamespace(stranger)
        uvloop.run(in_flight(count, 256, lambda number: kv.put(f"{number}", value)))
        stranger.close()
        store = open_store(stranger.directory, cache=lambda: self.shelf)
        names = iter([f"{number}" for number in range(count)])
        cold = KVNamespace(store)
        took = uvloop.run(each(count, lambda: cold.get(next(names))))
        store.close()
        return took

    def _program(self, what: str, calls: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.kv.beside", what, str(calls)),
                *(os.fspath(self.disk / "ns"), os.fspath(self.shelf)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _two(self, what: str) -> float:
        """Return the calls a second of two processes that begin together."""
        calls = self._times(300_000 if what == "get" else 20_000)
        programs = [self._program(what, calls) for _ in range(2)]
        for program in programs:
            _hear(program)
        for program in programs:
            _start(program)
        ends = [list(map(float, program.communicate()[0].split())) for program in programs]
        return 2 * calls / (max(end for _, end in ends) - min(began for began, _ in ends))

    def _beside_a_writer(self) -> list[float]:
        """Return the microseconds of single gets while another process writes without a pause."""
        writer = self._program("write", 0)
        _hear(writer)
        _start(writer)
        _hear(writer)
        latencies = uvloop.run(self._latencies(self._times(100_000)))
        writer.communicate("stop\n")
        return latencies

    async def _latencies(self, calls: int) -> list[float]:
        get, clock, found = self.kv.get, time.perf_counter_ns, []
        for _ in range(calls):
            began = clock()
            await get("hot 1 KiB")
            found.append((clock() - began) / 1e3)
        return found

    def close(self) -> None:
        """End all writes."""
        self.store.close()


def _hear(program: subprocess.Popen[str]) -> None:
    """Wait for what a program says."""
    assert program.stdout is not None
    program.stdout.readline()


def _start(program: subprocess.Popen[str]) -> None:
    """Let a program go on that is ready."""
    assert program.stdin is not None
    program.stdin.write("go\n")
    program.stdin.flush()
