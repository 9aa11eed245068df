"""What commands see and do of the WebSockets of an object."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.ids import NamespaceKey, slot_of

from .conftest import Rooms, serve

if TYPE_CHECKING:
    from pathlib import Path

    from runtime import AsyncRuntime


async def tend(runtime: AsyncRuntime, verb: str, room: str) -> Any:
    """Have the owner of a room do something to it."""
    raw = NamespaceKey("rooms-Room").from_name(room).raw
    caller = runtime.connection.caller
    return await caller.tend(slot_of(raw, caller.slots), verb, raw)


async def delete(rooms: Rooms, *, asleep: bool) -> None:
    """Delete a room with a socket, while it is in memory or not."""
    async with rooms.runtime() as runtime:
        async with rooms.open("gone?name=ann"):
            pass
        while await tend(runtime, "show", "gone") is None:
            pass  # until it has stored how ann left
        async with rooms.open("gone") as ws:
            await rooms.facts(ws)
            if asleep:
                await rooms.asleep()
            assert (await tend(runtime, "show", "gone")).sockets == 1
            assert await tend(runtime, "delete", "gone") is True
            await asyncio.wait_for(ws.wait_closed(), 20)
            assert (ws.close_code, ws.close_reason) == (1001, "the object was deleted")


async def test_a_room_that_is_deleted_closes_its_sockets(rooms: Rooms) -> None:
    await delete(rooms, asleep=False)


async def test_a_room_that_is_deleted_while_it_is_asleep_closes_them_too(tmp_path: Path) -> None:
    with serve(tmp_path, idle_s=0) as server:
        await delete(Rooms(server.url, tmp_path / "data", tmp_path), asleep=True)
