"""A worker served by `roost`, and clients that say exactly what a test says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import connect

from examples.demo.server import started
from runtime import aconnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from websockets.asyncio.client import ClientConnection

    from runtime import AsyncRuntime

WORKER = Path(__file__).with_name("worker.py")

CONFIG = """
name = "rooms"
main = "worker.py"
[durable_objects]
bindings = [{{ name = "ROOMS", class_name = "Room" }}]
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
[roost]
idle_s = {idle_s}
gateways = {gateways}
[roost.websockets]
{websockets}
"""


class Rooms:
    """A served worker."""

    def __init__(self, url: str, data: Path, folder: Path) -> None:
        self.url = url
        self.data = data
        self.folder = folder

    @asynccontextmanager
    async def open(self, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
        """A client of a room."""
        async with connect(self.address(path), compression=None, max_queue=None, **options) as ws:
            yield ws

    def address(self, path: str) -> str:
        return f"{self.url.replace('http', 'ws')}/{path}"

    async def call(self, room: str, method: str) -> Any:
        """Call a method of a room over HTTP."""
        return json.loads(await self.get(f"{room}?call={method}"))

    async def get(self, path: str) -> str:
        def get() -> str:
            with urlopen(f"{self.url}/{path}", timeout=20) as answer:
                return answer.read().decode()

        return await asyncio.to_thread(get)

    async def facts(self, ws: ClientConnection) -> dict[str, Any]:
        await ws.send("facts")
        while not (text := await soon(ws)).startswith("{"):
            pass  # what others said meanwhile
        return json.loads(text)

    @asynccontextmanager
    async def runtime(self) -> AsyncIterator[AsyncRuntime]:
        async with aconnect_(self.data) as runtime:
            yield runtime

    async def asleep(self) -> None:
        """Wait until no object is in memory."""
        async with self.runtime() as runtime:
            await until(lambda: not any(host.objects for host in runtime.status()))

    async def kill(self, pid: int) -> None:
        """Kill a host, and wait until another one is up in its place."""
        async with self.runtime() as runtime:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: all(h.state == "up" and h.pid != pid for h in runtime.status()))


@asynccontextmanager
async def aconnect_(data: Path) -> AsyncIterator[AsyncRuntime]:
    runtime = await aconnect(data)
    try:
        yield runtime
    finally:
        await runtime.close()


async def until(happened: Callable[[], bool]) -> None:
    """Look until something has happened, within a bound that only a failure reaches."""
    async with asyncio.timeout(20):
        for _ in range(100_000):
            if happened():
                return
            await asyncio.sleep(0.002)


async def soon(ws: ClientConnection) -> Any:
    """The next message, within a bound that only a failure reaches."""
    return await asyncio.wait_for(ws.recv(), 20)


def serve(
    folder: Path,
    *,
    hosts: int = 2,
    gateways: int = 1,
    idle_s: float = 10,
    websockets: str = "",
) -> Any:
    folder.mkdir(exist_ok=True)
    shutil.copy(WORKER, folder / "worker.py")
    (folder / "wrangler.toml").write_text(
        CONFIG.format(idle_s=idle_s, gateways=gateways, websockets=websockets)
    )
    return started(folder, folder / "data", hosts)


@pytest.fixture(scope="package")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """One worker for all tests that do it no harm; each uses rooms of its own."""
    folder = tmp_path_factory.mktemp("rooms")
    with serve(folder) as server:
        yield Rooms(server.url, folder / "data", folder)
