"""Callers, listeners and hosts over real sockets, all in the test's loop."""

import asyncio
from collections import defaultdict

import numpy as np
import pytest
import zmq

from runtime.host.channel import RouterExit
from runtime.roster import End, Identity, Roster, State, endpoint
from runtime.wire import caller as caller_module
from runtime.wire import listener as listener_module
from runtime.wire import messages as m
from runtime.wire.caller import Caller, identity_of
from runtime.wire.listener import Listener, bind
from runtime.wire.numbers import Decoder
from tests.stepping import soon, until
from workers.errors import HostLost, RuntimeClosed

TARGET = ("Room", bytes(32), "a")  # of slot 0, so of host 0


class HandMadeHost:
    """One generation of a host, which answers when and what the test says."""

    def __init__(self, loop, context, run, generation):
        self.router = bind(context, endpoint(run, 0, generation))
        self.arrived = asyncio.Queue()
        self.listener = Listener(loop, self.router, self)
        self.worked = 0
        self.decoders = defaultdict(Decoder)

    def take(self, identity, first, frames):
        for message in self.decoders[identity].decode(first):
            self.arrived.put_nowait((identity, message, frames))

    def work(self):
        self.worked += 1

    async def next(self, kind=None):
        """Return the next message of a kind: (identity, message, frames)."""
        while True:
            found = await soon(self.arrived.get())
            if kind is None or found[1][0] == kind:
                return found

    def say(self, identity, *messages, frames=()):
        RouterExit(self.router, identity).send(list(messages), list(frames))
        self.listener.look_again()

    def close(self):
        self.listener.close()
        self.router.close(linger=1000)


class Instance:
    """A roster of one host whose generations come and go, and a caller that follows it."""

    def __init__(self, loop, run):
        self.run = run
        self.loop = loop
        self.context = zmq.Context()
        self.roster = Roster.create(run / "roster", 1, 4)
        self.caller = Caller(loop, self.roster, run, self.context, identity_of("c", 1, b"abcd"))
        self.hosts = []

    def up(self):
        """Start the next generation, and tell the caller."""
        before = self.roster.identity(0)
        generation = before.generation or 1
        host = HandMadeHost(self.loop, self.context, self.run, generation)
        self.hosts.append(host)
        self.roster.set_identity(0, Identity(1, generation, State.UP, before.before))
        self.caller.look()
        return host

    def down(self, host, end):
        """End a generation, and tell the caller."""
        host.close()
        generation = self.roster.identity(0).generation + 1
        self.roster.set_identity(0, Identity(0, generation, State.DOWN, end))
        self.caller.look()

    def call(self, *args):
        return self.caller.call(TARGET, "add", args, {})

    def close(self):
        self.caller.close()
        for host in self.hosts:
            if not host.router.closed:
                host.close()
        self.context.destroy(linger=0)
        self.roster.close()


@pytest.fixture
async def instance(tmp_path):
    found = Instance(asyncio.get_running_loop(), tmp_path)
    yield found
    found.close()


async def greeted(host):
    """Take the HELLO of the caller, and answer it."""
    identity, hello, _ = await host.next()
    assert hello == (m.HELLO, m.VERSION)
    host.say(identity, (m.WELCOME, 0))
    return identity


async def test_calls_go_to_the_host_and_answers_come_back(instance):
    host = instance.up()
    calls = [instance.call(n) for n in range(3)]
    identity = await greeted(host)
    for number in range(3):
        _, message, _ = await host.next()
        assert message == (m.CALL, number + 1, TARGET, "add", (number,), None)
    host.say(identity, *((m.RESULT, number + 1, number * 10) for number in range(3)))
    assert await soon(asyncio.gather(*calls)) == [0, 10, 20]


async def test_large_buffers_travel_as_frames_both_ways(instance):
    host = instance.up()
    array = np.arange(100_000, dtype=np.uint8)
    call = instance.call(array, array * 2)
    identity = await greeted(host)
    _, message, frames = await host.next(m.CALL_PACKED)
    assert [len(frame) for frame in frames] == [100_000, 100_000]
    host.say(identity, (m.RESULT_PACKED, 1, message[4], 2), frames=frames)
    (first, second), _ = await soon(call)
    assert np.array_equal(first, array)
    assert np.array_equal(second, array * 2)


@pytest.mark.parametrize("count", [listener_module.PORTION, 3 * listener_module.PORTION + 1])
async def test_no_message_of_a_burst_lies_unnoticed_in_a_socket(instance, count):
    host = instance.up()
    identity = await greeted(host)
    calls = []
    for n in range(count):  # a batch each
        calls.append(instance.call(n))
        instance.caller.links[0].flush()
    for n in range(count):
        assert (await host.next())[1][1] == n + 1
    for n in range(count):
        host.say(identity, (m.RESULT, n + 1, n))
    assert await soon(asyncio.gather(*calls)) == list(range(count))


async def test_calls_made_before_a_host_is_up_wait_for_it(instance):
    instance.caller.look()
    call = instance.call(1)
    await asyncio.sleep(0)
    host = instance.up()
    identity = await greeted(host)
    await host.next(m.CALL)
    host.say(identity, (m.RESULT, 1, "late"))
    assert await soon(call) == "late"


async def test_looking_again_at_a_host_that_is_still_up_changes_nothing(instance):
    host = instance.up()
    dialer = instance.caller._dialers[0]
    instance.caller.look()
    assert instance.caller._dialers[0] is dialer
    await greeted(host)


async def test_what_a_dead_host_had_answered_counts_and_the_rest_is_lost(instance):
    host = instance.up()
    answered, lost = instance.call(1), instance.call(2)
    identity = await greeted(host)
    await host.next(m.CALL)
    host.say(identity, (m.RESULT, 1, "in time"))
    assert await soon(answered) == "in time"
    instance.down(host, End.DIED)
    with pytest.raises(
        HostLost, match=r"host 0 died while it ran add\(\) of Room 0000.*call again"
    ):
        await soon(lost)
    instance.call(3)
    successor = instance.up()
    await greeted(successor)
    assert (await successor.next(m.CALL))[1][4] == (3,)


async def test_a_host_that_overran_says_so(instance):
    host = instance.up()
    lost = instance.call(1)
    await greeted(host)
    await host.next(m.CALL)
    instance.down(host, End.OVERRAN)
    with pytest.raises(HostLost, match="ran over its CPU limit"):
        await soon(lost)


async def test_what_a_host_refused_or_left_goes_to_its_successor(instance):
    host = instance.up()
    calls = [instance.call(n) for n in range(3)]
    identity = await greeted(host)
    for _ in range(3):
        await host.next(m.CALL)
    host.say(identity, (m.RESULT, 1, "done"), (m.REFUSED, 2), (m.GOODBYE,))
    assert await soon(calls[0]) == "done"
    instance.down(host, End.LEFT)
    successor = instance.up()
    assert await greeted(successor) == identity
    for number in (1, 2):
        assert (await successor.next(m.CALL))[1][4] == (number,)
    successor.say(identity, (m.RESULT, 2, "b"), (m.RESULT, 3, "c"))
    assert await soon(asyncio.gather(*calls)) == ["done", "b", "c"]


async def test_the_last_words_of_a_host_that_left_are_waited_for(instance):
    """The roster says that it has left before its goodbye has come."""
    host = instance.up()
    call = instance.call(1)
    identity = await greeted(host)
    await host.next(m.CALL)
    await until(lambda: instance.caller._dialers[0].heard)
    instance.roster.set_identity(0, Identity(0, 2, State.DOWN, End.LEFT))
    instance.caller.look()
    waiting = instance.call(2)
    await asyncio.sleep(0)
    host.say(identity, (m.RESULT, 1, "in time"), (m.REFUSED, 2), (m.GOODBYE,))
    assert await soon(call) == "in time"
    host.close()
    successor = instance.up()
    await greeted(successor)
    assert (await successor.next(m.CALL))[1][4] == (2,)
    successor.say(identity, (m.RESULT, 2, "then"))
    assert await soon(waiting) == "then"


async def test_a_connection_that_a_leaving_host_never_heard_has_started_nothing(
    instance, monkeypatch
):
    """No goodbye will come over it: its calls go to the next host."""
    monkeypatch.setattr(caller_module, "GOODBYE_SECONDS", 0.01)
    host = instance.up()
    call = instance.call(1)
    await host.next(m.CALL)
    instance.down(host, End.LEFT)
    successor = instance.up()
    await until(lambda: instance.caller.links[0].generation == 2)
    identity = await greeted(successor)
    assert (await successor.next(m.CALL))[1][4] == (1,)
    successor.say(identity, (m.RESULT, 1, "after all"))
    assert await soon(call) == "after all"


async def test_without_its_goodbye_what_a_host_was_sent_may_have_run(instance, monkeypatch):
    monkeypatch.setattr(caller_module, "GOODBYE_SECONDS", 0.01)
    host = instance.up()
    call = instance.call(1)
    await greeted(host)
    await host.next(m.CALL)
    await until(lambda: instance.caller._dialers[0].heard)
    instance.down(host, End.LEFT)
    with pytest.raises(HostLost):
        await soon(call)


async def test_a_closed_caller_takes_no_calls_and_has_failed_those_under_way(instance):
    host = instance.up()
    call = instance.call(1)
    await greeted(host)
    instance.caller.close()
    with pytest.raises(RuntimeClosed, match=r"add\(\) of Room"):
        await soon(call)
    with pytest.raises(RuntimeClosed):
        instance.call(2)
    instance.caller.look()
    assert instance.caller._dialers == {}


def test_the_name_of_a_caller_tells_what_it_is():
    assert identity_of("h", 3, b"\x01\x02") == b"h3-0102"
