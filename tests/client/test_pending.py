"""The futures of submitted calls: they are those of `concurrent.futures`, whenever somebody looks."""

import asyncio
import sys
import threading
from concurrent import futures
from types import SimpleNamespace

import pytest

from runtime.client.pending import Pending

SECONDS = 20


@pytest.fixture
def calls():
    """What the futures need of a program's calls."""
    told = []
    return SimpleNamespace(
        lock=threading.RLock(), under_way=0, told=told, cancelled=told.append, blocking=list
    )


@pytest.fixture
def submit(calls):
    """Return the future of one call more."""

    def make():
        calls.under_way += 1
        return Pending(calls)

    return make


def test_one_that_has_ended_tells_whoever_asks(calls, submit):
    good, bad = submit(), submit()
    good.set_result(1)
    bad.set_exception(KeyError("no"))
    heard = []
    good.add_done_callback(heard.append)
    assert calls.under_way == 0
    assert (good.done(), good.running(), good.result(), good.exception()) == (True, False, 1, None)
    assert heard == [good]
    with pytest.raises(KeyError):
        bad.result()
    assert isinstance(bad.exception(), KeyError)
    assert futures.wait([good, bad], SECONDS).done == {good, bad}
    assert set(futures.as_completed([good, bad], SECONDS)) == {good, bad}
    assert "finished" in repr(good)


@pytest.mark.parametrize("raises", [False, True])
def test_whoever_waits_hears_of_the_end(submit, raises):
    pending = submit()
    ways = {
        "result": lambda: pending.exception(SECONDS) or pending.result(SECONDS),
        "wait": lambda: futures.wait([pending], SECONDS).done,
        "as_completed": lambda: list(futures.as_completed([pending], SECONDS)),
        "asyncio": lambda: asyncio.run(wrapped(pending)),
    }

    async def wrapped(pending):
        return (await asyncio.gather(asyncio.wrap_future(pending), return_exceptions=True))[0]

    heard, called = {}, threading.Event()
    threads = [
        threading.Thread(target=lambda name=name: heard.update({name: ways[name]()}))
        for name in ways
    ]
    for thread in threads:
        thread.start()
    pending.add_done_callback(lambda _: called.set())
    error = ValueError("no")
    if raises:
        pending.set_exception(error)
    else:
        pending.set_result(1)
    for thread in threads:
        thread.join(SECONDS)
    end = error if raises else 1
    expected = {"result": end, "wait": {pending}, "as_completed": [pending], "asyncio": end}
    assert heard == expected
    assert called.wait(SECONDS)


def test_a_callback_that_exits_ends_neither_the_thread_that_calls_it_nor_the_other_callbacks(
    submit,
):
    for end in (lambda it: it.set_result(1), lambda it: it.set_exception(ValueError())):
        pending, heard = submit(), []
        pending.add_done_callback(lambda _: sys.exit())
        pending.add_done_callback(heard.append)
        end(pending)
        assert heard == [pending]


def test_one_that_was_cancelled_takes_no_result(calls, submit):
    pending = submit()
    waiting = threading.Thread(target=futures.wait, args=[[pending]], daemon=True)
    waiting.start()
    heard = []
    pending.add_done_callback(heard.append)
    assert pending.cancel()
    assert pending.cancel()
    pending.set_result(1)
    pending.set_exception(ValueError())
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    assert (calls.told, calls.under_way, heard) == ([pending], 0, [pending])
    assert (pending.done(), pending.cancelled()) == (True, True)
    with pytest.raises(futures.CancelledError):
        pending.result()
    assert futures.wait([pending], SECONDS).done == {pending}


def test_one_that_has_ended_is_not_cancelled(calls, submit):
    for end in (lambda it: it.set_result(1), lambda it: it.set_exception(ValueError())):
        pending = submit()
        end(pending)
        assert not pending.cancel()
    assert (calls.told, calls.under_way) == ([], 0)


def test_a_wait_has_its_time(submit):
    pending = submit()
    with pytest.raises(TimeoutError):
        pending.result(0)
    assert not pending.done()
    pending.set_result(1)
    assert pending.result(0) == 1


def test_of_a_result_and_a_cancellation_at_once_one_counts(calls, submit):
    many = [submit() for _ in range(2_000)]
    start = threading.Barrier(3)
    won = {}

    def cancel():
        start.wait()
        won["cancelled"] = {pending for pending in many if pending.cancel()}

    def end():
        start.wait()
        for pending in many:
            pending.set_result(1)

    threads = [threading.Thread(target=work) for work in (cancel, end)]
    for thread in threads:
        thread.start()
    start.wait()
    assert futures.wait(many, SECONDS).not_done == set()
    for thread in threads:
        thread.join(SECONDS)
    assert {pending for pending in many if pending.cancelled()} == won["cancelled"]
    assert {pending.result() for pending in set(many) - won["cancelled"]} <= {1}
    assert (len(calls.told), calls.under_way) == (len(won["cancelled"]), 0)
