"""The same counter as an actor of each system, driven alike, each in a fresh program.

A rival is a module here with a `system()`: a context manager that starts it and gives a `System`. Its
code is what the rival's documentation recommends. What a system cannot do it leaves out.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from benchmarks.report import result

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Result

MODULES = {
    "roost": ("Roost", "runtime"),
    "ray_actors": ("Ray", "ray"),
    "xoscar_actors": ("xoscar", "xoscar"),
    "dask_actors": ("dask actors", "distributed"),
    "managers": ("BaseManager", "multiprocessing"),
    "echo": ("asyncio Unix echo", "asyncio"),
}
"""The rivals by module: the name of each, and what must be installed."""


STARTS = 3
"""How often each is started; the first start, which finds its files, does not count."""


@dataclass(frozen=True, slots=True)
class System:
    """What a rival can do. Everything blocks until it is done."""

    call: Callable[[], Any]
    """Calls the counter once."""
    pipeline: Callable[[int], None] | None = None
    """Makes so many calls to one actor, many under way at a time."""
    pipeline_many: Callable[[int], None] | None = None
    """Makes so many calls to 1,000 actors in turn, on two processes."""
    send: Callable[[Any], Any] | None = None
    """Calls an actor with an array."""


def run(*, quick: bool) -> tuple[list[Result], list[str]]:
    """Run every rival that is installed; returns results and who was skipped."""
    results: list[Result] = []
    skipped = []
    for module, (name, needs) in MODULES.items():
        if importlib.util.find_spec(needs) is None:
            skipped.append(f"{name}: {needs} is not installed (pip install -e '.[bench]')")
            continue
        try:
            starts = [] if quick else [_program(module, "start") for _ in range(STARTS)][1:]
            rows = [*chain(*starts), *_program(module, *["quick"] * quick)]
        except subprocess.CalledProcessError as error:
            skipped.append(f"{name}: it failed: {error.stderr.strip().splitlines()[-1:]}")
            continue
        found: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            found.setdefault((row["name"], row["unit"]), []).extend(row["repeats"])
        results += [result(what, name, repeats, unit) for (what, unit), repeats in found.items()]
    return results, skipped


def _program(module: str, *words: str) -> list[dict[str, Any]]:
    """Run the program of a rival; returns what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.calls.rivals.program", module, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows
