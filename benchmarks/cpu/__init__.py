"""What parallel work costs on top of itself: pure-Python tasks of 5 ms, over two processes.

The measure is one process that does the same tasks one after another, in turns with the others within
one run. Rivals: ProcessPoolExecutor, and loky and mpire where they are installed.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cpu.work import Worker, loops_for, work
from benchmarks.report import Report, at_least, result
from runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Drive = Callable[[int, int], object]

TAKES = "1 min"
RIVALS = ("loky", "mpire")
PLOTTED = ("speed-up",)

TASKS = 400
TASK_MS = 5.0
PROCESSES = 2
SPEED_UP = 1.92
"""The target, against one process."""


def run(*, quick: bool = False) -> Report:
    """Measure everything."""
    tasks, turns = (20, 1) if quick else (TASKS, 5)
    loops = loops_for(TASK_MS)
    skipped = []
    with ExitStack() as stack:
        systems: dict[str, Drive] = {
            "one process": alone,
            "Roost": stack.enter_context(_roost()),
            "ProcessPoolExecutor": stack.enter_context(_pool()),
        }
        if importlib.util.find_spec("loky") is None:
            skipped.append("loky: it is not installed (pip install -e '.[bench]')")
        else:
            systems["loky"] = stack.enter_context(_loky())
        if importlib.util.find_spec("mpire") is None:
            skipped.append("mpire: it is not installed (pip install -e '.[bench]')")
        else:
            systems["mpire"] = stack.enter_context(_mpire())
        taken: dict[str, list[float]] = {name: [] for name in systems}
        for turn in range(-1, turns):
            for name, drive in systems.items():
                began = time.perf_counter()
                drive(tasks, loops)
                if turn >= 0:
                    taken[name].append(time.perf_counter() - began)
    name = f"{tasks} tasks of {TASK_MS:g} ms"
    ones = taken["one process"]
    ratios = {
        system: [one / its for one, its in zip(ones, times, strict=True)]
        for system, times in taken.items()
    }
    results = [result(name, system, times, "s") for system, times in taken.items()]
    results += [
        result("speed-up", system, found, "x")
        for system, found in ratios.items()
        if system != "one process"
    ]
    target = at_least(f"speed-up on {PROCESSES} hosts", median(ratios["Roost"]), SPEED_UP, "x")
    return Report(results, [target], skipped)


def alone(tasks: int, loops: int) -> None:
    """Do all tasks here."""
    for _ in range(tasks):
        work(loops)


@contextmanager
def _roost() -> Iterator[Drive]:
    """Two hosts, one object a task; each has as many objects as the other."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"WORKERS": Worker}, data_dir=data, hosts=PROCESSES) as rt,
    ):
        by_host: list[list[Any]] = [[] for _ in range(PROCESSES)]
        number = 0
        while any(len(objects) < TASKS // PROCESSES for objects in by_host):
            stub = rt.env.WORKERS.getByName(str(number))
            number += 1
            objects = by_host[int.from_bytes(stub.id.raw[:8], "big") % PROCESSES]
            if len(objects) < TASKS // PROCESSES:
                objects.append(stub.work)
        methods = [method for pair in zip(*by_host, strict=True) for method in pair]

        def drive(tasks: int, loops: int) -> None:
            for call in [method.submit(loops) for method in methods[:tasks]]:
                call.result()

        yield drive


@contextmanager
def _pool() -> Iterator[Drive]:
    """The standard library's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        yield lambda tasks, loops: [*pool.map(work, [loops] * tasks)]


@contextmanager
def _loky() -> Iterator[Drive]:
    """The executor of joblib."""
    import loky  # noqa: PLC0415

    with loky.ProcessPoolExecutor(PROCESSES) as pool:
        yield lambda tasks, loops: [*pool.map(work, [loops] * tasks)]


@contextmanager
def _mpire() -> Iterator[Drive]:
    """The pool of mpire, kept alive between turns."""
    from mpire import WorkerPool  # noqa: PLC0415

    with WorkerPool(PROCESSES, keep_alive=True) as pool:
        yield lambda tasks, loops: pool.map(work, [(loops,)] * tasks)
