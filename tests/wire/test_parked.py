"""What one process calls in slots that move to and fro, while hosts die, against a model of the hosts.

Every message is carried by hand, so that all interleavings come up: a call is on the way to a host that
has given its slot away, a refusal on the way back while the slot has moved on, or has come back.
"""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.wire import messages as m
from runtime.wire.link import Link, Reply
from runtime.wire.parked import Placement, forward, slot_in
from tests.stepping import StepLoop
from workers.errors import HostLost

SLOTS = 2
TARGETS = [("Room", bytes([0] * 7 + [slot] + [0] * 24), None) for slot in range(SLOTS)]

slots = st.integers(0, SLOTS - 1)
hosts = st.integers(0, 1)


class Table:
    """A slot table."""

    def __init__(self):
        self.owners = [0, 1]
        self.changes = 0

    def set_owner(self, slot, host):
        self.owners[slot] = host
        self.changes += 1


class Host:
    """One generation of a host, which does what `host.handover` says."""

    def __init__(self, number, table, ran):
        self.number = number
        self.table = table
        self.ran = ran
        self.inbox = deque()
        self.outbox = deque()
        self.astray = set()
        self.leaving = set()
        self.fences = []

    def send(self, batch, frames):
        assert not frames
        self.inbox.extend(batch)

    def take(self):
        """Handle the next message."""
        message = self.inbox.popleft()
        if message[0] == m.CANCEL:
            return
        slot = slot_in(message, SLOTS)
        if message[0] == m.FENCE:
            self.astray.discard(slot)
            if slot in self.leaving:
                self.fences.append(message)
            else:
                self.outbox.append((m.RESULT, message[1], None))
        elif self.table.owners[slot] != self.number or slot in self.leaving | self.astray:
            self.astray.add(slot)
            self.outbox.append((m.MOVED, message[1]))
        else:
            self.ran[slot].append(message[4][0])
            self.outbox.append((m.RESULT, message[1], message[4][0]))

    def decided(self, slot):
        self.leaving.discard(slot)
        for fence in [fence for fence in self.fences if fence[2] == slot]:
            self.fences.remove(fence)
            self.outbox.append((m.RESULT, fence[1], None))


class Moving(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = StepLoop()
        self.table = Table()
        self.links = [Link(host, self.loop) for host in range(2)]
        for link in self.links:
            link.make = None  # all calls are of the common kind
        self.placement = Placement(self.table, self.links, self.loop)
        self.ran = [[] for _ in range(SLOTS)]
        self.made = 0
        self.calls = {}
        self.generations = [0, 0]
        self.hosts = [None, None]
        for host in range(2):
            self.start(host)

    def start(self, host):
        self.generations[host] += 1
        self.hosts[host] = Host(host, self.table, self.ran)
        self.links[host].connected(self.generations[host], self.hosts[host])

    @rule(slot=slots)
    def call(self, slot):
        self.made += 1
        way = self.placement.ways[slot]
        self.calls[self.made] = way.call(TARGETS[slot], "add", (self.made,), {})

    @rule()
    def tick(self):
        self.loop.step()

    @rule(host=hosts)
    def work(self, host):
        if self.hosts[host].inbox:
            self.hosts[host].take()

    @rule(host=hosts)
    def hear(self, host):
        if self.hosts[host].outbox:
            self.links[host].receive([self.hosts[host].outbox.popleft()], [])

    @rule()
    def look(self):
        self.placement.look()

    @rule(slot=slots)
    def give(self, slot):
        self.hosts[self.table.owners[slot]].leaving.add(slot)

    @rule(slot=slots, kept=st.booleans())
    def decide(self, slot, kept):
        giver = self.hosts[self.table.owners[slot]]
        if slot in giver.leaving:
            if not kept:
                self.table.set_owner(slot, 1 - giver.number)
            giver.decided(slot)

    @rule(number=st.integers(1, 30))
    def cancel(self, number):
        if number in self.calls:
            self.calls[number].cancel()

    @rule(host=hosts, heard=st.booleans())
    def die(self, host, heard):
        while heard and self.hosts[host].outbox:
            self.hear(host)
        self.links[host].lost("it died")
        self.start(host)

    @precondition(lambda self: self.made)
    @rule()
    def rest(self):
        """Let everything come to its end; nothing may be left that waits."""
        for slot in range(SLOTS):
            self.decide(slot, kept=True)
        for _ in range(50):
            self.tick()
            for host in range(2):
                while self.hosts[host].inbox:
                    self.work(host)
                while self.hosts[host].outbox:
                    self.hear(host)
        assert not self.placement.parked
        assert all(not link.unanswered for link in self.links)
        for number, reply in self.calls.items():
            if reply.cancelled():
                continue
            if isinstance(reply.exception(), HostLost):
                continue
            assert reply.result() == number
            assert any(number in ran for ran in self.ran)
        self.calls.clear()

    @invariant()
    def each_runs_once_and_in_order(self):
        for ran in self.ran:
            assert ran == sorted(set(ran))

    def teardown(self):
        if self.made:
            self.rest()


TestMoving = Moving.TestCase
TestMoving.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("refused", [False, True])
def test_a_successor_of_a_host_that_refused_a_call_is_not_sent_a_later_one_before_it(refused):
    loop, table, ran = StepLoop(), Table(), [[], []]
    links = [Link(host, loop) for host in range(2)]
    placement = Placement(table, links, loop)
    first, second = Host(0, table, ran), Host(0, table, ran)
    links[0].connected(1, first)
    for link in links:
        link.make = None
    calls = [placement.ways[0].call(TARGETS[0], "add", (1,), {})]
    loop.step()
    first.leaving.add(0)
    first.take()
    calls.append(placement.ways[0].call(TARGETS[0], "add", (2,), {}))
    if refused:  # it has left, and so has the other call
        loop.step()
        links[0].receive([first.outbox.popleft(), (m.REFUSED, 2)], [])
        links[0].left()
    else:  # it dies before the other call leaves
        links[0].receive([first.outbox.popleft()], [])
        links[0].lost("it died")
    calls.append(placement.ways[0].call(TARGETS[0], "add", (3,), {}))
    links[0].connected(2, second)
    for _ in range(5):
        loop.step()
        while second.inbox:
            second.take()
        while second.outbox:
            links[0].receive([second.outbox.popleft()], [])
    assert ran[0] == [1, 2, 3]
    assert [call.result() for call in calls] == [1, 2, 3]


def test_a_call_that_was_numbered_for_another_link_takes_its_unread_body_along():
    loop = StepLoop()
    old, new = Link(0, loop), Link(1, loop)
    reply = Reply(loop=loop)

    async def body():
        yield b"whole"

    source = body()
    number = old.streams.send(source)
    message = (m.FETCH, old.number(reply), TARGETS[0], "POST", "http://x/", [], number)
    forward(reply, message, (), old, new)
    assert old.streams.writing == 0
    assert new.streams.writing == 1
    assert new.take_back(reply.call)[1][:3] == (m.FETCH, reply.call, TARGETS[0])
    assert reply.link is new


@pytest.mark.parametrize("kind", [m.OBJECTS, m.TEND, m.FENCE])
def test_what_is_asked_of_a_slot_names_it(kind):
    assert slot_in((kind, 1, 7), 16) == 7
    assert slot_in((m.CALL, 1, TARGETS[1], "add", (), None), 16) == 1
