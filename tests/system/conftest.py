"""Instances started as a user starts them, in a house of their own, and what they leave behind.

Every module has a `house`: a runtime directory that nobody else uses, by which all processes of the
module's instances are known. When the module ends the house must be empty.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from runtime.directories import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds that something may take which takes milliseconds: only a failure waits so long."""

PROGRAMS = Path(__file__).parent / "programs"
ROOST = Path(sys.executable).with_name("roost")
SHM = Path("/dev/shm")

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

WRANGLER = """
name = "house"
main = "src/worker.py"
kv_namespaces = [{ binding = "KV", id = "kv" }]
[durable_objects]
bindings = [{ name = "ROOMS", class_name = "Room" }]
[[migrations]]
tag = "v1"
new_classes = ["Room"]
"""


def wait_for_end(pids: list[int], seconds: float = PATIENCE) -> list[int]:
    """Wait until processes, of whatever parent, have ended; returns those that have not."""
    give_up = time.monotonic() + seconds
    left = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], max(0.0, give_up - time.monotonic()))[0]:
                left.append(pid)
        finally:
            os.close(handle)
    return left


def kill(pid: int) -> None:
    """Kill a process with SIGKILL, and wait until it is dead (its parent may still have to reap it)."""
    os.kill(pid, signal.SIGKILL)
    assert not wait_for_end([pid])


@dataclass
class House:
    """Where the instances of a module live."""

    runtime: Path
    grounds: Path
    """Where all data directories are."""
    before: frozenset[int | str] = frozenset()
    """What was there first: files of instances that other modules have killed."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of what belongs to this house."""
        return {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)}

    def processes(self) -> list[int]:
        """All processes that were started in this house, and their children, but this one."""
        mark = f"XDG_RUNTIME_DIR={self.runtime}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    def files(self) -> list[str]:
        """What instances have outside of their data directories: run directories, shared memory."""
        marks = {mark_of(lock.parent) for lock in self.grounds.rglob("lock")}
        shared = [path for path in SHM.iterdir() if any(mark in path.name for mark in marks)]
        return sorted(str(path) for path in (*self.runtime.glob("roost-*/*"), *shared))

    def inventory(self) -> frozenset[int | str]:
        """What is there now: processes and files."""
        return frozenset((*self.processes(), *self.files()))

    def leftovers(self, since: frozenset[int | str] | None = None) -> list[str]:
        """What is there and was not before, or not `since`, when it has had time to end."""
        since = self.before if since is None else since
        processes = [pid for pid in self.processes() if pid not in since]
        left = [_describe(pid) for pid in wait_for_end(processes)]
        return left + [file for file in self.files() if file not in since]


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()}"
    return str(pid)


class Lines:
    """What a program says on a pipe, line by line, as it comes."""

    def __init__(self, pipe: IO[str]) -> None:
        self.all: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[str]) -> None:
        with contextlib.suppress(OSError):  # the end of a terminal
            for line in pipe:
                with self._news:
                    self.all.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def text(self) -> str:
        """Everything said so far."""
        return "\n".join(self.all)

    def wait(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Return the first line from number `after` on that matches, as soon as it is there."""
        give_up = time.monotonic() + PATIENCE
        with self._news:
            while True:
                for line in self.all[after:]:
                    if match := re.search(pattern, line):
                        return match
                after = len(self.all)
                if self._ended or not self._news.wait(give_up - time.monotonic()):
                    raise AssertionError(f"nobody said {pattern!r}, but:\n{self.text}")

    def whole(self) -> str:
        """Everything, when the pipe is closed."""
        give_up = time.monotonic() + PATIENCE
        with self._news:
            while not self._ended:
                assert self._news.wait(give_up - time.monotonic()), f"still open:\n{self.text}"
        return self.text


@dataclass
class Program:
    """A program under test."""

    process: subprocess.Popen[str]
    out: Lines = field(init=False)
    err: Lines = field(init=False)

    def __post_init__(self) -> None:
        self.out = Lines(self.process.stdout)
        terminal = self.process.stderr is self.process.stdout
        self.err = self.out if terminal else Lines(self.process.stderr)

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str = "") -> None:
        """Write a line to it."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def press_ctrl_c(self) -> None:
        """Type it, in a terminal."""
        self.process.stdin.write("\x03")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on:\n{self.out.text}\n{self.err.text}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()


@dataclass
class Served(Program):
    """A `roost serve` or `roost dev` that is ready."""

    data: Path = Path()
    port: int = 0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    runtime = Path(tempfile.mkdtemp(prefix="roost-house-"))  # short: sockets stand in it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # for a Runtime of the test itself
        house = House(runtime, tmp_path_factory.getbasetemp())
        house.before = house.inventory()
        yield house
        left = house.leftovers()
        for pid in house.processes():
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(runtime)
    assert not left


@pytest.fixture
def run(house: House) -> Iterator[Callable[..., Program]]:
    """Start a program: arguments after `python`, or a path of one of `programs/`."""
    started: list[Program] = []

    def start(*arguments: object, cwd: Path | None = None, **env: str) -> Program:
        program = Program(_open(house, [sys.executable, *map(str, arguments)], cwd, env))
        started.append(program)
        return program

    yield start
    for program in started:
        program.close()


@pytest.fixture
def type_in(house: House) -> Iterator[Callable[..., Program]]:
    """Start a program in a terminal of its own, where it is the foreground job; `tell` types."""
    started: list[Program] = []

    def start(*arguments: object, cwd: Path | None = None) -> Program:
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=house.env,
            start_new_session=True,
        )
        os.close(theirs)
        process.stdin = os.fdopen(os.dup(ours), "w")
        process.stdout = process.stderr = os.fdopen(ours)
        program = Program(process)
        started.append(program)
        return program

    yield start
    for program in started:
        program.close()


@pytest.fixture(scope="module")
def serve(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Served]]:
    """Serve a worker through the command, and wait until it is ready."""
    started: list[Served] = []

    def start(
        script: str,
        *options: object,
        wrangler: str = WRANGLER,
        verb: str = "serve",
        folder: Path | None = None,
    ) -> Served:
        folder = folder or tmp_path_factory.mktemp("worker")
        (folder / "src").mkdir(exist_ok=True)
        (folder / "src/worker.py").write_text(script)
        (folder / "wrangler.toml").write_text(wrangler)
        command = [str(ROOST), verb, str(folder), "--port", "0", "--hosts", "2", *map(str, options)]
        served = Served(_open(house, command, None, {}))
        started.append(served)
        served.data = folder / ".roost"
        served.folder = folder
        served.port = int(served.out.wait(r"is ready on .*:(\d+)")[1])
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.signal(signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                served.ended()
        served.close()


def _open(
    house: House, command: list[str], cwd: Path | None, env: dict[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=house.env | env,
    )


@pytest.fixture(scope="session")
def programs() -> Path:
    return PROGRAMS
