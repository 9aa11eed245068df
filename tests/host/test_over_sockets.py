"""A host behind its ROUTER: callers from outside, peers, strangers."""

import asyncio
import logging

import numpy as np
import pytest
import zmq

from runtime.bindings import Env
from runtime.roster import End, Identity, Roster, State, endpoint
from runtime.wire import messages as m
from runtime.wire.caller import Caller
from runtime.wire.codec import decode, encode
from runtime.wire.listener import Listener, bind
from tests.stepping import soon, until
from workers import DurableObject, Response


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.order = []

    def add(self, *numbers):
        return sum(numbers)

    def note(self, name):
        self.order.append(name)
        return len(self.order)

    def read(self):
        return self.order

    async def wait(self):
        await asyncio.get_running_loop().create_future()

    def same(self, *values):
        return [*values]

    async def fetch(self, request):
        return Response(request.body)


class Outside:
    """A host that listens, and a caller that reaches it over the socket only."""

    def __init__(self, opened, run, loop):
        self.opened = opened
        self.host = opened.host
        self.run = run
        self.context = zmq.Context()
        self.router = bind(self.context, endpoint(run, 0, 1))
        self.host._router = self.router
        self.listener = Listener(loop, self.router, self.host)
        self.host.on_sent = self.listener.look_again
        self.roster = Roster.create(run / "outside", 1, 4)
        self.roster.set_identity(0, Identity(1, 1, State.UP, End.DIED))
        self.callers = []
        self.caller = self.connect(b"c1-outside")
        self.rooms = Env(opened.bindings, self.caller).ROOMS

    def connect(self, name):
        caller = Caller(asyncio.get_running_loop(), self.roster, self.run, self.context, name)
        caller.look()
        self.callers.append(caller)
        return caller

    def dial(self, name):
        """Connect a socket by hand."""
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, name)
        socket.connect(endpoint(self.run, 0, 1))
        return socket

    def close(self):
        for caller in self.callers:
            caller.close()
        self.listener.close()
        self.context.destroy(linger=0)
        self.roster.close()


@pytest.fixture
async def outside(house, tmp_path):
    found = Outside(await house(ROOMS=Room), tmp_path, asyncio.get_running_loop())
    yield found
    found.close()


async def test_calls_arrays_and_bodies_come_and_go(outside):
    room = outside.rooms.getByName("a")
    assert await soon(room.add(1, 2)) == 3
    array = np.arange(200_000, dtype=np.uint8)
    small, large = await soon(room.same([1], array))
    assert small == [1]
    assert np.array_equal(large, array)

    async def body():
        for _ in range(30):
            yield b"x" * 100_000

    response = await soon(room.fetch("http://x/", method="POST", body=body()))
    assert len(await soon(response.bytes())) == 3_000_000


async def test_calls_of_one_stub_keep_their_order_however_large_they_are(outside):
    room = outside.rooms.getByName("a")
    calls = [room.note(n) if n % 3 else room.note([n, bytearray(n * 3000)]) for n in range(60)]
    assert await soon(asyncio.gather(*calls)) == list(range(1, 61))
    order = await soon(room.read())
    assert [n if isinstance(n, int) else n[0] for n in order] == list(range(60))


async def test_a_leaving_host_refuses_callers_and_serves_peers(outside):
    room = outside.rooms.getByName("a")
    peer = outside.connect(b"h1-peer")
    assert await soon(room.add(1)) == 1
    outside.host.leaving = True
    link = outside.caller.links[0]
    refused = [room.add(2), room.fetch("http://x/"), outside.caller.objects(0, 5, None)]
    assert await soon(peer.call(room._target, "add", (3,), {})) == 3
    await until(lambda: link._held is not None and len(link._held) == 3)
    assert not any(call.done() for call in refused)
    assert outside.host.idle


async def test_a_host_that_leaves_says_goodbye_to_all_after_its_last_answers(outside):
    peer = outside.connect(b"h0-peer")
    outside.host._roster.set_identity(0, Identity(1, 1, State.UP, End.DIED))
    room = outside.rooms.getByName("a")
    last = [room.add(1), peer.call(room._target, "add", (2,), {})]
    assert await soon(asyncio.gather(*last)) == [1, 2]
    outside.host.leaving = True
    await outside.host.close()
    late = peer.call(room._target, "add", (3,), {})
    await until(lambda: peer.links[0]._held)
    outside.host.say_goodbye()
    await until(lambda: all(caller._dialers[0].goodbye for caller in outside.callers))
    assert not late.done()


async def test_a_host_says_no_goodbye_to_peers_that_are_leaving_too(outside):
    peer = outside.connect(b"h0-peer")
    room = outside.rooms.getByName("a")
    assert await soon(asyncio.gather(room.add(1), peer.call(room._target, "add", (2,), {}))) == [
        1,
        2,
    ]
    outside.host._roster.set_identity(0, Identity(1, 1, State.LEAVING, End.DIED))
    outside.host.leaving = True
    await outside.host.close()
    outside.host.say_goodbye()
    await until(lambda: outside.caller._dialers[0].goodbye)
    assert not peer._dialers[0].goodbye


async def test_a_caller_of_another_version_gets_an_error_for_each_of_its_calls(outside):
    socket = outside.dial(b"c2-old")
    target = outside.rooms.getByName("a")._target
    call = (m.CALL, 1, target, "add", (1,), None)
    for batch in ([(m.HELLO, 0), call], [(*call[:1], 2, *call[2:]), (m.CANCEL, 2)]):
        socket.send(encode(batch))
    answers = []
    while len(answers) < 2:
        await until(lambda: socket.poll(0))
        answers += decode(socket.recv())
    assert [answer[:2] for answer in answers] == [(m.ERROR, 1), (m.ERROR, 2)]
    assert all(b"of different versions of Roost" in answer[2] for answer in answers)
    assert outside.host.calls == 0
    outside.host.gone(b"c2-old")


@pytest.mark.parametrize("sent", [b"nonsense", encode([(m.CALL, 1, None, "add", (), None)])])
async def test_what_comes_before_a_greeting_is_not_heard(outside, caplog, sent):
    socket = outside.dial(b"c3-wild")
    with caplog.at_level(logging.ERROR, "roost.host"):
        socket.send(sent)
        socket.send(encode([(m.HELLO, m.VERSION)]))
        await until(lambda: socket.poll(0))
    assert decode(socket.recv()) == [(m.WELCOME, 0)]
    assert ("c3-wild" in caplog.text) == (sent == b"nonsense")
    assert await soon(outside.rooms.getByName("a").add(1)) == 1


async def test_the_calls_of_a_caller_that_is_gone_are_cancelled(outside):
    outside.rooms.getByName("a").wait()
    await until(lambda: outside.host.waiting)
    outside.host.gone(b"c1-outside")
    await until(lambda: not outside.host.waiting)
    assert outside.host.idle


async def test_an_answer_to_a_caller_that_is_gone_harms_nobody(outside):
    """It may have left in the tick in which the host answers."""
    socket = outside.dial(b"c4-brief")
    target = outside.rooms.getByName("a")._target
    socket.send(encode([(m.HELLO, m.VERSION), (m.CALL, 1, target, "wait", (), None)]))
    await until(lambda: outside.host.waiting)
    socket.close(linger=0)
    other = outside.rooms.getByName("b")
    assert await soon(other.add(1)) == 1
    cancel = outside.host._channels[b"c4-brief"].under_way[1]
    cancel()
    await until(lambda: not outside.host.waiting)
    assert await soon(other.add(2)) == 2
