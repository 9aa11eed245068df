"""Gates alone, against a model: what may start, and what may leave when."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.host.gates import InputGate, OutputGate
from tests.stepping import StepLoop


def new_future():
    return asyncio.Future(loop=StepLoop())


# --- input -----------------------------------------------------------------------------------------


def test_locks_nest_and_the_last_wakes_all_that_wait():
    gate = InputGate(new_future)
    gate.lock()
    first, second, left = gate.wait(), gate.wait(), gate.wait()
    left.cancel()
    gate.lock()
    gate.unlock()
    assert gate.locks == 1
    assert not first.done()
    assert not second.done()
    gate.unlock()
    assert gate.locks == 0
    assert first.done()
    assert second.done()


def test_who_waits_for_the_next_lock_is_not_woken_by_the_last_one():
    gate = InputGate(new_future)
    gate.lock()
    gate.wait()
    gate.unlock()
    gate.lock()
    waiter = gate.wait()
    assert not waiter.done()
    gate.unlock()
    assert waiter.done()


def test_a_broken_gate_lets_all_go_and_locks_no_more():
    gate = InputGate(new_future)
    gate.lock()
    gate.lock()
    waiter = gate.wait()
    gate.broken()
    assert waiter.done()
    gate.lock()
    assert gate.locks == 0
    gate.unlock()
    gate.unlock()
    gate.unlock()
    assert gate.locks == 0


class Inputs(RuleBasedStateMachine):
    """Any order of locks and waits: a waiter is pending exactly as long as its lock holds."""

    def __init__(self):
        super().__init__()
        self.gate = InputGate(new_future)
        self.locks = 0
        self.pending = []
        self.woken = []

    @rule()
    def lock(self):
        self.gate.lock()
        self.locks += 1

    @precondition(lambda self: self.locks)
    @rule()
    def unlock(self):
        self.gate.unlock()
        self.locks -= 1
        if not self.locks:
            self.woken += self.pending
            self.pending = []

    @precondition(lambda self: self.locks)
    @rule()
    def wait(self):
        self.pending.append(self.gate.wait())

    @invariant()
    def who_waits_is_woken_when_the_last_lock_goes(self):
        assert self.gate.locks == self.locks
        assert all(waiter.done() for waiter in self.woken)
        assert not any(waiter.done() for waiter in self.pending)


TestInputs = Inputs.TestCase
TestInputs.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- output ----------------------------------------------------------------------------------------


def test_nothing_is_held_by_a_gate_that_is_open():
    gate = OutputGate()
    assert gate.open
    assert not gate.flying
    with pytest.raises(AssertionError):
        gate.hold(1)


class Outputs(RuleBasedStateMachine):
    """What is said is tagged with the last write before it, and leaves when that one is durable."""

    def __init__(self):
        super().__init__()
        self.gate = OutputGate()
        self.writes = self.flying = self.durable = 0
        self.unconfirmed = self.unconfirmed_flying = False
        self.said = []  # (what, the last write before it)
        self.left = []
        self.counter = 0
        self.is_broken = False

    @precondition(lambda self: not self.is_broken)
    @rule()
    def write(self):
        self.gate.wrote()
        self.writes += 1

    @precondition(lambda self: not self.is_broken)
    @rule()
    def write_unconfirmed(self):
        self.gate.wrote_unconfirmed()
        self.unconfirmed = True

    @precondition(lambda self: not self.is_broken)
    @rule()
    def wait_for_all(self):
        """From here on all that is written counts as confirmed."""
        self.gate.wait_for_all()
        if self.unconfirmed:
            self.writes += 1
            self.unconfirmed = False
        elif self.unconfirmed_flying and self.writes == self.durable:
            self.writes = self.flying = self.writes + 1
            self.unconfirmed_flying = False

    @precondition(lambda self: not self.is_broken)
    @rule()
    def say(self):
        self.counter += 1
        if self.gate.open:
            self.left.append((self.counter, self.writes))
        else:
            self.gate.hold((self.counter, self.writes))
        self.said.append((self.counter, self.writes))

    @precondition(
        lambda self: not self.is_broken and not self.gate.flying and not self.gate.settled
    )
    @rule()
    def commit_begins(self):
        self.gate.taken()
        self.flying = self.writes
        self.unconfirmed_flying, self.unconfirmed = self.unconfirmed, False

    @precondition(lambda self: self.gate.flying)
    @rule()
    def commit_is_durable(self):
        self.durable = self.flying
        self.unconfirmed_flying = False
        self.left += self.gate.confirmed()

    @precondition(lambda self: self.gate.flying)
    @rule()
    def commit_fails(self):
        self.gate.stop_flying()
        self.breaks()

    @rule(really=st.integers(0, 9).map(lambda n: n == 0))
    def reset(self, really):
        if really and not self.is_broken:
            self.breaks()

    def breaks(self):
        lost = self.gate.broken()
        assert self.left + lost == self.said
        self.said = list(self.left)
        self.is_broken = True

    @invariant()
    def nothing_leaves_before_its_write_is_durable(self):
        assert all(write <= self.durable for _, write in self.left)

    @invariant()
    def everything_leaves_in_the_order_in_which_it_was_said(self):
        assert self.left == self.said[: len(self.left)]

    @invariant()
    def what_may_leave_has_left(self):
        if not self.is_broken:
            assert self.left == [said for said in self.said if said[1] <= self.durable]
            assert self.gate.open == (self.writes == self.durable)
            assert self.gate.settled == (
                self.gate.open and not self.gate.flying and not self.unconfirmed
            )

    @invariant()
    def a_broken_gate_stays_closed(self):
        if self.is_broken:
            assert not self.gate.open
            assert not self.gate.flying


TestOutputs = Outputs.TestCase
TestOutputs.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
