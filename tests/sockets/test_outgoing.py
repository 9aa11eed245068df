"""WebSockets that objects open: to another object of the same worker, over its front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .conftest import soon

if TYPE_CHECKING:
    from .conftest import Rooms


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
