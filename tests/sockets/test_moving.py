"""Sockets stay connected when their object's slot moves to another host, and miss nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from runtime.ids import NamespaceKey, slot_of
from workers.errors import RoostError

from .conftest import Rooms, soon
from .storm import Quiet, shift, storm, strike

if TYPE_CHECKING:
    from pathlib import Path

    from runtime import AsyncRuntime


async def move(runtime: AsyncRuntime, room: str) -> None:
    """Move a room to the other host."""
    roster = runtime.connection.roster
    slot = slot_of(NamespaceKey("rooms-Room").from_name(room).raw, roster.slots)
    await runtime.move_slot(slot, 1 - roster.owners[slot])


@pytest.mark.parametrize(("hosts", "pause"), [(2, 0.01), (3, 0)])
async def test_no_message_is_lost_or_taken_twice_while_a_talking_room_moves(
    tmp_path: Path, hosts: int, pause: float
) -> None:
    found = await storm(
        tmp_path, clients=60, blows=25, pause=pause, hosts=hosts, strike=shift, idle_s=10
    )
    assert found["acknowledged"] >= (120 if pause else 1)
    assert found["asked again"] == 0


async def shift_and_strike(runtime: AsyncRuntime, quiet: Quiet, blows: int, pause: float) -> int:
    """Kill hosts at random, and move the room all the while."""
    striking = asyncio.create_task(strike(runtime, quiet, blows, pause))
    while not striking.done():
        with suppress(RoostError):  # its host was killed meanwhile, or is not up yet
            await shift(runtime, quiet, 1, pause)
    return await striking


async def test_nor_while_its_hosts_are_killed_besides(tmp_path: Path) -> None:
    found = await storm(
        tmp_path, clients=30, blows=8, pause=0.05, hosts=2, strike=shift_and_strike, idle_s=0
    )
    assert found["kills"] > 0
    assert found["acknowledged"] > 0


async def test_a_room_finds_its_sockets_tags_and_attachments_at_its_new_host(rooms: Rooms) -> None:
    async with (
        rooms.runtime() as runtime,
        rooms.open("moves?tags=a,b&name=one") as one,
        rooms.open("moves?name=two") as two,
    ):
        before = await rooms.facts(one)
        await one.send("auto ping pong")
        assert await soon(one) == "set"
        await one.send("attach new")
        await move(runtime, "moves")
        assert await soon(one) == "attached"
        after = await rooms.facts(one)
        assert after["pid"] != before["pid"]
        assert after["born"] == 2, "the constructor finds all sockets"
        assert (after["tags"], after["attachment"]) == (["a", "b"], "new")
        await two.send("ping")
        assert await soon(two) == "pong"
        await move(runtime, "moves")
        await two.send("all hello")
        assert [await soon(one), await soon(two)] == ["hello", "hello"]


async def test_what_is_said_in_moves_comes_in_its_order(rooms: Rooms) -> None:
    async with rooms.runtime() as runtime, rooms.open("order") as ws:
        said = 0
        for _ in range(20):
            moving = asyncio.create_task(move(runtime, "order"))
            while not moving.done():
                await ws.send(f"echo {said}")
                said += 1
                await asyncio.sleep(0)
            await moving
        assert [await soon(ws) for _ in range(said)] == [str(n) for n in range(said)]


async def test_a_socket_that_only_its_instance_can_hear_keeps_it_where_it_is(rooms: Rooms) -> None:
    async with rooms.runtime() as runtime:
        async with rooms.open("stays?api=standard") as ws:
            with pytest.raises(
                RoostError, match=r"Room \w+ \('stays'\) has a WebSocket taken with accept\(\)"
            ):
                await move(runtime, "stays")
            await ws.send("you")
            assert await soon(ws) == "heard you"
        while json.loads(await rooms.get("stays?call=left"))[1] is None:
            pass  # until it has heard of the end
        await move(runtime, "stays")
