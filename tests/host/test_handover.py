"""A slot is given as soon as the last ends that goes on in it, whatever that is; nobody looks now and then."""

import asyncio

import pytest

from runtime.host import handover
from runtime.host.channel import Channel
from runtime.ids import slot_of
from runtime.wire import messages as m
from runtime.wire.sockets import Census, Kept, census_path
from tests.stepping import settle, soon, until
from workers import DurableObject, Response
from workers.errors import ObjectReset


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def wait(self):
        self.begun.set()
        await self.let_go.wait()

    def wait_beside(self):
        self.ctx.waitUntil(self.wait())

    def wait_alone(self):
        self.ctx.blockConcurrencyWhile(self.wait)

    async def abort(self):
        await self.wait()
        self.ctx.abort()

    async def pass_on(self):
        await self.wait()
        await self.env.ROOMS.getByName(self.neighbour).put(1)

    async def put(self, value, **options):
        await self.ctx.storage.put("value", value, **options)

    async def items(self):
        yield 1
        await self.wait()

    async def fetch(self, _request):
        async def body():
            yield b"1"
            await self.wait()

        return Response(body())

    async def ring(self):
        await self.ctx.storage.setAlarm(1)

    async def alarm(self):
        await self.wait()


async def drain(items):
    async for _ in items:
        pass


async def begin_items(stub):
    return asyncio.ensure_future(drain(stub.items()))


async def begin_body(stub):
    response = await stub.fetch("http://x/")
    return asyncio.ensure_future(response.text())


async def begin_ringing(stub):
    await stub.ring()


CODE = {
    "an event": lambda stub: stub.wait(),
    "one that calls another of the slot": lambda stub: stub.pass_on(),
    "one that resets its object": lambda stub: stub.abort(),
    "waitUntil()": lambda stub: stub.wait_beside(),
    "blockConcurrencyWhile()": lambda stub: stub.wait_alone(),
    "a generator": begin_items,
    "a body": begin_body,
    "an alarm": begin_ringing,
}


@pytest.fixture
async def giving(house, monkeypatch):
    """A host, an object of it, and how it gives that one's slot: a future of what it says."""
    monkeypatch.setattr(handover, "PATIENCE_SECONDS", 1000.0)
    house = await house(ROOMS=Room)
    stub = house.env.ROOMS.getByName("a")
    await stub.put(0)

    async def give():
        said = asyncio.get_running_loop().create_future()
        house.host.handover.give(slot_of(stub.id.raw, 4), lambda *words: said.set_result(words))
        await settle()
        assert not said.done()
        return said

    yield house, stub, give
    assert house.host.handover.leaving == -1


def neighbour(house, stub):
    """The name of another object of the same slot."""
    ids = ((name, house.env.ROOMS.idFromName(name).raw) for name in map(str, range(100)))
    return next(name for name, raw in ids if slot_of(raw, 4) == slot_of(stub.id.raw, 4))


@pytest.mark.parametrize("kind", CODE)
async def test_it_is_told_of_the_end_of(giving, kind):
    house, stub, give = giving
    room = house.activation(stub).instance
    room.neighbour = neighbour(house, stub)
    under_way = asyncio.ensure_future(CODE[kind](stub))
    await soon(room.begun.wait())
    said = await give()
    room.let_go.set()
    assert await soon(said) == ("gave", str(slot_of(stub.id.raw, 4)))
    await soon(asyncio.wait([under_way]))
    assert len(house.host.catalog) == 0
    with pytest.raises(ObjectReset):
        room.ctx.storage.put("value", 1)  # as a Task of it might


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("options", [{}, {"allowUnconfirmed": True}])
async def test_it_is_told_when_all_is_durable_or_lost(giving, disk, options, fails):
    _, stub, give = giving
    disk.hold()
    put = stub.put(1, **options)
    await disk.held()
    said = await give()
    disk.error = OSError(5, "Input/output error") if fails else None
    disk.release()
    assert (await soon(said))[0] == "gave"
    await soon(asyncio.wait([put]))


@pytest.mark.parametrize("fails", [False, True])
async def test_it_is_told_when_the_commit_of_an_object_that_was_reset_has_ended(
    giving, disk, fails
):
    house, stub, give = giving
    house.activation(stub).instance.let_go.set()
    disk.hold()
    put = stub.put(1)
    await disk.held()
    with pytest.raises(ObjectReset):
        await soon(stub.abort())
    said = await give()
    disk.error = OSError(5, "Input/output error") if fails else None
    disk.release()
    assert (await soon(said))[0] == "gave"
    await soon(asyncio.wait([put]))


async def test_it_is_told_of_the_end_of_a_command(giving, disk):
    house, stub, give = giving
    disk.hold()
    put = stub.put(1)
    await disk.held()
    shown = house.caller.tend(slot_of(stub.id.raw, 4), "show", stub.id.raw)
    await settle()
    said = await give()
    disk.release()
    assert (await soon(said))[0] == "gave"
    await soon(put)
    assert (await soon(shown)).live


class Exit:
    """Where what is said to a caller goes."""

    def __init__(self):
        self.said = []

    def send(self, batch, _frames):
        self.said += batch


class Gateway:
    """A gateway that has a socket of an object, and answers what it is asked when the test says."""

    def __init__(self, house, stub):
        self.exit, self.host, self.raw = Exit(), house.host, stub.id.raw
        Census.create(census_path(house.caller.run, 0)).add(self.raw, 1)
        self.channel = Channel(house.host, self.exit, is_peer=False)
        self.host.sockets.greeted(b"g0-00ff", self.channel)

    def answer(self):
        """Answer the last that it was asked; it has heard all before it."""
        kind, raw = self.exit.said[-1]
        assert kind == m.ASK
        sockets = [Kept(1, (), None, None, None, 0, closing=False)] if raw == self.raw else []
        self.host.sockets.handle(self.channel, (m.ADOPT, raw, 0, sockets, None))


class Teller(DurableObject):
    def tell(self, word):
        self.ctx.getWebSockets()[0].send(word)


@pytest.fixture
async def telling(house):
    """A host, an object that has told its only socket something, the socket's gateway, and how it gives the slot."""
    house = await house(TELLERS=Teller)
    stub = house.env.TELLERS.getByName("a")
    gateway = Gateway(house, stub)
    told = asyncio.ensure_future(stub.tell("one"))
    await settle()
    gateway.answer()
    await soon(told)
    said = []

    def give():
        house.host.handover.give(slot_of(stub.id.raw, 4), lambda *words: said.append(words))
        return said

    return house, stub, gateway, give


async def test_a_slot_is_given_when_gateways_have_heard_all_that_was_said_of_it(telling):
    """The next host's connection to them is another: what it says would overtake what is under way."""
    house, stub, gateway, give = telling
    said = give()
    await settle()
    assert [message[0] for message in gateway.exit.said[-2:]] == [m.SEND, m.ASK]
    assert said == []
    gateway.answer()
    assert said == [("gave", str(slot_of(stub.id.raw, 4)))]
    assert len(house.host.catalog) == 0


async def test_a_gateway_that_does_not_answer_keeps_the_slot_and_its_late_answer_counts_for_nothing(
    telling, monkeypatch
):
    house, stub, gateway, give = telling
    monkeypatch.setattr(handover, "PATIENCE_SECONDS", 0)
    said = give()
    await until(lambda: said)
    assert said.pop()[0] == "kept"
    late = gateway.exit.said[-1]
    monkeypatch.setattr(handover, "PATIENCE_SECONDS", 1000.0)
    await soon(stub.tell("two"))
    give()
    await settle()
    house.host.sockets.handle(gateway.channel, (m.ADOPT, late[1], 0, [], None))
    await settle()
    assert said == []
    gateway.answer()
    assert said == [("gave", str(slot_of(stub.id.raw, 4)))]


async def test_a_gateway_s_successor_has_nothing_to_hear_and_answers_for_it(telling):
    house, _, gateway, give = telling
    said = give()
    await settle()
    house.host.sockets.gone(gateway.channel)
    gateway.channel = Channel(house.host, gateway.exit, is_peer=False)
    house.host.sockets.greeted(b"g0-00fe", gateway.channel)
    await settle()
    assert said == []
    gateway.answer()
    await settle()
    assert said[0][0] == "gave"


async def test_a_slot_that_comes_back_in_the_middle_of_a_batch_lets_no_call_overtake(house):
    """The table is in shared memory: it may change between two messages."""

    class Supervisor(DurableObject):
        def decide(self):
            house.roster.set_owner(slot, 0)

        def call(self):
            return 1

    house = await house(THEM=Supervisor)
    stubs = [house.env.THEM.getByName(str(n)) for n in range(20)]
    moving = stubs[0]
    slot = slot_of(moving.id.raw, 4)
    other = next(stub for stub in stubs if slot_of(stub.id.raw, 4) != slot)
    await other.call()  # or it would be made then, which takes longer than a slice of work
    house.roster.set_owner(slot, 1)
    house.host._slots.look()
    calls = [(moving, "call"), (other, "decide"), (moving, "call")]
    batch = [
        (m.CALL, number, ("Supervisor", stub.id.raw, None), method, (), None)
        for number, (stub, method) in enumerate(calls)
    ]
    answers = Exit()
    house.host._take(Channel(house.host, answers, is_peer=False), batch, [])
    house.host.work()
    await settle()
    assert sorted(answers.said) == [(m.RESULT, 1, None), (m.MOVED, 0), (m.MOVED, 2)]
