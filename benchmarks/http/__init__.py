"""What a request costs: the counter object over HTTP, in memory, with storage, and with KV.

Beside it, in turns within one run: servers that answer a constant on one core (the limit of what a
Python gateway could do: uvicorn, granian, and the gateway's own), and the same worker in JavaScript under miniflare, a local workerd. wrk makes
the load; its process shares the cores with the servers. Without wrk, nothing can be measured.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.report import Report, at_least, at_most, result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Result, Target

    Figures = tuple[float, float, float]

HERE = Path(__file__).parent
MODULES = Path(sys.prefix) / "rivals"
"""Where `make bench` puts miniflare."""

TAKES = "8 min"
RIVALS = ("uvicorn", "granian")
PLOTTED = (
    "memory, 1 object, 32 connections",
    "storage, 1 object, 32 connections",
    "kv, 1 object, 32 connections",
    "storage, 1,000 objects, 32 connections",
)

BARE = "bare "
PATHS = ("memory", "storage", "kv")
CONNECTIONS = (1, 32, 256)
OBJECTS = (1, 1000)

OF_UVICORN = 0.40
TIMES_MINIFLARE = {"memory": 4, "storage": 6, "kv": 8}
P99_TIMES_P50 = 10
"""The targets, at 32 connections."""

_SCRIPT = """
math.randomseed(os.time())
local requests = {{}}
init = function()
  for id = 1, {objects} do requests[id] = wrk.format("GET", "/{path}?id=" .. id) end
end
request = function()
  return requests[math.random({objects})]
end
done = function(summary, latency)
  io.write(string.format("figures %f %f %f %d\\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.timeout + summary.errors.read))
end
"""
_FIGURES = re.compile(r"^figures (\S+) (\S+) (\S+) (\d+)$", re.MULTILINE)


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    if shutil.which("wrk") is None:
        return Report([], [], ["everything: wrk is not installed (apt-get install wrk)"])
    turns, seconds = (1, 1) if quick else (3, 3)
    skipped = []
    with ExitStack() as stack:
        servers = {"Roost": stack.enter_context(roost())}
        for name in ("gateway", "uvicorn", "granian"):
            if name != "gateway" and find_spec(name) is None:
                skipped.append(f"{BARE}{name}: not installed (pip install -e .[bench])")
            else:
                servers[BARE + name] = stack.enter_context(bare(name))
        if shutil.which("node") is None or not (MODULES / "node_modules" / "miniflare").exists():
            skipped.append("miniflare: node or the npm package miniflare is missing (make bench)")
        else:
            servers["miniflare"] = stack.enter_context(miniflare())
        results: list[Result] = []
        for path in PATHS[:1] if quick else PATHS:
            for objects in OBJECTS:
                for connections in (32,) if quick else CONNECTIONS:
                    results += load(servers, path, objects, connections, turns, seconds)
    return Report(results, targets(results), skipped)


def load(
    servers: dict[str, int], path: str, objects: int, connections: int, turns: int, seconds: int
) -> list[Result]:
    """Load the servers in turns; returns requests a second and latencies of each."""
    found: dict[str, list[Figures]] = {name: [] for name in servers}
    for turn in range(-1, turns):
        for name, port in servers.items():
            if name.startswith(BARE) and (path, objects) != ("memory", 1):
                continue
            figures = wrk(port, path, objects, connections, seconds if turn >= 0 else 1)
            if turn >= 0:
                found[name].append(figures)
    what = f"{path}, {objects:,} object{'s' * (objects > 1)}, {connections} connections"
    rows = []
    for name, its in found.items():
        if its:
            rates, p50, p99 = ([figures[n] for figures in its] for n in range(3))
            rows += [
                result(what, name, rates, "requests/s"),
                result(f"{what}, p50", name, p50, "ms"),
                result(f"{what}, p99", name, p99, "ms"),
            ]
    return rows


def wrk(port: int, path: str, objects: int, connections: int, seconds: int) -> Figures:
    """Load a server; returns requests a second, and p50 and p99 in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(path=path, objects=objects))
        script.flush()
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name),
                *("--timeout", "30s"),  # a slow answer is slow, and no failure
                f"http://127.0.0.1:{port}/",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    match = _FIGURES.search(done.stdout)
    assert match is not None, done.stdout
    if int(match[4]):
        raise RuntimeError(f"/{path} on port {port}: {match[4]} requests failed")
    return float(match[1]), float(match[2]) / 1000, float(match[3]) / 1000


@contextmanager
def serving(*command: str, cwd: Path | None = None) -> Iterator[str]:
    """Run a server; gives its first line, once it has one, and ends it afterwards."""
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline()
        finally:
            server.terminate()
            server.communicate()


@contextmanager
def bare(name: str) -> Iterator[int]:
    """Run a server that answers a constant."""
    with serving(sys.executable, "-m", "benchmarks.http.bare", name) as line:
        port = int(line)
        for _ in range(200):  # granian binds it a while later
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield port


@contextmanager
def miniflare() -> Iterator[int]:
    """Run the same worker in JavaScript."""
    with (
        tempfile.TemporaryDirectory() as persist,
        serving("node", str(HERE / "miniflare.mjs"), str(MODULES), persist) as line,
    ):
        yield int(line)


@contextmanager
def roost() -> Iterator[int]:
    """Run the worker as a user would, for production."""
    command = str(Path(sys.executable).with_name("roost"))
    with (
        tempfile.TemporaryDirectory() as data,
        serving(
            *(command, "serve", str(HERE / "worker"), "--port", "0", "--data-dir", data),
            *("--log-level", "error", "--hosts", str(max(1, (os.cpu_count() or 2) - 1))),
        ) as line,
    ):
        match = re.search(r":(\d+)", line)
        assert match is not None, line
        yield int(match[1])


def targets(results: list[Result]) -> list[Target]:
    """Hold the results at 32 connections against the targets."""
    rates = {(r.system, r.name): r.value for r in results if r.unit == "requests/s"}
    found: list[Target] = []
    for (system, name), value in rates.items():
        if system != "Roost" or ", 32 connections" not in name:
            continue
        path = name.partition(",")[0]
        if ("bare uvicorn", name) in rates:
            ratio = value / rates["bare uvicorn", name]
            found.append(at_least(f"{name}, against bare uvicorn", ratio, OF_UVICORN, "x"))
        if ("miniflare", name) in rates:
            ratio = value / rates["miniflare", name]
            what = f"{name}, against miniflare"
            found.append(at_least(what, ratio, TIMES_MINIFLARE[path], "x"))
    tails = {(r.name, r.unit): r.value for r in results if r.system == "Roost"}
    ratios = [
        tails[f"{name}, p99", "ms"] / tails[f"{name}, p50", "ms"]
        for system, name in rates
        if system == "Roost"
    ]
    return [
        *found,
        at_most("p99 against p50, the worst", max(ratios), P99_TIMES_P50, "x"),
        at_most("p99 against p50, the median", median(ratios), P99_TIMES_P50, "x"),
    ]
