"""Timed calls say where their time went: parts that add up, each where its cause is."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from runtime import AsyncRuntime
from runtime.wire.timed import timed_caller
from tests.stepping import settle
from workers import DurableObject

clock = time.monotonic_ns


class Room(DurableObject):
    value = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.opened = asyncio.Event()

    def add(self, number=1):
        self.value += number
        return self.value

    def block(self, fifo):
        """Keep the host until somebody writes."""
        Path(fifo).read_bytes()

    async def block_later(self, fifo):
        await asyncio.sleep(0)
        self.block(fifo)

    async def wait(self):
        await self.opened.wait()
        self.opened.clear()

    def waited(self):
        return self.opened.wait()

    def open(self):
        self.opened.set()

    async def alone(self):
        await self.ctx.blockConcurrencyWhile(self.env.ROOMS.getByName("b").wait)

    async def put(self, value):
        await self.ctx.storage.put("value", value)

    def same(self, *values):
        return [*values]

    def fail(self):
        raise ValueError("no")

    def items(self):
        yield from (1, 2, 3)


@pytest.fixture
async def rt(tmp_path):
    async with AsyncRuntime(objects={"ROOMS": Room}, data_dir=tmp_path / "data", hosts=1) as rt:
        rt.timed = timed_caller(rt.connection.caller, asyncio.get_running_loop())
        yield rt


def call(rt, room, method, *args, **kwargs):
    """Make a timed call of an object, and take note of when."""
    reply = rt.timed(room._target, method, args, kwargs)
    reply.began = clock()
    reply.add_done_callback(lambda reply: setattr(reply, "ended", clock()))
    return reply


def wire(reply):
    """What is left of the whole for the wire; the three parts are never more than the whole."""
    assert all(part >= 0 for part in reply.times)
    left = reply.ended - reply.began - sum(reply.times)
    assert left > 0
    return left


async def over(*replies):
    """Wait for calls, and for what is noted at their ends."""
    try:
        await asyncio.gather(*replies)
    finally:
        await settle()


async def test_a_timed_call_is_a_call(rt):
    room = rt.env.ROOMS.getByName("a")
    assert await call(rt, room, "add", 2) == 2
    assert await call(rt, room, "add", number=3) == 5
    array = bytearray(b"x" * 200_000)
    assert await call(rt, room, "same", [1], array) == [[1], array]
    assert [item async for item in call(rt, room, "items")] == [1, 2, 3]
    calls = [call(rt, room, "add") if n % 3 else room.add() for n in range(30)]
    assert await asyncio.gather(*calls) == list(range(6, 36))


async def test_the_parts_of_a_call_are_within_the_whole(rt):
    rooms = [rt.env.ROOMS.getByName(str(n)) for n in range(10)]
    replies = [call(rt, room, m, *a) for room in rooms for m, a in (("add", ()), ("put", (1,)))]
    await over(*replies)
    assert all(wire(reply) for reply in replies)


async def test_what_a_method_awaits_is_in_its_run(rt):
    room = rt.env.ROOMS.getByName("a")
    for method in ("wait", "waited"):
        reply = call(rt, room, method)
        await room.add()
        began = clock()
        await room.add()
        ended = clock()
        await room.open()
        await over(reply)
        assert reply.times.run > ended - began
        assert wire(reply) < reply.ended - reply.began - (ended - began)


async def test_what_waits_for_the_disk_is_in_the_commit(rt):
    room = rt.env.ROOMS.getByName("a")
    await room.put(0)
    written, read = call(rt, room, "put", 1), call(rt, room, "add")
    await over(written, read)
    assert written.times.commit > written.times.run
    assert wire(written)
    assert wire(read)


@pytest.mark.parametrize("method", ["block", "block_later"])
async def test_a_call_that_its_host_has_no_time_for_is_in_the_queue(rt, tmp_path, method):
    room, other = rt.env.ROOMS.getByName("a"), rt.env.ROOMS.getByName("b")
    await call(rt, other, "add")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    blocked = getattr(room, method)(str(fifo))
    end = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)  # it reads now, and does nothing else
    reply = call(rt, other, "add")
    await settle()  # by now it has left this process
    began = clock()
    await asyncio.to_thread(sum, range(100_000))
    ended = clock()
    os.close(end)
    await blocked
    await over(reply)
    assert reply.times.queue > ended - began
    assert wire(reply) < reply.ended - reply.began - (ended - began)


async def test_a_call_in_the_mailbox_is_in_the_queue(rt):
    room, other = rt.env.ROOMS.getByName("a"), rt.env.ROOMS.getByName("b")
    alone = room.alone()
    reply = call(rt, room, "add")
    await other.add()
    began = clock()
    await other.add()
    ended = clock()
    await other.open()
    await alone
    await over(reply)
    assert reply.times.queue > ended - began
    assert wire(reply) < reply.ended - reply.began - (ended - began)


async def test_a_call_that_fails_tells_its_time_if_it_ran(rt):
    room = rt.env.ROOMS.getByName("a")
    reply = call(rt, room, "fail")
    with pytest.raises(ValueError, match="no"):
        await over(reply)
    assert wire(reply)
    reply = call(rt, room, "nothing")
    with pytest.raises(TypeError, match="nothing"):
        await reply
    assert reply.times is None
    reply = call(rt, room, "add", *range(5))
    with pytest.raises(TypeError, match="add"):
        await reply


async def test_a_timed_call_follows_its_object_to_another_host(tmp_path):
    async with AsyncRuntime(objects={"ROOMS": Room}, data_dir=tmp_path / "data", hosts=2) as rt:
        rt.timed = timed_caller(rt.connection.caller, asyncio.get_running_loop())
        room = rt.env.ROOMS.getByName("a")
        assert await call(rt, room, "add") == 1
        slot = room.id.raw[6] * 256 + room.id.raw[7]
        slot %= rt.connection.roster.slots
        moved = asyncio.ensure_future(rt.move_slot(slot, 1 - rt.connection.roster.owners[slot]))
        replies = []
        while not moved.done():
            replies.append(call(rt, room, "add"))
            await replies[-1]
        await moved
        replies.append(call(rt, room, "add"))
        assert await replies[-1] >= 1
        await over(*replies)
        assert all(wire(reply) for reply in replies)
