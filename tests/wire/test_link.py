"""One process' calls to one host: each ends once, in order, and none runs twice."""

import asyncio

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from runtime.wire import link as link_module
from runtime.wire import messages as m
from runtime.wire.codec import OUT_OF_BAND, pack_error, pack_still, parcel, unpack
from runtime.wire.link import Link, Reply, describe
from runtime.wire.shelf import SHELVED, Shelf, sweep
from tests.stepping import StepLoop, settle
from workers.errors import HostLost, Overloaded, RuntimeClosed

TARGET = ("Room", b"\x07" * 32, "a")


class Carrier:
    """Keeps the batches that a link hands over."""

    def __init__(self):
        self.batches = []

    def send(self, batch, frames):
        self.batches.append((batch, frames))

    def messages(self, *kinds):
        return [o for batch, _ in self.batches for o in batch if not kinds or o[0] in kinds]

    def calls(self):
        return [message[1] for message in self.messages(*m.CALLS)]


@pytest.fixture
def step_loop():
    return StepLoop()


@pytest.fixture
def link(step_loop):
    return Link(3, step_loop)


@pytest.fixture
def call(link, step_loop):
    """Make a call; returns its reply."""

    def call_(*args, method="add", target=TARGET, **kwargs):
        kind, first, second, frames = parcel(args, kwargs)
        reply = Reply(loop=step_loop)
        message = (kind, link.number(reply), target, method, first, second)
        link.post_call(reply, message, frames)
        return reply

    return call_


@pytest.fixture
def fetch(link):
    """Make a fetch() with a streamed body, on the running loop; returns its reply."""

    def fetch_(source, *, post=True):
        loop = asyncio.get_running_loop()
        link._loop = loop
        reply = Reply(loop=loop)
        number = link.number(reply)
        body = link.streams.send(source)
        message = (m.FETCH, number, TARGET, "POST", "http://x/", [], body)
        if post:
            link.post_call(reply, message)
            return reply
        return reply, message

    return fetch_


class Source:
    """A body that notes that it was closed."""

    closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        return b"x" * 300_000

    async def aclose(self):
        self.closed = True


@pytest.fixture
def small_window(monkeypatch):
    monkeypatch.setattr(link_module, "WINDOW", 3)
    monkeypatch.setattr(link_module, "LIMIT", 4)


# --- out -------------------------------------------------------------------------------------------


def test_calls_of_one_tick_leave_as_one_batch(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    call(1)
    call(2)
    assert carrier.batches == []
    step_loop.step()
    call(3)
    step_loop.step()
    assert [[o[1] for o in batch] for batch, _ in carrier.batches] == [[1, 2], [3]]


def test_calls_made_before_the_host_is_up_wait_for_it(link, call, step_loop):
    call(1)
    call(np.zeros(OUT_OF_BAND, np.uint8))
    step_loop.step()
    carrier = Carrier()
    link.connected(1, carrier)
    assert carrier.calls() == [1, 2]
    assert [len(frame) for frame in carrier.batches[0][1]] == [OUT_OF_BAND]


def test_frames_stay_with_their_messages_when_a_call_between_is_cancelled(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    arrays = [np.full(OUT_OF_BAND, number, np.uint8) for number in range(3)]
    replies = [call(array) for array in arrays]
    plain = call(1)
    replies[1].cancel()
    plain.cancel()
    step_loop.step()
    ((batch, frames),) = carrier.batches
    at = 0
    seen = []
    for message in batch:
        if message[0] == m.CALL_PACKED:
            (array,), _ = unpack(message[4], frames[at : at + message[5]])
            at += message[5]
            seen.append(int(array[0]))
    assert at == len(frames)
    assert {0, 2} <= set(seen)
    assert (m.CANCEL, 2) in batch
    assert plain.call not in carrier.calls()


# --- answers ---------------------------------------------------------------------------------------


def test_answers_find_their_calls_in_any_order(link, call):
    link.connected(1, Carrier())
    first, second, third = call(1), call(2), call(3)
    data, frames = pack_still(np.full(OUT_OF_BAND, 5, np.uint8))
    error = pack_error(ValueError("no"), TARGET[1])
    goodbye = link.receive(
        [(m.ERROR, 3, error), (m.RESULT_PACKED, 1, data, len(frames)), (m.RESULT, 2, "two")], frames
    )
    assert goodbye is False
    assert first.result()[0] == 5
    assert second.result() == "two"
    assert isinstance(third.exception(), ValueError)
    assert third.exception().durable_object_id == TARGET[1].hex()
    assert link.unanswered == {}


def test_the_frames_of_an_answer_nobody_waits_for_do_not_fall_to_the_next(link, call):
    link.connected(1, Carrier())
    first, second = call(1), call(2)
    first.cancel()
    one, frames_one = pack_still(np.full(OUT_OF_BAND, 1, np.uint8))
    two, frames_two = pack_still(np.full(OUT_OF_BAND, 2, np.uint8))
    link.receive(
        [(m.RESULT_PACKED, 1, one, 1), (m.RESULT_PACKED, 2, two, 1)], [*frames_one, *frames_two]
    )
    assert second.result()[0] == 2


def test_a_result_that_cannot_be_read_here_is_a_type_error_and_harms_no_other(link, call):
    class Refuses:
        def __reduce__(self):
            return exit, (1,)

    link.connected(1, Carrier())
    first, second = call(1), call(2)
    data, _ = pack_still(Refuses())
    link.receive([(m.RESULT_PACKED, 1, data, 0), (m.RESULT, 2, 2)], [])
    assert "cannot be read here" in str(first.exception())
    assert second.result() == 2


def test_a_large_result_that_went_with_its_host_is_a_lost_host(link, call, tmp_path):
    link.connected(1, Carrier())
    first, second = call(1), call(2)
    data, frames = pack_still(np.zeros(SHELVED), Shelf(tmp_path, "h1-aa"))
    sweep(tmp_path, "h1-aa")
    link.receive([(m.RESULT_PACKED, 1, data, 1), (m.RESULT, 2, 2)], frames)
    assert isinstance(first.exception(), HostLost)
    assert second.result() == 2


def test_an_answer_to_an_unknown_call_is_ignored(link):
    link.connected(1, Carrier())
    data, _ = pack_still([1])
    link.receive(
        [(m.RESULT, 9, 1), (m.RESULT_PACKED, 9, data, 0), (m.ERROR, 9, b""), (m.REFUSED, 9)], []
    )
    assert link.unanswered == {}


def test_goodbye_is_told(link):
    link.connected(1, Carrier())
    assert link.receive([(m.GOODBYE,)], []) is True


# --- cancelling ------------------------------------------------------------------------------------


def test_a_call_cancelled_before_it_left_is_never_sent(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    first, second = call(1), call(2)
    assert first.cancel()
    step_loop.step()
    assert carrier.messages() == [link.unanswered[second.call].message]


def test_a_call_cancelled_after_it_left_is_cancelled_at_its_host(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    reply = call(1)
    step_loop.step()
    assert reply.cancel()
    assert not reply.cancel()
    step_loop.step()
    assert carrier.messages(m.CANCEL) == [(m.CANCEL, 1)]
    link.receive([(m.RESULT, 1, 1)], [])
    assert reply.cancelled()


def test_buffers_of_a_call_that_is_cancelled_are_not_left_to_a_host_that_may_refuse_it(
    link, step_loop, tmp_path
):
    link.connected(1, Carrier())
    kind, data, count, frames = parcel((np.zeros(SHELVED),), {}, Shelf(tmp_path, "c1-aa"))
    reply = Reply(loop=step_loop)
    message = (kind, link.number(reply), TARGET, "add", data, count)
    link.post_call(reply, message, frames)
    step_loop.step()
    assert reply.cancel()
    link.receive([(m.REFUSED, reply.call)], [])
    assert not [file for file in tmp_path.iterdir() if ".kept-" not in file.name]


def test_a_call_cancelled_behind_an_output_gate_is_never_sent(link, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    reply = Reply(loop=step_loop)
    message = (m.CALL, link.number(reply), TARGET, "add", (1,), None)
    reply.cancel()
    link.post_call(reply, message)
    step_loop.step()
    assert carrier.batches == []


# --- the window ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_window")
def test_calls_past_the_window_wait_and_past_the_limit_are_refused(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    replies = [call(number) for number in range(8)]
    step_loop.step()
    assert carrier.calls() == [1, 2, 3]
    assert isinstance(replies[7].exception(), Overloaded)
    assert replies[7].exception().overloaded
    assert not any(reply.done() for reply in replies[:7])
    link.receive([(m.RESULT, 2, None), (m.RESULT, 1, None)], [])
    step_loop.step()
    assert carrier.calls() == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("small_window")
def test_calls_that_were_cancelled_take_no_place_in_the_window_nor_behind_it(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    replies = [call(number) for number in range(7)]
    step_loop.step()
    replies[4].cancel()
    assert not call(7).done()
    for reply in replies[:3]:
        reply.cancel()
    step_loop.step()
    assert carrier.calls() == [1, 2, 3, 4, 6, 7]
    link.receive([(m.RESULT, 4, None)], [])
    step_loop.step()
    assert carrier.calls() == [1, 2, 3, 4, 6, 7, 8]


# --- hosts that come and go ------------------------------------------------------------------------


def test_a_lost_host_fails_what_was_sent_and_names_the_call(link, call, step_loop):
    link.connected(1, Carrier())
    sent, entry = call(1), call(1, method="report", target=None)
    listed = Reply(loop=step_loop)
    link.post_call(listed, (m.OBJECTS, link.number(listed), 0, 5, None))
    step_loop.step()
    link.lost("host 3 died")
    assert str(sent.exception()) == (
        f"host 3 died while it ran add() of Room {TARGET[1].hex()} ('a'); call again"
    )
    assert sent.exception().retryable
    assert sent.exception().durable_object_id == TARGET[1].hex()
    assert "report() of the worker's entrypoint" in str(entry.exception())
    assert "while it looked through its objects" in str(listed.exception())


def test_what_had_not_left_when_the_host_was_lost_goes_to_the_next(link, call, step_loop):
    link.connected(1, Carrier())
    sent = call(1)
    step_loop.step()
    unsent = [call(2), call(np.zeros(OUT_OF_BAND, np.uint8))]
    link.lost("host 3 died")
    later = call(4)
    step_loop.step()
    assert isinstance(sent.exception(), HostLost)
    second = Carrier()
    link.connected(2, second)
    assert second.calls() == [2, 3, 4]
    assert len(second.batches[0][1]) == 1
    assert not any(reply.done() for reply in (*unsent, later))


def test_what_a_leaving_host_refused_goes_to_the_next_in_the_order_it_was_made(
    link, call, step_loop
):
    first = Carrier()
    link.connected(1, first)
    replies = [call(number) for number in range(3)]
    step_loop.step()
    replies += [call(3)]
    link.receive([(m.REFUSED, 2), (m.RESULT, 1, "one")], [])
    replies += [call(4)]
    step_loop.step()
    link.receive([(m.REFUSED, 3), (m.GOODBYE,)], [])
    link.left()
    second = Carrier()
    link.connected(2, second)
    assert first.calls() == [1, 2, 3]
    assert second.calls() == [2, 3, 4, 5]
    link.receive([(m.RESULT, number, number) for number in second.calls()], [])
    assert [reply.result() for reply in replies] == ["one", 2, 3, 4, 5]


def test_what_waits_behind_a_refused_call_was_never_sent_even_if_the_host_dies(
    link, call, step_loop
):
    link.connected(1, Carrier())
    call(1)
    step_loop.step()
    unsent = call(2)
    link.receive([(m.REFUSED, 1)], [])
    step_loop.step()
    link.lost("host 3 died")
    assert not unsent.done()
    second = Carrier()
    link.connected(2, second)
    assert second.calls() == [1, 2]


def test_what_a_host_that_said_goodbye_never_answered_it_never_started(link, call, step_loop):
    link.connected(1, Carrier())
    call(1)
    step_loop.step()
    link.left()
    second = Carrier()
    link.connected(2, second)
    assert second.calls() == [1]


def test_closing_fails_what_is_unanswered(link, call, step_loop):
    carrier = Carrier()
    link.connected(1, carrier)
    sent, unsent = call(1), call(2)
    link.close()
    for reply in (sent, unsent):
        assert isinstance(reply.exception(), RuntimeClosed)


def test_a_call_is_described_by_class_id_name_and_method():
    assert describe(TARGET, "add") == f"add() of Room {TARGET[1].hex()} ('a')"
    assert describe(("Room", b"\1" * 32, None), "add") == f"add() of Room {'01' * 32}"
    assert describe(None, "fetch") == "fetch() of the worker's entrypoint"


# --- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refused", "unsent", "left", "behind a gate"])
async def test_the_body_of_a_call_that_goes_to_the_next_host_goes_with_it(link, fetch, how):
    source = Source()
    link.connected(1, Carrier())
    if how == "behind a gate":
        reply, message = fetch(source, post=False)
    else:
        fetch(source)
    if how in {"refused", "left"}:
        await settle()
    if how == "refused":
        link.receive([(m.REFUSED, 1)], [])
    if how == "left":
        link.left()
    else:
        link.lost("host 3 died")
    await settle()
    assert not source.closed
    second = Carrier()
    link.connected(2, second)
    if how == "behind a gate":
        link.post_call(reply, message)
        await settle()
    assert second.calls() == [1]
    link.receive([(m.PULL, 1, 1000)], [])
    await settle()
    assert second.messages(m.CHUNK)
    link.streams.stop(1)
    await settle()


@pytest.mark.parametrize("begun", [False, True])
async def test_the_body_of_a_call_that_is_lost_is_closed(link, fetch, begun):
    source = Source()
    link.connected(1, Carrier())
    reply = fetch(source)
    await settle()
    if begun:
        link.receive([(m.PULL, 1, 1000)], [])
        await settle()
    link.lost("host 3 died")
    await settle()
    assert isinstance(reply.exception(), HostLost)
    assert source.closed
    assert link.streams.writing == 0


@pytest.mark.parametrize("when", ["behind a gate", "in its tick", "sent", "begun"])
async def test_the_body_of_a_call_that_is_cancelled_is_closed_and_its_reader_told(
    link, fetch, when
):
    source, carrier = Source(), Carrier()
    link.connected(1, carrier)
    if when == "behind a gate":
        reply, message = fetch(source, post=False)
        reply.cancel()
        link.post_call(reply, message)
    else:
        reply = fetch(source)
        if when in {"sent", "begun"}:
            await settle()
        if when == "begun":
            link.receive([(m.PULL, 1, 1000)], [])
            await settle()
        reply.cancel()
    await settle()
    assert source.closed
    assert link.streams.writing == 0
    if when == "begun":
        (end,) = carrier.messages(m.END)
        assert b"cancelled the request" in end[2]


@pytest.mark.usefixtures("small_window")
async def test_the_body_of_a_call_that_is_refused_as_too_many_is_closed(link, fetch):
    source = Source()
    link.connected(1, Carrier())
    for _ in range(7):
        fetch(Source())
    with pytest.raises(Overloaded):
        await fetch(source)
    await settle()
    assert source.closed
    link.streams.lost(HostLost("end of the test"))
    await settle()


async def test_a_response_whose_caller_has_gone_is_not_read(link, fetch):
    carrier = Carrier()
    link.connected(1, carrier)
    reply = fetch(Source())
    await settle()
    reply.cancel()
    link.receive([(m.RESPONSE, 1, 200, "", [], 44)], [])
    await settle()
    assert (m.STOP, 44) in carrier.messages()


async def test_a_response_is_broken_when_its_host_is_lost_or_leaves(link, fetch):
    for number, end in enumerate((lambda: link.lost("host 3 died"), link.left), 1):
        link.connected(number, Carrier())
        reply = fetch(Source())
        await settle()
        link.receive([(m.RESPONSE, number, 200, "", [], 5)], [])
        response = await reply
        end()
        with pytest.raises(HostLost):
            await response.bytes()
    link.streams.lost(HostLost("end of the test"))
    await settle()


# --- any order of events ---------------------------------------------------------------------------


class Host:
    """A generation of a host: takes batches in order, starts calls, and answers in any order."""

    def __init__(self):
        self.arrived = []  # messages, with their frames
        self.started = []
        self.answers = []
        self.sent = set()
        self.leaving = False

    def send(self, batch, frames):
        at = 0
        for message in batch:
            count = message[5] if message[0] == m.CALL_PACKED else 0
            self.arrived.append((message, frames[at : at + count]))
            at += count
            if message[0] in m.CALLS:
                self.sent.add(message[1])
        assert at == len(frames)


class Calls(RuleBasedStateMachine):
    """Calls, cancellations, hosts that refuse, leave and die, in any order."""

    def __init__(self):
        super().__init__()
        self.limits = link_module.WINDOW, link_module.LIMIT
        link_module.WINDOW, link_module.LIMIT = 4, 5

    @initialize()
    def begin(self):
        self.loop = StepLoop()
        self.link = Link(0, self.loop)
        self.host = None
        self.generation = 0
        self.ran = []  # numbers of calls, in the order in which hosts started them
        self.replies = {}
        self.lost_with = {}  # generation that died: what it had been sent
        self.values = {}

    @rule(large=st.booleans())
    def call(self, large):
        value = len(self.replies)
        if large:
            array = np.full(OUT_OF_BAND, value, np.uint8)
            kind, first, second, frames = parcel((array,), {})
            reply = Reply(loop=self.loop)
            message = (kind, self.link.number(reply), TARGET, "add", first, second)
            self.link.post_call(reply, message, frames)
        else:
            reply = self.link.call(TARGET, "add", (value,), {})
        self.replies[reply.call] = reply
        self.values[reply.call] = value

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def cancel(self, data):
        self.replies[data.draw(st.sampled_from(sorted(self.replies)))].cancel()

    @rule()
    def tick(self):
        self.loop.step()

    @precondition(lambda self: self.host and self.host.arrived)
    @rule(count=st.integers(1, 5))
    def host_takes(self, count):
        host = self.host
        taken, host.arrived = host.arrived[:count], host.arrived[count:]
        for message, frames in taken:
            if message[0] == m.CANCEL:
                assert message[1] in host.sent
                if message[1] in host.started and self.generation % 2:
                    host.started.remove(message[1])  # it ends in silence
            elif host.leaving:
                host.answers.append((m.REFUSED, message[1]))
            else:
                number = message[1]
                if message[0] == m.CALL_PACKED:
                    ((value,), _) = unpack(message[4], frames)
                    value = int(value[0])
                else:
                    value = message[4][0]
                assert value == self.values[number] % 256
                self.ran.append(number)
                host.started.append(number)

    @precondition(lambda self: self.host and self.host.started)
    @rule(data=st.data(), packed=st.booleans())
    def host_answers(self, data, packed):
        host = self.host
        number = data.draw(st.sampled_from(host.started))
        host.started.remove(number)
        if packed:
            answer = (m.RESULT_PACKED, number, *pack_still([number]))
            host.answers.append((*answer[:3], 0))
        else:
            host.answers.append((m.RESULT, number, [number]))

    @precondition(lambda self: self.host and self.host.answers)
    @rule(count=st.integers(1, 5))
    def answers_arrive(self, count):
        batch, self.host.answers = self.host.answers[:count], self.host.answers[count:]
        self.link.receive(batch, [])

    @precondition(lambda self: self.host and not self.host.leaving)
    @rule()
    def host_begins_to_leave(self):
        self.host.leaving = True

    @precondition(lambda self: self.host and self.host.leaving and not self.host.started)
    @rule()
    def host_says_goodbye(self):
        assert self.link.receive([*self.host.answers, (m.GOODBYE,)], []) is True
        self.link.left()
        self.host = None

    @precondition(lambda self: self.host)
    @rule()
    def host_dies(self):
        self.link.lost("host 0 died")
        self.lost_with[self.generation] = self.host.sent
        self.host = None

    @precondition(lambda self: not self.host)
    @rule()
    def next_host(self):
        self.generation += 1
        self.host = Host()
        self.link.connected(self.generation, self.host)

    @invariant()
    def calls_start_once_and_in_order(self):
        assert self.ran == sorted(set(self.ran))

    @invariant()
    def no_more_than_the_window_is_under_way(self):
        under_way = len(self.link.unanswered) - len(self.link._backlog)
        assert under_way <= 4
        assert len(self.link._backlog) <= 5
        if self.link._backlog:
            assert under_way == 4

    @invariant()
    def a_call_fails_only_for_a_reason(self):
        for number, reply in self.replies.items():
            if not reply.done():
                assert number in self.link.unanswered
            elif not reply.cancelled():
                error = reply.exception()
                if isinstance(error, HostLost):
                    assert any(number in sent for sent in self.lost_with.values())
                elif error is None:
                    assert reply.result() == [number]
                    assert number in self.ran
                else:
                    assert isinstance(error, Overloaded)
                    assert number not in self.ran

    @invariant()
    def what_was_sent_is_kept_while_it_is_unanswered_and_no_longer(self):
        assert self.link._buffers.keys() <= self.link.unanswered.keys()
        for number, reply in self.replies.items():
            if number in self.link.unanswered:
                assert reply.message[1] == number
            elif not reply.cancelled() and reply.exception() is None:
                assert reply.message == ()

    def teardown(self):
        """Whatever went before, every call ends once a host stays."""
        if not hasattr(self, "loop"):
            return
        if self.host and self.host.leaving:
            self.host_dies()
        if not self.host:
            self.next_host()
        for _ in range(2 * len(self.replies) + 5):
            self.loop.step()
            if self.host.arrived:
                self.host_takes(1000)
            for number in self.host.started:
                self.host.answers.append((m.RESULT, number, [number]))
            self.host.started = []
            if self.host.answers:
                self.answers_arrive(1000)
        assert all(reply.done() for reply in self.replies.values())
        assert self.link.unanswered == {}
        self.calls_start_once_and_in_order()
        self.a_call_fails_only_for_a_reason()
        link_module.WINDOW, link_module.LIMIT = self.limits


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
