"""A chat under fire: many clients talk while hosts are killed and objects evicted.

`python -m tests.sockets.storm 2000 200` runs it with 2,000 clients and 200 kills; the test runs a
small one. What must hold is checked by every client as it goes, and against the rooms' histories in
the end: no connection ends, each client sees a room's messages in their order, and what came back
to its sender is in the history, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from websockets.asyncio.client import connect

from examples.demo.server import started
from runtime import aconnect

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from runtime import AsyncRuntime

CHAT = Path(__file__).parents[2] / "examples" / "chat"


@dataclass(slots=True)
class Talker:
    """One client: says something, waits until it comes back, says the next thing."""

    room: str
    name: str
    ws: ClientConnection
    acknowledged: list[str] = field(default_factory=list)
    again: int = 0
    """How often it was asked to say something again."""
    last: int = 0
    """The number of the room's latest message that it has seen."""
    pending: str = ""

    async def talk(self, stop: asyncio.Event) -> None:
        """Talk until told to stop; ends when the last thing said has come back."""
        await self._say()
        async for text in self.ws:
            message = json.loads(text)
            if message.get("type") == "again":
                self.again += 1
                await self._say_pending()
            elif "number" in message:
                self._see(message)
                if message["id"] == self.pending:
                    self.acknowledged.append(self.pending)
                    if stop.is_set():
                        return
                    await self._say()
        raise AssertionError(f"{self.name} was disconnected: {self.ws.close_code}")

    def _see(self, message: dict[str, Any]) -> None:
        number = message["number"]
        if message["id"] != self.pending or message["name"] != self.name:
            assert number > self.last, f"{self.name} saw {number} after {self.last}"
        self.last = max(self.last, number)

    async def _say(self) -> None:
        self.pending = f"{self.name}-{len(self.acknowledged)}"
        await self._say_pending()

    async def _say_pending(self) -> None:
        await self.ws.send(json.dumps({"text": self.pending, "id": self.pending}))


async def kill_hosts(runtime: AsyncRuntime, kills: int, pause: float) -> None:
    """Kill hosts at random, so many times, each only when all are up."""
    for _ in range(kills):
        async with asyncio.timeout(60):
            while not all(host.state == "up" for host in runtime.status()):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        victim = random.choice(runtime.status())
        os.kill(victim.pid, signal.SIGKILL)
        await asyncio.sleep(pause * random.random() * 2)


async def storm(
    folder: Path, *, clients: int, rooms: int, kills: int, pause: float, hosts: int
) -> dict[str, int]:
    """Run it. Raises AssertionError when a promise is broken; returns what was counted."""
    shutil.copytree(CHAT / "src", folder / "src")
    config = (CHAT / "wrangler.toml").read_text() + "\n[roost]\nidle_s = 0\n"
    (folder / "wrangler.toml").write_text(config)
    data = folder / "data"
    with started(folder, data, hosts) as server:
        address = server.url.replace("http", "ws")
        runtime = await aconnect(data)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runtime.close)
            talkers = []
            for number in range(clients):
                room, name = f"room-{number % rooms}", f"c{number}"
                ws = await connect(
                    f"{address}/rooms/{room}?name={name}",
                    compression=None,
                    max_queue=None,
                    open_timeout=60,
                    ping_interval=None,
                )
                stack.callback(ws.transport.abort)
                talkers.append(Talker(room, name, ws))
            stop = asyncio.Event()
            talks = [asyncio.create_task(talker.talk(stop)) for talker in talkers]
            killing = asyncio.create_task(kill_hosts(runtime, kills, pause))
            killing.add_done_callback(lambda _: stop.set())
            async with asyncio.timeout(60 + kills * (pause + 2)):
                await asyncio.gather(killing, *talks)
            missing = doubled = 0
            for number in range(rooms):
                room = f"room-{number}"
                history = await runtime.env.ROOMS.getByName(room).history(10_000_000)
                ids = [message["id"] for message in history]
                doubled += len(ids) - len(set(ids))
                said = {i for t in talkers if t.room == room for i in t.acknowledged}
                missing += len(said - set(ids))
            assert not missing, f"{missing} acknowledged messages are in no history"
            assert not doubled, f"{doubled} messages are in a history twice"
        return {
            "clients": clients,
            "kills": kills,
            "acknowledged": sum(len(talker.acknowledged) for talker in talkers),
            "asked again": sum(talker.again for talker in talkers),
        }


def main(clients: int, kills: int) -> None:
    """Run a large storm."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(
            storm(Path(folder), clients=clients, rooms=100, kills=kills, pause=0.3, hosts=4)
        )
    sys.stdout.write(f"{found} in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
