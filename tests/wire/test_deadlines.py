"""Deadlines: never early, once, and only for what is not answered. The clock is stepped."""

import gc
import weakref

import pytest

from runtime.wire.deadlines import TICK, Deadlines
from workers.errors import DeadlineExceeded

TARGET = ("Counter", bytes(range(32)), "a")


class Clock:
    """A loop that has a clock and timers, and nothing else."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, function, *args):
        self.timers.append((when, function, args))

    def advance(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, function, args in due:
            function(*args)


class Link:
    def __init__(self):
        self.told = []

    def cancelled(self, call):
        self.told.append(call)


class Waiting:
    def __init__(self, call, link):
        self.call, self.link = call, link
        self.error = None
        self.answered = False

    def done(self):
        return self.answered or self.error is not None

    def set_exception(self, error):
        assert not self.done()
        self.error = error


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def link():
    return Link()


def test_a_call_fails_when_its_time_is_over_and_its_host_is_told(clock, link):
    deadlines = Deadlines(clock)
    waiting = Waiting(7, link)
    deadlines.add(waiting, 1.0, TARGET, "increment")
    clock.advance(0.999)
    assert waiting.error is None
    clock.advance(2 * TICK)
    assert isinstance(waiting.error, DeadlineExceeded)
    assert isinstance(waiting.error, TimeoutError)
    assert waiting.error.durable_object_id == TARGET[1].hex()
    assert "increment() of Counter" in str(waiting.error)
    assert "within 1 s" in str(waiting.error)
    assert link.told == [7]


def test_an_answered_call_hears_nothing(clock, link):
    deadlines = Deadlines(clock)
    waiting = Waiting(1, link)
    deadlines.add(waiting, 1.0, TARGET, "increment")
    waiting.answered = True
    clock.advance(5.0)
    assert waiting.error is None
    assert not link.told


def test_calls_that_end_together_share_a_timer(clock, link):
    deadlines = Deadlines(clock)
    waiting = [Waiting(call, link) for call in range(1000)]
    for each in waiting:
        deadlines.add(each, 2.0, None, "fetch")
    assert len(clock.timers) == 1
    clock.advance(2.0 + 2 * TICK)
    assert link.told == list(range(1000))


def test_answered_calls_are_not_kept_until_their_deadline(clock, link):
    deadlines = Deadlines(clock)
    waiting = Waiting(1, link)
    reference = weakref.ref(waiting)
    deadlines.add(waiting, 3600.0, TARGET, "increment")
    del waiting
    gc.collect()
    assert reference() is None
    clock.advance(3600.0 + 2 * TICK)
    assert not link.told
