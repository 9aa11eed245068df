"""The supervisor's loop: signals only enqueue, timers come in order, what is forgotten is not called."""

import os
import signal
import socket

import pytest

from runtime.supervisor.children import describe_exit
from runtime.supervisor.loop import CAUGHT, Loop


@pytest.fixture
def signals():
    return []


@pytest.fixture
def loop(signals):
    before = {number: signal.getsignal(number) for number in CAUGHT}
    made = Loop(signals.append)
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pair():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_timers_are_called_in_order_of_time_and_then_of_their_making(loop):
    called = []
    loop.later(0.02, lambda: (called.append("late"), loop.end()))
    loop.later(0.0, lambda: called.append("first"))
    loop.later(0.0, lambda: called.append("second"))
    loop.run()
    assert called == ["first", "second", "late"]


def test_after_its_end_no_timer_is_called(loop):
    called = []
    loop.later(0.0, lambda: (called.append(1), loop.end()))
    loop.later(0.0, lambda: called.append(2))
    loop.run()
    assert called == [1]


def test_a_signal_wakes_the_loop_and_is_told_before_what_descriptors_say(loop, signals, pair):
    told = []
    one, other = pair
    loop.watch(other, lambda: (told.append(list(signals)), other.recv(1), loop.end()))

    def both():
        one.send(b"x")
        os.kill(os.getpid(), signal.SIGTERM)

    loop.later(0.0, both)
    loop.run()
    assert told == [[signal.SIGTERM]]


def test_a_signal_that_comes_while_another_is_dealt_with_wakes_the_loop_again(loop, signals, pair):
    one, other = pair

    def again():
        other.recv(1)
        os.kill(os.getpid(), signal.SIGINT)
        loop.later(0.0, loop.end)

    loop.watch(other, again)
    one.send(b"x")
    os.kill(os.getpid(), signal.SIGTERM)
    loop.run()
    assert signals == [signal.SIGTERM]
    assert loop._wake.recv(2) == bytes([signal.SIGINT])


@pytest.mark.parametrize("number", CAUGHT)
def test_every_signal_of_its_own_is_only_enqueued(loop, signals, number):
    os.kill(os.getpid(), number)
    assert signals == []
    loop.later(0.0, loop.end)
    loop.run()
    assert signals == [number]


def test_what_was_forgotten_in_the_same_round_is_not_called(loop):
    called = []
    ends = [socket.socketpair() for _ in range(2)]
    for index, (_, other) in enumerate(ends):

        def function(index=index):
            called.append(index)
            loop.forget(ends[1 - index][1])
            loop.later(0.0, loop.end)
            loop.forget(ends[index][1])

        loop.watch(other, function)
    for one, _ in ends:
        one.send(b"x")
    loop.run()
    assert len(called) == 1
    loop.forget(ends[0][1])
    for pair in ends:
        for end in pair:
            end.close()


def test_a_child_sheds_the_sockets_of_its_parent(loop, pair):
    one, other = pair
    loop.watch(one, lambda: None)
    loop.shed()
    assert one.fileno() == -1
    assert other.fileno() != -1
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-9, "was killed by SIGKILL"),
        (-11, "was killed by SIGSEGV"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_a_process_ended_is_said_in_words(code, text):
    assert describe_exit(code) == text
