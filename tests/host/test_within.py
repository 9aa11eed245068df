"""Calls between objects of one host, which skip the socket and the loop: the same calls all the same."""

import asyncio
from contextvars import ContextVar

import pytest

from tests.stepping import settle, soon
from workers import DurableObject, env
from workers.current import current_event
from workers.errors import ObjectReset

color = ContextVar("color", default="none")


class Node(DurableObject):
    """Calls its neighbours."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.log = []

    def other(self, name):
        return self.env.NODES.getByName(name)

    def note(self, entry):
        self.log.append(entry)
        return len(self.log)

    def entries(self):
        return self.log

    async def paint_and_call(self, name):
        color.set("red")
        seen = await self.other(name).look()
        return seen, color.get(), current_event.get().id == self.ctx.id

    async def look(self):
        first = color.get()
        color.set("blue")
        await asyncio.sleep(0)
        mine = current_event.get().id == self.ctx.id
        return first, mine, env.NODES is self.env.NODES

    async def down(self, depth):
        if not depth:
            return 0
        return 1 + await self.other("b" if self.ctx.id.name == "a" else "a").down(depth - 1)

    async def ask_to_be_aborted(self, name):
        await self.ctx.storage.put("k", "lost")
        await self.ctx.storage.sync()
        self.log.append("in memory")
        try:
            await self.other(name).abort_other(self.ctx.id.name)
        finally:
            self.other("witness").note("a remnant spoke")

    async def abort_other(self, name):
        return await self.other(name).abort()

    def abort(self):
        self.ctx.abort("aborted by a neighbour")

    async def play(self, name, until):
        rounds = 0
        while not until.is_set():
            rounds = await self.other(name).note(rounds)
        return rounds

    async def in_order(self, name, numbers):
        calls = [self.other(name).note(number) for number in range(numbers)]
        first = await calls[-1]
        return first, await asyncio.gather(*calls)

    async def give_up(self, name):
        call = asyncio.ensure_future(self.other(name).never())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return "gave up"

    async def never(self):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.log.append("ended")

    async def share(self, name):
        rows = [1]
        got = await self.other(name).keep(rows)
        rows.append(2)
        got.append(3)
        return rows, got, await self.other(name).kept_rows()

    async def keep(self, rows):
        self.rows = rows
        return rows

    def kept_rows(self):
        return self.rows


@pytest.fixture
async def opened(house):
    return await house(NODES=Node)


@pytest.fixture
async def nodes(opened):
    return opened.env.NODES


async def test_each_side_has_context_variables_and_bindings_of_its_own(nodes):
    for _ in range(2):
        seen, mine, is_current = await soon(nodes.getByName("a").paint_and_call("b"))
        assert seen == ("none", True, True)
        assert (mine, is_current) == ("red", True)
    assert await soon(nodes.getByName("c").look()) == ("none", True, True)


async def test_values_are_copied(nodes):
    rows, got, kept = await soon(nodes.getByName("a").share("b"))
    assert (rows, got, kept) == ([1, 2], [1, 3], [1])


async def test_chains_may_be_as_deep_as_they_like(opened, nodes):
    assert await soon(nodes.getByName("a").down(1500)) == 1500
    await settle()
    assert opened.host.idle


async def test_calls_on_one_stub_arrive_in_order(nodes):
    assert await soon(nodes.getByName("a").in_order("b", 50)) == (50, list(range(1, 51)))
    assert await nodes.getByName("b").entries() == list(range(50))


async def test_an_object_that_its_callee_resets_says_nothing_more(opened, nodes):
    calling = nodes.getByName("a").ask_to_be_aborted("b")
    with pytest.raises(ObjectReset, match=r"^aborted by a neighbour$"):
        await soon(calling)
    await settle()
    assert await nodes.getByName("witness").entries() == []
    assert await nodes.getByName("a").entries() == []
    assert opened.host.idle


async def test_two_objects_that_never_stop_talking_leave_the_others_their_turn(opened, house):
    done = asyncio.Event()

    class Player(Node):
        async def start(self):
            return await self.play("b", done)

    players = (await house(NODES=Player)).env.NODES
    playing = players.getByName("a").start()
    for _ in range(3):
        assert await soon(players.getByName("c").note("a word between")) > 0
    done.set()
    assert await soon(playing) > 10


async def test_a_call_that_its_caller_gives_up_is_cancelled(opened, nodes):
    assert await soon(nodes.getByName("a").give_up("b")) == "gave up"
    await settle()
    assert await nodes.getByName("b").entries() == ["ended"]
    assert opened.host.idle
