"""How long a fresh Python program waits for its first answer, and what memory it then holds.

Each repeat is a new process with a new data directory: `once` is the program. The rival is Python
itself: a process that only says that it is there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cold.memory import Memory, memory_of, tree
from benchmarks.report import Report, at_most, result

TAKES = "10 s"
RIVALS = ()
PLOTTED = ("process start to answer", "memory, sum of PSS")

FIRST_ANSWER_S = 0.7
"""The target, from Runtime() to the first answer."""

HOSTS = 2

_PYTHON = "import sys, time; print(time.monotonic(), flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Start:
    """What one program did. Times in seconds."""

    to_word: float
    """From the start of its process until it had what it wanted."""
    details: list[float]
    """What else it said."""
    memory: Memory


def start(*command: str) -> Start:
    """Run a Python program until its first line, and look at what it then is."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        if not line:
            raise RuntimeError(f"{command} ended without a word")
        at, *details = map(float, line.split())
        memory = memory_of(tree(program.pid))
        program.communicate()  # closes its input, so that it ends
    return Start(at - began, details, memory)


def roost() -> Start:
    """Run a program that makes an instance and asks one object."""
    with tempfile.TemporaryDirectory() as data:
        return start(str(Path(__file__).with_name("once.py")), data, str(HOSTS))


def run(*, quick: bool = False) -> Report:
    """Start a few programs, one after another."""
    roost()  # so that all files are in memory
    pairs = [(start("-c", _PYTHON), roost()) for _ in range(1 if quick else 5)]
    python, ours = [list(starts) for starts in zip(*pairs, strict=True)]
    first = result("Runtime() to answer", "Roost", [s.details[1] for s in ours], "s")
    results = [
        first,
        result("process start to answer", "Roost", [s.to_word for s in ours], "s"),
        result("of that, importing", "Roost", [s.details[0] for s in ours], "s"),
        result("process start to print", "Python", [s.to_word for s in python], "s"),
    ]
    for system, starts in (("Roost", ours), ("Python", python)):
        held = [s.memory for s in starts]
        results += [
            result("processes", system, [m.processes for m in held], "processes"),
            result("memory, sum of PSS", system, [m.pss for m in held], "MiB"),
            result("memory, sum of RSS", system, [m.rss for m in held], "MiB"),
        ]
    name = f"Runtime() with {HOSTS} hosts to the first answer"
    return Report(results, [at_most(name, first.value, FIRST_ANSWER_S, "s")])
