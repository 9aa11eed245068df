"""A kill between any two steps of a slot's move loses nothing acknowledged, and no call, and runs none twice.

Whoever it hits: the host that gives the slot, the one that gets it, the supervisor, or a caller. Then one
host has the slot, and the instance goes on.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter as Tally
from pathlib import Path

import pytest

from runtime import AsyncRuntime
from runtime.client import instance
from tests.placement.steps import SLOT
from tests.placement.test_moves import SLOTS, in_slot, owners
from tests.placement.worker import Counter
from tests.stepping import soon, until
from workers.errors import RoostError, RuntimeClosed

STEPS = {
    "supervisor": [
        "orders it",
        "has ordered it",
        "writes the table",
        "counts the change",
        "tells the old host",
        "has told the old host",
        "tells who asked",
        "has told who asked",
    ],
    "old host": [
        "is told to give",
        "refuses calls",
        "has nothing under way",
        "lets go",
        "catches up",
        "has caught up",
        "has let go",
        "says so",
        "has said so",
        "hears that it is gone",
        "has answered all",
        "is asked for its last word",
        "was asked for its last word",
        "parks its calls",
        "sends its calls",
        "has sent its calls",
    ],
    "new host": [
        "parks its calls",
        "sends its calls",
        "has sent its calls",
        "finds it",
        "opens it",
        "has opened it",
    ],
    "caller": ["parks its calls", "sends its calls", "has sent its calls"],
}
"""What a move is made of, by who does it."""

COUNTERS, CHAINS = 5, 2


class Steps:
    """Lets the processes of an instance go on from step to step, and kills one at a step."""

    def __init__(self, path):
        self.path = path
        self.roles = {}
        """Who the processes are, by pid."""
        self.seen = Tally()
        self._wanted = self._victim = None

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._hear, self.path)
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _hear(self, reader, writer):
        pid, _, name = (await reader.readline()).decode().strip().partition(" ")
        step = self.roles.get(int(pid)), name
        self.seen[step] += 1
        if step == self._wanted:
            self._wanted = None
            (victim,) = (pid for pid, role in self.roles.items() if role == self._victim)
            kill(victim)
            self.struck.set_result(victim)
        writer.close()

    def strike(self, step, victim):
        """Kill one at the next step of somebody; `struck` has its pid."""
        self.struck = asyncio.get_running_loop().create_future()
        self._wanted, self._victim = step, victim


def kill(pid):
    """Kill a process and wait until it is dead, reaped or not."""
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([handle], [], [])
    os.close(handle)


class Scene:
    """An instance whose slot moves while objects of it are called from here and from another process."""

    def __init__(self, data, steps, callers, known=None):
        self.data, self.steps, self.callers = data, steps, callers
        self.calling = []
        self.known = {} if known is None else known
        """What is acknowledged, by name; one more may have been counted where a call was lost."""

    async def __aenter__(self):
        self.rt = await embedded(self.data).__aenter__()
        self.names = in_slot(self.rt, SLOT, COUNTERS + CHAINS + 2)
        self.theirs = [self.names.pop(), self.names.pop()]
        self.acks = self.data / "acks"
        self.acks.touch()
        await self.start_caller()
        for number, name in enumerate(self.names):
            via = f"via{number}" if number >= COUNTERS else None
            self.calling.append(asyncio.create_task(self.count(name, via)))
        return self

    async def __aexit__(self, *_):
        for task in self.calling:
            task.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.caller, signal.SIGKILL)
        await self.rt.close()

    async def start_caller(self):
        """Start another process that calls, when all that the one before knew is there."""
        for name, number in self.acknowledged().items():
            count = await self.rt.env.COUNTERS.getByName(name).count()
            assert count in {number, number + 1}
        self.caller = self.callers(self.steps.path, self.data, self.acks, *self.theirs)
        await self.more_of_theirs()

    def acknowledged(self):
        """What the other process knows to be counted."""
        known = dict.fromkeys(self.theirs, 0)
        text = self.acks.read_text()
        assert "Traceback" not in text, text
        for line in text.split("\n")[:-1]:
            name, number = line.split()
            known[name] = int(number)
        return known

    async def more_of_theirs(self):
        before = self.acknowledged()
        await until(lambda: all(self.acknowledged()[name] > n for name, n in before.items()))

    async def count(self, name, via):
        """Count in an object, through another one or not, until the instance has ended."""
        stub = self.rt.env.COUNTERS.getByName(name)
        self.known.setdefault(name, 0)
        lost = True  # as it may have been when the instance before was killed
        late = False
        while True:
            try:
                if lost:
                    found = await stub.count()
                    assert found in {self.known[name], self.known[name] + 1}
                    self.known[name], lost = found, False
                number = self.known[name]
                if via is None:
                    await stub.add(number)
                else:
                    await self.rt.env.COUNTERS.getByName(via).pass_on(name, number)
                self.known[name], late = number + 1, False
            except RuntimeClosed:
                return
            except AssertionError:
                if not late:
                    raise
                lost, late = True, False
            except RoostError as error:
                if not error.retryable:
                    raise
                lost = True
                late = via is not None  # what a dead host has called may come after one has looked

    def owner(self):
        return owners(self.rt)[SLOT]

    async def move(self):
        """Move the slot, whatever becomes of it."""
        old = self.owner()
        pids = [host.pid for host in self.rt.status()]
        self.steps.roles = {
            pids[old]: "old host",
            pids[1 - old]: "new host",
            self.rt.connection._instance.process.pid: "supervisor",
            self.caller: "caller",
        }
        with contextlib.suppress(RoostError):
            await soon(self.rt.move_slot(SLOT, 1 - old))

    async def goes_on(self):
        """Wait until all hosts are up and all objects have counted; they are where the table says."""
        await until(lambda: all(host.state == "up" for host in self.rt.status()))
        before = dict(self.known)
        await until(
            lambda: (
                any(t.done() for t in self.calling)
                or all(self.known[name] > n + 1 for name, n in before.items())
            )
        )
        for task in self.calling:
            if task.done():
                task.result()
        await self.more_of_theirs()
        pids = [host.pid for host in self.rt.status()]
        where = await asyncio.gather(
            *(self.rt.env.COUNTERS.getByName(name).pid() for name in self.names)
        )
        assert set(where) == {pids[self.owner()]}


def embedded(data):
    return AsyncRuntime(
        objects={"COUNTERS": Counter},
        data_dir=data,
        hosts=2,
        slots=SLOTS,
        balance=False,
        log_level="critical",
    )


@pytest.fixture
async def steps(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="roost-steps-") as folder:
        path = f"{folder}/steps"
        monkeypatch.setenv("STEPS", path)
        boot = "from tests.placement.steps import install; install(); from runtime."
        boot = instance._BOOT.replace("from runtime.", boot, 1)
        monkeypatch.setattr(instance, "_BOOT", boot)
        async with Steps(path) as steps:
            yield steps


@pytest.fixture(scope="module")
def callers():
    """Start a process that calls, and return its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.placement.callers"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def start(*words):
        process.stdin.write(f"{' '.join(map(str, words))}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield start
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


ALL = [(who, name) for who, names in STEPS.items() for name in names]


async def test_a_move_has_these_steps(tmp_path, steps, callers):
    async with Scene(tmp_path, steps, callers) as scene:
        for _ in range(3):
            await scene.move()
            await scene.goes_on()
        # A caller may ask for a last word when the next move has begun, in which that host is the new one.
        assert set(ALL) <= steps.seen.keys()
        assert {name for who, name in steps.seen if who is not None} == {name for _, name in ALL}


@pytest.mark.parametrize("victim", ["old host", "new host"])
async def test_a_host_is_killed_at_any_step(tmp_path, steps, callers, victim):
    async with Scene(tmp_path, steps, callers) as scene:
        moves = 0
        for step in ALL:
            steps.strike(step, victim)
            before = scene.owner()
            await scene.move()
            await soon(steps.struck)
            moves += scene.owner() != before
            await scene.goes_on()
        if victim == "old host":
            assert 0 < moves < len(ALL)  # what it had not given it has kept
        else:
            assert moves == len(ALL)


async def test_a_caller_is_killed_at_any_step(tmp_path, steps, callers):
    async with Scene(tmp_path, steps, callers) as scene:
        for step in ALL:
            steps.strike(step, "caller")
            before = scene.owner()
            await scene.move()
            await soon(steps.struck)
            assert scene.owner() != before
            await scene.start_caller()
            await scene.goes_on()


async def test_the_supervisor_is_killed_at_any_step(tmp_path, steps, callers):
    known = {}
    for step in ALL:
        async with Scene(tmp_path, steps, callers, known) as scene:
            assert list(owners(scene.rt)) == [number % 2 for number in range(SLOTS)]
            steps.strike(step, "supervisor")
            await scene.move()
            await soon(steps.struck)
            await soon(asyncio.gather(*scene.calling))
            known = scene.known
    async with Scene(tmp_path, steps, callers, known) as scene:
        await scene.goes_on()
    assert {path.suffix for path in (tmp_path / "slots").iterdir()} == {".sqlite", ".lock"}
