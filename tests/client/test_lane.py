"""The blocking caller's way to a host: one answer for each call, and the truth about how it ended."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zmq

from runtime.client import lane as lane_module
from runtime.client.lane import Lane, NotStarted
from runtime.roster import End, Identity, Roster, State, endpoint
from runtime.wire import messages as m
from runtime.wire.codec import decode, encode, pack_error, parcel
from runtime.wire.items import Pieces
from workers.errors import DeadlineExceeded, HostLost, RoostError, RuntimeClosed

TARGET = ("Room", bytes(32), "a")  # of slot 0, so of host 0
SECONDS = 20


class Instance:
    """A roster of one host, the host's ROUTER in the test's hands, and a lane on a thread."""

    def __init__(self, run):
        self.run = run
        self.context = zmq.Context()
        self.roster = Roster.create(run / "roster", 1, 4)
        self.ended = ""
        self.lane = Lane(self.context, self.roster, run, b"c1+", lambda: self.ended)
        self.threads = ThreadPoolExecutor(1)
        self.router = None
        self.identity = b""

    def up(self, generation=1):
        """Bind a generation's ROUTER and show it in the roster."""
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.RCVTIMEO, SECONDS * 1000)
        self.router.bind(endpoint(self.run, 0, generation))
        self.roster.set_identity(0, Identity(1, generation, State.UP, End.DIED))

    def down(self, end, generation=1):
        """End a generation."""
        self.router.close(linger=1000)
        self.roster.set_identity(0, Identity(0, generation + 1, State.DOWN, end, generation))

    def call(self, *args, timeout=None):
        """Call from another thread; a future of the result."""

        def blocking():
            with self.lane.lock:
                return self.lane.call(TARGET, "add", parcel(args, {}), timeout)

        return self.threads.submit(blocking)

    def next(self, kind=m.CALL):
        """Take the next message of a kind at the host: (message, frames)."""
        while True:
            self.identity, first, *frames = self.router.recv_multipart()
            for message in decode(first):
                if message[0] == kind:
                    return message, frames

    def say(self, *messages, frames=()):
        self.router.send_multipart([self.identity, encode(list(messages)), *frames])

    def close(self):
        self.ended = "the test is over"
        self.threads.shutdown()
        self.lane.close()
        self.context.destroy(linger=0)
        self.roster.close()


@pytest.fixture
def instance(tmp_path):
    found = Instance(tmp_path)
    yield found
    found.close()


def test_calls_are_answered_one_after_another_over_one_connection(instance):
    instance.up()
    for number in (1, 2, 3):
        call = instance.call(number, number)
        message, _ = instance.next()
        assert message == (m.CALL, number, TARGET, "add", (number, number), None)
        instance.say((m.WELCOME, 0), (m.RESULT, number, number * 2))
        assert call.result(SECONDS) == number * 2


def test_large_buffers_and_errors_come_back(instance):
    instance.up()
    array = np.arange(100_000, dtype=np.uint8)
    call = instance.call(array)
    message, frames = instance.next(m.CALL_PACKED)
    instance.say((m.RESULT_PACKED, 1, message[4], 1), frames=frames)
    (args, _) = call.result(SECONDS)
    assert np.array_equal(args[0], array)
    call = instance.call(2)
    instance.next()
    instance.say((m.ERROR, 2, pack_error(LookupError("no"), TARGET[1])))
    with pytest.raises(LookupError, match="no"):
        call.result(SECONDS)


def test_without_a_host_that_is_up_a_call_does_not_start(instance):
    with pytest.raises(NotStarted):
        instance.call(1).result(SECONDS)


@pytest.mark.parametrize("answer", [(m.REFUSED, 1), (m.GOODBYE,)])
def test_a_call_that_a_leaving_host_did_not_take_has_not_started(instance, answer):
    instance.up()
    call = instance.call(1)
    instance.next()
    instance.say((m.WELCOME, 0), answer)
    with pytest.raises(NotStarted):
        call.result(SECONDS)


def test_a_host_that_dies_fails_the_call_under_way_and_names_it(instance):
    instance.up()
    call = instance.call(1)
    instance.next()
    instance.down(End.DIED)
    with pytest.raises(HostLost, match=r"host 0 died while it ran add\(\) of Room 00") as raised:
        call.result(SECONDS)
    assert raised.value.durable_object_id == TARGET[1].hex()
    assert raised.value.retryable
    instance.up(2)
    call = instance.call(2)
    assert instance.next()[0][4] == (2,)
    instance.say((m.RESULT, 2, "again"))
    assert call.result(SECONDS) == "again"


@pytest.mark.parametrize("heard", [False, True])
def test_a_host_that_left_without_a_goodbye_had_heard_nothing_or_cannot_be_trusted(
    instance, monkeypatch, heard
):
    monkeypatch.setattr(lane_module, "GOODBYE_SECONDS", 0.05)
    instance.up()
    call = instance.call(1)
    instance.next()
    if heard:
        instance.say((m.WELCOME, 0))
    instance.down(End.LEFT)
    with pytest.raises(HostLost if heard else NotStarted):
        call.result(SECONDS)


def test_the_end_of_the_instance_ends_the_call(instance):
    instance.up()
    call = instance.call(1)
    instance.next()
    instance.ended = "the instance was stopped"
    with pytest.raises(RuntimeClosed, match=r"add\(\) of Room .* the instance was stopped"):
        call.result(SECONDS)


def test_a_call_past_its_time_is_given_up_and_its_late_answer_is_nobody_else_s(instance):
    instance.up()
    call = instance.call(1, timeout=0.01)
    instance.next()
    with pytest.raises(DeadlineExceeded, match=r"add\(\) of Room .* did not answer within 0\.01 s"):
        call.result(SECONDS)
    assert instance.next(m.CANCEL)[0] == (m.CANCEL, 1)
    call = instance.call(2)
    instance.next()
    instance.say((m.RESULT, 1, "late"), (m.RESULT, 2, "mine"))
    assert call.result(SECONDS) == "mine"


def test_a_call_that_is_interrupted_while_its_message_leaves_spoils_no_other(instance, monkeypatch):
    def send_half(socket, parts, **_):
        socket.send(parts[0], zmq.SNDMORE)
        raise KeyboardInterrupt

    instance.up()
    with monkeypatch.context() as patch:
        patch.setattr(zmq.Socket, "send_multipart", send_half)
        with pytest.raises(KeyboardInterrupt):
            instance.call(np.zeros(100_000)).result(SECONDS)
    call = instance.call(2)
    assert instance.next()[0] == (m.CALL, 2, TARGET, "add", (2,), None)
    instance.say((m.RESULT, 2, "mine"))
    assert call.result(SECONDS) == "mine"


def test_a_call_that_is_interrupted_while_its_answer_arrives_spoils_no_other(instance, tmp_path):
    class Interrupting(set):
        def add(self, host):
            if host not in self:
                super().add(host)
                raise KeyboardInterrupt

    instance.up()
    instance.lane._heard = Interrupting()
    call = instance.call(1)
    instance.next()
    file = tmp_path / "buffer"
    file.touch()
    instance.say((m.RESULT_PACKED, 1, b"", 2), frames=[b"\0" * 100_000, bytes(file)])
    with pytest.raises(KeyboardInterrupt):
        call.result(SECONDS)
    assert not file.exists()
    call = instance.call(2)
    instance.next()
    instance.say((m.RESULT, 2, "mine"))
    assert call.result(SECONDS) == "mine"


def test_items_that_are_lost_by_an_interruption_are_missed(instance, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    instance.up()
    call = instance.call()
    instance.next()
    instance.say((m.ITEMS, 1, 7))
    items = call.result(SECONDS)
    instance.say((m.CHUNK, 7, b"lost"))
    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "feed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(items)
    with pytest.raises(RoostError, match="interrupted"):
        next(items)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'"), SystemExit("x")])
def test_a_result_that_cannot_be_read_here_says_so(instance, error):
    instance.up()
    call = instance.call(1)
    instance.next()
    instance.say((m.RESULT_PACKED, 1, pickle.dumps(Unreadable(error)), 0))
    with pytest.raises(TypeError, match=r"the result of the call cannot be read here: .*x"):
        call.result(SECONDS)


class Unreadable:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error):
    raise error


def test_one_thread_at_a_time_uses_the_lane(instance):
    instance.up()
    call = instance.call(1)
    instance.next()
    assert not instance.lane.lock.acquire(blocking=False)
    instance.say((m.RESULT, 1, 1))
    call.result(SECONDS)
    done = threading.Event()
    instance.threads.submit(done.set)
    assert done.wait(SECONDS)
    assert instance.lane.lock.acquire(timeout=SECONDS)
    instance.lane.lock.release()
