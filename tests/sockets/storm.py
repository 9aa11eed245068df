"""A room under fire: all clients of one object talk while hosts are killed and it is evicted.

`python -m tests.sockets.storm 2000 200` runs it with 2,000 clients and 200 blows; the test runs a
small one. What must hold is checked by every client as it goes, and against the room's history in
the end: no connection ends, a client hears messages in the order in which the room took them, the
room takes a client's in the order in which they were sent, and what was acknowledged is in the
history, once.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from websockets.asyncio.client import connect

from examples.demo.server import started
from runtime import aconnect
from runtime.ids import slot_of
from runtime.supervisor.restarts import CRASHES, QUICK

from .conftest import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from websockets.asyncio.client import ClientConnection

    from runtime import AsyncRuntime

WORKER = Path(__file__).with_name("storm_worker.py")

BURST = 2
"""Messages that a client sends before it waits for their answers."""

EVICTED = 0.2
"""The part of the blows that are evictions; the others are kills."""


@dataclass(slots=True)
class Talker:
    """One client: says something, waits until it is acknowledged, says the next thing."""

    name: str
    ws: ClientConnection
    quiet: Quiet
    acknowledged: list[str] = field(default_factory=list)
    pending: dict[str, None] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    """What it was asked to say again: it may hear that twice, late the second time."""
    asked: int = 0
    last: int = 0
    """The number of the latest message that it has heard."""
    serial: int = 0

    async def talk(self, stop: asyncio.Event) -> None:
        """Talk until told to stop; ends when the last thing said is acknowledged."""
        await self._say_more()
        async for text in self.ws:
            assert isinstance(text, str)
            if text == "again":
                self.asked += 1
                self.again.update(self.pending)
                await self._say_pending()
                continue
            number, _, mark = text.partition(" ")
            if mark not in self.again:
                assert int(number) > self.last, f"{self.name} heard {number} after {self.last}"
            self.last = max(self.last, int(number))
            if mark in self.pending:
                del self.pending[mark]
                self.acknowledged.append(mark)
                if not self.pending:
                    if stop.is_set():
                        return
                    await self._say_more()
        raise AssertionError(f"{self.name} was disconnected: {self.ws.close_code}")

    async def _say_more(self) -> None:
        await self.quiet.over()
        first = len(self.acknowledged)
        self.pending = dict.fromkeys(f"{self.name}-{n}" for n in range(first, first + BURST))
        await self._say_pending()

    async def _say_pending(self) -> None:
        for mark in self.pending:
            self.serial += 1
            await self.ws.send(f"{self.serial} {mark}")


class Quiet:
    """A time in which nobody begins to say anything, so that the room falls asleep."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._over.set()

    async def over(self) -> None:
        """Wait for its end."""
        await self._over.wait()

    async def evict(self, runtime: AsyncRuntime) -> None:
        """Be quiet until no object is in memory."""
        self._over.clear()
        await _until(lambda: not any(host.objects for host in runtime.status()))
        self._over.set()


async def strike(runtime: AsyncRuntime, quiet: Quiet, blows: int, pause: float) -> int:
    """Kill hosts at random, or evict the room; returns how many of the blows were kills.

    A host is not killed so often in a row that its supervisor gives up: see `runtime.supervisor.restarts`.
    """
    kills = 0
    row: Counter[int] = Counter()
    died: dict[int, float] = {}
    for _ in range(blows):
        await asyncio.sleep(pause * random.random() * 2)
        await _until(lambda: all(host.state == "up" for host in runtime.status()))
        victim = random.choice(runtime.status())
        if time.monotonic() - died.get(victim.host, -QUICK) > 2 * QUICK:
            row[victim.host] = 0
        if random.random() < EVICTED or row[victim.host] == CRASHES - 2:
            await quiet.evict(runtime)
        else:
            os.kill(victim.pid, signal.SIGKILL)
            kills += 1
            row[victim.host] += 1
            died[victim.host] = time.monotonic()
    return kills


async def shift(runtime: AsyncRuntime, _quiet: Quiet, blows: int, pause: float) -> int:
    """Move the room to and fro between hosts, while everybody talks; nobody is killed."""
    raw = runtime.env.ROOMS.getByName("one").id.raw
    roster = runtime.connection.roster
    slot = slot_of(raw, roster.slots)
    for _ in range(blows):
        await asyncio.sleep(pause * random.random() * 2)
        await runtime.move_slot(slot, (roster.owners[slot] + 1) % roster.hosts)
    return 0


async def _until(happened: Any) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110  (another process decides)
            await asyncio.sleep(0.005)


async def storm(
    folder: Path,
    *,
    clients: int,
    blows: int,
    pause: float,
    hosts: int,
    strike: Callable[..., Coroutine[Any, Any, int]] = strike,
    idle_s: float = 0,
) -> dict[str, int]:
    """Run it. Raises AssertionError when a promise is broken; returns what was counted."""
    shutil.copy(WORKER, folder / "worker.py")
    config = CONFIG.format(idle_s=idle_s, gateways=1, websockets="")
    (folder / "wrangler.toml").write_text(config)
    data = folder / "data"
    with started(folder, data, hosts) as server:
        runtime = await aconnect(data)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runtime.close)
            quiet = Quiet()
            talkers = []
            for number in range(clients):
                address = f"{server.url.replace('http', 'ws')}/?name=c{number}"
                ws = await connect(address, compression=None, max_queue=None, ping_interval=None)
                stack.callback(ws.transport.abort)
                talkers.append(Talker(f"c{number}", ws, quiet))
            stop = asyncio.Event()
            talks = [asyncio.create_task(talker.talk(stop)) for talker in talkers]
            striking = asyncio.create_task(strike(runtime, quiet, blows, pause))
            striking.add_done_callback(lambda _: stop.set())
            async with asyncio.timeout(60 + blows * (pause + 2)):
                await asyncio.gather(striking, *talks)
            room = runtime.env.ROOMS.getByName("one")
            check(talkers, await room.history(), await room.members())
        return {
            "clients": clients,
            "kills": striking.result(),
            "evictions": blows - striking.result(),
            "acknowledged": sum(len(talker.acknowledged) for talker in talkers),
            "asked again": sum(talker.asked for talker in talkers),
        }


def check(
    talkers: list[Talker], history: list[tuple[int, str, int, str]], members: list[tuple[str, str]]
) -> None:
    """Compare what clients know with what the room knows. Raises AssertionError."""
    assert sorted(members) == sorted((talker.name, talker.name) for talker in talkers)
    stored = [mark for _, _, _, mark in history]
    assert len(stored) == len(set(stored))
    missing = {mark for talker in talkers for mark in talker.acknowledged} - set(stored)
    assert not missing, f"{len(missing)} acknowledged messages are in no history"
    latest = dict.fromkeys((talker.name for talker in talkers), 0)
    for number, name, serial, _ in history:
        assert serial > latest[name], f"{number} of {name} was taken out of its order"
        latest[name] = serial


def main(clients: int, blows: int) -> None:
    """Run a large storm."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(storm(Path(folder), clients=clients, blows=blows, pause=0.2, hosts=2))
    sys.stdout.write(f"{found} in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
