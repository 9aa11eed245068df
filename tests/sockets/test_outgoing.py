"""WebSockets that objects open: to another object of the same worker, over its front door."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import serve as listen

from .conftest import Rooms, serve, soon, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from websockets.asyncio.server import ServerConnection


@pytest.fixture(scope="module")
def drowsy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """A worker whose objects leave memory at once, and whose host may be killed."""
    folder = tmp_path_factory.mktemp("drowsy")
    with serve(folder, hosts=1, idle_s=0) as server:
        yield Rooms(server.url, folder / "data", folder)


@asynccontextmanager
async def upstream() -> AsyncIterator[tuple[str, asyncio.Queue[ServerConnection]]]:
    """A server that objects connect to: its URL, and the connections as they come."""
    found: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def keep(far: ServerConnection) -> None:
        await found.put(far)
        await far.wait_closed()

    async with listen(keep, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"ws://{host}:{port}/", found


async def ended(far: ServerConnection) -> int | None:
    """Wait for the end of a connection; returns its code."""
    await asyncio.wait_for(far.wait_closed(), 20)
    return far.close_code


async def test_an_object_is_the_client_of_another_server(rooms: Rooms) -> None:
    async with rooms.open("near") as ws, rooms.open("far") as far:
        await ws.send(f"relay {rooms.url}/far?name=near")
        assert await soon(ws) == "relaying"
        await far.send("others to all")
        assert await soon(far) == "1"
        assert await soon(ws) == "relayed to all"
        await ws.send("up echo answer")
        assert await soon(ws) == "relayed answer"
        await ws.send("hang")
        assert await soon(far) == "left near 4005 enough"
        assert await soon(ws) == "upstream 4005"


async def test_a_refused_upgrade_is_a_response(rooms: Rooms) -> None:
    async with rooms.open("refused") as ws:
        await ws.send(f"relay {rooms.url}/pid")
        assert await soon(ws) == "refused 200"


async def test_a_websocket_made_from_a_url_tells_when_it_is_open(rooms: Rooms) -> None:
    async with rooms.open("dialler") as ws:
        await ws.send(f"dial {rooms.address('dialled')}")
        assert [await soon(ws), await soon(ws)] == ["dialling 0", "open 1"]
        await ws.send("up echo you")
        assert await soon(ws) == "dialled you"
        await ws.send("dial ws://127.0.0.1:9")
        assert [await soon(ws), await soon(ws)] == ["dialling 0", "failed ConnectionError"]


async def test_an_outgoing_websocket_keeps_its_object_in_memory_until_it_is_closed(
    drowsy: Rooms,
) -> None:
    async with upstream() as (url, found), drowsy.open("kept") as ws, drowsy.runtime() as runtime:
        await ws.send(f"relay {url.replace('ws', 'http', 1)}")
        assert await soon(ws) == "relaying"
        far = await found.get()
        await drowsy.call("elsewhere", "noted")
        await until(lambda: sum(host.objects for host in runtime.status()) == 1)
        await far.send("you are still there")
        assert await soon(ws) == "relayed you are still there"
        await far.close(4001, "enough")
        assert await soon(ws) == "upstream 4001"
        await drowsy.asleep()


async def test_an_outgoing_websocket_ends_with_an_object_that_is_reset(drowsy: Rooms) -> None:
    async with upstream() as (url, found), drowsy.open("reset") as ws:
        await ws.send(f"relay {url.replace('ws', 'http', 1)}")
        assert await soon(ws) == "relaying"
        far = await found.get()
        await ws.send("abort")
        assert await soon(ws) == "error HostLost True"
        assert await ended(far) == 1000
        await drowsy.asleep()


async def test_an_outgoing_websocket_ends_with_the_host(drowsy: Rooms) -> None:
    async with upstream() as (url, found), drowsy.open("killed") as ws:
        await ws.send(f"dial {url}")
        assert [await soon(ws), await soon(ws)] == ["dialling 0", "open 1"]
        far = await found.get()
        await drowsy.kill((await drowsy.facts(ws))["pid"])
        assert await ended(far) == 1006


async def test_an_outgoing_websocket_of_an_old_script_is_closed_with_1001(drowsy: Rooms) -> None:
    async with upstream() as (url, found), drowsy.open("reload") as ws:
        await ws.send(f"dial {url}")
        assert [await soon(ws), await soon(ws)] == ["dialling 0", "open 1"]
        far = await found.get()
        script = drowsy.folder / "worker.py"
        script.write_text(script.read_text().replace('"added ', '"stored '))
        assert await ended(far) == 1001
