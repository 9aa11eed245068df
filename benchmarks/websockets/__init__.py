"""What WebSockets cost: one message to thousands of clients of one object, an echo, memory.

Rivals: a bare server on `websockets` and one on `picows`, without objects, storage or a second
process: the best that Python can send. All clients are in a process of their own that hardly does
anything; servers take turns, so that one measures while the others are idle.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.cold.memory import memory_of, tree
from benchmarks.report import Report, at_least, at_most, percentile, result
from examples.demo.server import started
from runtime import aconnect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Result, Target

TAKES = "4 min"
RIVALS = ("websockets", "picows")
PLOTTED = ("10,000 clients: broadcast", "10,000 clients: send to last client p50")

WORKER = Path(__file__).with_name("worker")

RATE = 0.8
"""The target: a broadcast reaches so much of the best bare server's rate."""

SOCKET_KIB = 20
"""The target: memory of an idle socket."""

HIBERNATED_BYTES = 100
"""The target: memory in hosts of a hibernated object; allocators are not exact to the byte."""


class Clients:
    """A process full of clients."""

    def __init__(self, port: int, path: str, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.websockets.clients"]
        self._process = subprocess.Popen(
            [*command, "127.0.0.1", str(port), path, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients ended: exit code {self._process.wait()}")
        return json.loads(line)

    def ask(self, what: str, times: int) -> Any:
        """Have the clients do something and return what they measured."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {times}\n")
        self._process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        """End the clients."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def rival(name: str) -> Iterator[tuple[int, int]]:
    """Run a bare server; yields its port and pid."""
    command = [sys.executable, "-m", "benchmarks.websockets.rivals", name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline()), server.pid
        finally:
            server.kill()


@contextmanager
def roost(data: Path, *, drowsy: bool = False) -> Iterator[tuple[int, int]]:
    """Serve the worker; yields the port and the pid of `roost`. Drowsy: idle objects leave at once."""
    folder = data / "worker"
    shutil.copytree(WORKER, folder)
    if drowsy:
        config = folder / "wrangler.toml"
        config.write_text(config.read_text().replace("idle_s = 10", "idle_s = 0"))
    with started(folder, data / "data", 1) as server:
        yield urlsplit(server.url).port or 80, server.process.pid


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    skipped = [] if find_spec("picows") else ["picows (pip install picows)"]
    rivals = ["websockets"] + ([] if skipped else ["picows"])
    results: list[Result] = []
    targets: list[Target] = []
    for count in [20] if quick else [1_000, 10_000]:
        found, target = broadcasts(rivals, count, quick=quick)
        results += found
        targets.append(target)
    sockets, objects, turns, servers = (100, 50, 4, 1) if quick else (10_000, 2_000, 8, 3)
    found, more = memory(sockets, objects, turns, servers)
    return Report([*results, *found], [*targets, *more], skipped)


def broadcasts(rivals: list[str], count: int, *, quick: bool) -> tuple[list[Result], Target]:
    """Send to all of so many clients, and echo to one of them."""
    turns, burst, singles, echoes = (2, 5, 3, 10) if quick else (5, 200_000 // count, 20, 300)
    systems = [*(f"bare {name}" for name in rivals), "Roost", "Roost, plain loop"]
    rates: dict[str, list[float]] = {system: [] for system in systems}
    last: dict[str, list[list[float]]] = {system: [] for system in systems[:-1]}
    echo: dict[str, list[list[float]]] = {system: [] for system in systems[:-1]}
    with tempfile.TemporaryDirectory() as data, ExitStack() as stack:
        ports = [stack.enter_context(rival(name))[0] for name in rivals]
        ports.append(stack.enter_context(roost(Path(data)))[0])
        crowds = {}
        for system, port in zip(systems[:-1], ports, strict=True):
            crowds[system] = Clients(port, "one", count)
            stack.callback(crowds[system].close)
        for turn in range(-1, turns):
            for system, clients in crowds.items():
                rate = clients.ask("burst", burst)
                slowest = clients.ask("single", singles)
                round_trips = clients.ask("echo", echoes)
                if turn >= 0:
                    rates[system].append(rate)
                    last[system].append(slowest)
                    echo[system].append(round_trips)
            looped = crowds["Roost"].ask("loop", burst)
            if turn >= 0:
                rates[systems[-1]].append(looped)
    name = f"{count:,} clients: "
    results = [result(f"{name}broadcast", s, rates[s], "messages/s") for s in systems]
    for percent in (50, 99):
        results += [
            result(f"{name}send to last client p{percent}", s, _each(last[s], percent), "ms")
            for s in systems[:-1]
        ]
    results += [
        result(f"{name}echo p{percent}", s, _each(echo[s], percent), "µs")
        for percent in (50, 99)
        for s in systems[:-1]
    ]
    by_system = {found.system: found.value for found in results if found.unit == "messages/s"}
    best = max(by_system[f"bare {rival}"] for rival in rivals)
    target = at_least(f"{name}broadcast against the best", by_system["Roost"] / best, RATE, "x")
    return results, target


def _each(turns: list[list[float]], percent: float) -> list[float]:
    return [percentile(taken, percent) for taken in turns]


def memory(
    sockets: int, objects: int, turns: int, servers: int
) -> tuple[list[Result], list[Target]]:
    """Look at what idle sockets of one object, and hibernated objects, leave in memory."""
    idle = []
    for _ in range(servers - 1):  # fresh ones: a server keeps the memory of sockets that have left
        with _drowsy() as (port, pid, folder):
            idle.append(_idle(port, pid, folder, sockets))
    with _drowsy() as (port, pid, folder), ExitStack() as stack:
        idle.append(_idle(port, pid, folder, sockets))
        host = asyncio.run(_asleep(folder))
        held = []
        for turn in range(turns):
            stack.enter_context(_crowd(port, f"{turn}-%d", objects))
            asyncio.run(_asleep(folder))
            held.append(memory_of([host]).anonymous * 2**20)
    per_socket = result("idle socket", "Roost, all processes", idle, "KiB")
    # The first turns fill the allocator's pools, which later ones use again. What is left is the
    # slope: the median over all pairs of turns, so that a page more or less in one does not count.
    points = list(enumerate(held))[2:]
    slopes = [(b - a) / (n - m) / objects for (m, a), (n, b) in combinations(points, 2)]
    hibernated = result("hibernated object, in hosts", "Roost", slopes, "bytes")
    return [per_socket, hibernated], [
        at_most("memory of an idle socket", per_socket.value, SOCKET_KIB, "KiB"),
        at_most("host memory of a hibernated object", hibernated.value, HIBERNATED_BYTES, "bytes"),
    ]


@contextmanager
def _drowsy() -> Iterator[tuple[int, int, Path]]:
    """Serve from a new data directory; yields the port, the pid of `roost`, and that directory."""
    with tempfile.TemporaryDirectory() as data, roost(Path(data), drowsy=True) as (port, pid):
        yield port, pid, Path(data) / "data"


def _idle(port: int, pid: int, folder: Path, sockets: int) -> float:
    """Return the KiB of an idle socket, of a server that has had a tenth as many."""
    with _crowd(port, "warm", sockets // 10):
        asyncio.run(_asleep(folder))
    before = memory_of(tree(pid)).pss
    with _crowd(port, "one", sockets):
        asyncio.run(_asleep(folder))
        return (memory_of(tree(pid)).pss - before) / sockets * 1024


@contextmanager
def _crowd(port: int, path: str, count: int) -> Iterator[Clients]:
    clients = Clients(port, path, count)
    try:
        yield clients
    finally:
        clients.close()


async def _asleep(data: Path) -> int:
    """Wait until no object is in memory; returns the pid of the host."""
    runtime = await aconnect(data)
    try:
        while any(host.objects for host in runtime.status()):  # noqa: ASYNC110  (another process's)
            await asyncio.sleep(0.05)
        return runtime.status()[0].pid
    finally:
        await runtime.close()
