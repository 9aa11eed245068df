"""Events run a turn at a time: without a Task while they do not wait, in one that is theirs then."""

import asyncio
import gc
import sys
import weakref
from asyncio.tasks import _enter_task, _leave_task
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

import pytest

from runtime.host.gates import InputGate
from runtime.host.turns import Stage
from tests.stepping import settle
from workers.current import current_event

color = ContextVar("color", default="none")
shape = ContextVar("shape", default="none")


class Owner:
    """Keeps what it is told of each event: ("ended", value), ("failed", error)."""

    def __init__(self, loop):
        self.gate = InputGate(loop.create_future)
        self.event = self
        self.scope = None
        self.told = {}
        self.tasks = {}
        self.order = []

    def ended(self, ticket, value):
        self.note(ticket, "ended", value)

    def failed(self, ticket, error):
        self.note(ticket, "failed", error)

    def note(self, ticket, how, what):
        assert ticket not in self.told
        assert ticket not in self.tasks
        self.told[ticket] = (how, what)
        self.order.append(ticket)

    def suspended(self, ticket, task):
        self.tasks[ticket] = task

    def released(self, ticket):
        del self.tasks[ticket]


@pytest.fixture
async def stage():
    stage = Stage(asyncio.get_running_loop())
    yield stage
    await stage.close()


@pytest.fixture
async def owner():
    return Owner(asyncio.get_running_loop())


@pytest.fixture
async def run(stage, owner):
    """Run an event from outside of any Task, as the loop's callbacks do; returns its ticket.

    The test sees it after its first turn.
    """
    tickets = iter(range(1000))

    async def run_(function, *args, by=owner, context=None, **kwargs):
        ticket = next(tickets)
        done = asyncio.get_running_loop().create_future()

        def callback():
            stage.run(by, ticket, function, args, kwargs)
            done.set_result(None)

        asyncio.get_running_loop().call_soon(callback, context=context)
        await done
        return ticket

    return run_


# --- how an event can end --------------------------------------------------------------------------


async def test_a_plain_method_ends_in_its_first_turn(run, owner):
    ticket = await run(lambda a, *, b: a + b, 1, b=2)
    assert owner.told == {ticket: ("ended", 3)}


async def test_a_coroutine_that_never_waits_costs_no_task(run, owner):
    async def method():
        return len(asyncio.all_tasks())

    before = len(asyncio.all_tasks())
    ticket = await run(method)
    assert owner.told == {ticket: ("ended", before)}
    assert owner.tasks == {}


async def test_a_coroutine_that_waits_goes_on_when_what_it_waits_for_is_done(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method():
        return await future + await future

    ticket = await run(method)
    assert ticket in owner.tasks
    assert owner.told == {}
    future.set_result(2)
    await settle()
    assert owner.told == {ticket: ("ended", 4)}
    assert owner.tasks == {}


async def test_a_bare_yield_to_the_loop_is_a_wait(run, owner):
    async def method():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "on"

    ticket = await run(method)
    assert owner.told == {}
    await settle()
    assert owner.told == {ticket: ("ended", "on")}


async def test_whatever_can_be_awaited_is(run, owner):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "object"

    future = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(asyncio.sleep(0, "task"))
    first, second, third = await run(lambda: future), await run(lambda: task), await run(Awaitable)
    future.set_result("future")
    await settle()
    assert owner.told == {
        first: ("ended", "future"),
        second: ("ended", "task"),
        third: ("ended", "object"),
    }


async def test_what_only_seems_awaitable_is_a_value(run, owner):
    class Proxy:
        def __getattr__(self, name):
            raise KeyError(name)

    class Yes:
        def __getattr__(self, name):
            return lambda: None

    generator, proxy, yes = iter("ab"), Proxy(), Yes()
    for value in (generator, proxy, yes):
        ticket = await run(lambda value=value: value)
        assert owner.told[ticket] == ("ended", value)


@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
@pytest.mark.parametrize("when", ["plain", "first turn", "later turn"])
async def test_whatever_an_event_raises_is_its_own(run, owner, error, when):
    def plain():
        raise error

    async def method():
        if when == "later turn":
            await asyncio.sleep(0)
        raise error

    ticket = await run(plain if when == "plain" else method)
    await settle()
    assert owner.told == {ticket: ("failed", error)}
    assert await run(lambda: 1) in owner.told

    async def another():
        return "on"

    assert owner.told[await run(another)] == ("ended", "on")


async def test_an_error_of_what_it_waits_for_reaches_the_code_where_it_waits(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method():
        try:
            await future
        except LookupError as error:
            return f"caught {error}"

    ticket = await run(method)
    future.set_exception(LookupError("x"))
    await settle()
    assert owner.told == {ticket: ("ended", "caught x")}


async def test_events_go_on_in_the_order_of_what_they_waited_for(run, owner):
    futures = [asyncio.get_running_loop().create_future() for _ in range(4)]

    async def method(future):
        return await future

    tickets = [await run(method, future) for future in futures]
    for number in (2, 0, 3, 1):
        futures[number].set_result(number)
    await settle()
    assert owner.order == [tickets[number] for number in (2, 0, 3, 1)]


# --- the current task ------------------------------------------------------------------------------


async def test_the_code_has_one_task_from_its_first_turn_to_its_last(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method():
        before = asyncio.current_task()
        await future
        return before, asyncio.current_task()

    first, second = await run(method), await run(method)
    tasks = [owner.tasks[first], owner.tasks[second]]
    future.set_result(None)
    await settle()
    assert owner.told == {
        first: ("ended", (tasks[0], tasks[0])),
        second: ("ended", (tasks[1], tasks[1])),
    }
    assert tasks[0] is not tasks[1]


async def test_asyncio_timeout_works_from_the_first_turn_on(run, owner):
    never = asyncio.get_running_loop().create_future()

    async def method():
        async with asyncio.timeout(10):
            await see()
        try:
            async with asyncio.timeout(0):
                await never
        except TimeoutError:
            await asyncio.sleep(0)
            return "late", asyncio.current_task().cancelling()

    ticket = await run(method)
    await settle()
    assert owner.told == {ticket: ("ended", ("late", 0))}


async def test_a_task_group_works_from_the_first_turn_on(run, owner):
    async def part(number):
        await asyncio.sleep(0)
        if number == 3:
            raise ValueError(number)
        return number

    async def method(*numbers):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(number)) for number in numbers]
        return [task.result() for task in tasks]

    good, bad = await run(method, 1, 2), await run(method, 1, 3)
    await settle()
    assert owner.told[good] == ("ended", [1, 2])
    how, error = owner.told[bad]
    assert how == "failed"
    assert [str(e) for e in error.exceptions] == ["3"]


async def test_gather_and_wait_work_from_the_first_turn_on(run, owner):
    async def method():
        first = await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
        done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0, 3))])
        return first, [task.result() for task in done]

    ticket = await run(method)
    await settle()
    assert owner.told == {ticket: ("ended", ([1, 2], [3]))}


async def test_two_events_and_a_task_can_wait_for_one_future(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method():
        return await future

    tickets = [await run(method), await run(method)]
    outside = asyncio.ensure_future(method())
    await asyncio.sleep(0)
    future.set_result(5)
    assert await outside == 5
    await settle()
    assert owner.told == dict.fromkeys(tickets, ("ended", 5))


@contextmanager
def out_of_the_task():
    """As the host does it, before it runs other events within one."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        _leave_task(loop, task)
    try:
        yield
    finally:
        if task is not None:
            _enter_task(loop, task)


@pytest.mark.parametrize("rounds", [0, 1])
async def test_events_can_wait_for_one_future_within_each_other(owner, rounds):
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def method(rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        return await future

    def run_another(waiting):
        if waiting is future and 2 not in owner.tasks:
            with out_of_the_task():
                stage.run(owner, 2, method, (0,), None)
        return False

    stage = Stage(loop, run_another)
    loop.call_soon(stage.run, owner, 1, method, (rounds,), None)
    await settle()
    future.set_result(5)
    await settle()
    assert owner.told == {1: ("ended", 5), 2: ("ended", 5)}
    await stage.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
@pytest.mark.parametrize("rounds", [0, 1])
async def test_a_script_may_have_the_loop_start_tasks_eagerly(owner, rounds):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    futures = [loop.create_future() for _ in range(3)]

    async def method(rounds, *futures):
        for _ in range(rounds):
            await asyncio.sleep(0)
        return [await future for future in futures]

    def run_another(waiting):
        if waiting is futures[1]:
            with out_of_the_task():
                stage.run(owner, 2, method, (0, futures[2]), None)
        return False

    stage = Stage(loop, run_another)
    loop.call_soon(stage.run, owner, 1, method, (rounds, *futures[:2]), None)
    for future in futures:
        await settle()
        future.set_result("on")
    await settle()
    assert owner.told == {1: ("ended", ["on", "on"]), 2: ("ended", ["on"])}
    await stage.close()


# --- cancellation ----------------------------------------------------------------------------------


async def test_a_cancelled_event_gets_cancelled_error_where_it_waits(run, owner):
    async def method():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            owner.order.append("cleaned up")
            raise

    ticket = await run(method)
    await settle()
    owner.tasks[ticket].cancel()
    await settle()
    assert owner.order == ["cleaned up", ticket]
    how, error = owner.told[ticket]
    assert how == "failed"
    assert isinstance(error, asyncio.CancelledError)


@pytest.mark.parametrize("at_once", [False, True])
async def test_cancelling_an_event_cancels_what_it_waits_for_whenever_it_comes(run, owner, at_once):
    """Also right after its first turn, before its Task has taken it over."""
    child = asyncio.get_running_loop().create_future()

    class Hasty(Owner):
        def suspended(self, ticket, task):
            super().suspended(ticket, task)
            task.cancel()

    async def method():
        await child

    by = Hasty(asyncio.get_running_loop()) if at_once else owner
    ticket = await run(method, by=by)
    if not at_once:
        by.tasks[ticket].cancel()
    await settle()
    assert child.cancelled()
    assert isinstance(by.told[ticket][1], asyncio.CancelledError)


async def test_an_event_cancelled_before_its_task_has_begun_ends_like_any_other(stage, owner):
    """Its Task was parked in the same turn of the loop, by the event before it."""
    loop, seen = asyncio.get_running_loop(), []

    async def method():
        try:
            await loop.create_future()
        finally:
            seen.append("cleaned up")

    async def cancels_itself():
        asyncio.current_task().cancel()
        await method()

    def callback():
        for ticket in range(3):
            stage.run(owner, ticket, method, (), None)
        for ticket in range(3):
            owner.tasks[ticket].cancel()
        stage.run(owner, 3, cancels_itself, (), None)

    loop.call_soon(callback)
    await settle()
    assert [type(what) for _, what in owner.told.values()] == [asyncio.CancelledError] * 4
    assert seen == ["cleaned up"] * 4
    assert owner.tasks == {}


async def test_what_an_event_waits_for_is_cancelled_before_its_task_has_begun(stage, owner):
    loop = asyncio.get_running_loop()
    waited_for = [loop.create_future() for _ in range(3)]

    async def method(future):
        await future

    def callback():
        for ticket, future in enumerate(waited_for):
            stage.run(owner, ticket, method, (future,), None)
        for task in owner.tasks.values():
            task.cancel()

    loop.call_soon(callback)
    await settle()
    assert [type(what) for _, what in owner.told.values()] == [asyncio.CancelledError] * 3
    assert [future.cancelled() for future in waited_for] == [True] * 3


async def test_an_event_may_refuse_to_be_cancelled(run, owner):
    async def method():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            await asyncio.sleep(0)
            return "stayed"

    ticket = await run(method)
    owner.tasks[ticket].cancel()
    await settle()
    assert owner.told == {ticket: ("ended", "stayed")}


@pytest.mark.parametrize("canceller", ["itself", "a plain method", "a coroutine"])
async def test_a_task_that_a_finished_event_kept_and_cancels_is_not_the_next_events(
    run, owner, canceller
):
    kept = []

    async def keep():
        kept.append(asyncio.current_task())
        if canceller == "itself":
            kept[0].cancel()

    async def cancel():
        kept[0].cancel()

    async def method():
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    await run(keep)
    if canceller == "a plain method":
        await run(lambda: kept[0].cancel() and None)
    elif canceller == "a coroutine":
        await run(cancel)
    tickets = [await run(method), await run(method)]
    await settle()
    assert [owner.told[ticket] for ticket in tickets] == [("ended", 0), ("ended", 0)]


async def test_events_that_wait_one_after_the_other_share_a_task(run, owner):
    loop, made = asyncio.get_running_loop(), []

    def make(loop, code, **more):
        made.append(code)
        return asyncio.Task(code, loop=loop, **more)

    async def method(futures):
        return [await future for future in futures]

    async def one_after_the_other():
        futures = [loop.create_future() for _ in range(3)]
        ticket = await run(method, futures)
        for future in futures:
            assert list(owner.tasks) == [ticket]
            future.set_result(1)
            await settle()
        assert owner.told[ticket] == ("ended", [1, 1, 1])

    await one_after_the_other()
    loop.set_task_factory(make)
    for _ in range(3):
        await one_after_the_other()
    assert made == []


async def test_events_that_ran_late_or_stood_at_the_gate_share_a_task_too(run, owner):
    loop, made = asyncio.get_running_loop(), []

    def make(loop, code, **more):
        made.append(code)
        return asyncio.Task(code, loop=loop, **more)

    async def method(future):
        try:
            async with asyncio.timeout(0):
                await loop.create_future()
        except TimeoutError:
            return await future

    async def event():
        future = loop.create_future()
        ticket = await run(method, future)
        await settle()
        owner.gate.lock()
        future.set_result("on")
        await settle()
        assert ticket not in owner.told
        owner.gate.unlock()
        await settle()
        assert owner.told[ticket] == ("ended", "on")

    await event()
    loop.set_task_factory(make)
    await event()
    assert made == []


@pytest.mark.parametrize("waits", [False, True])
async def test_an_event_that_cancels_the_one_before_never_cancels_itself(run, owner, waits):
    kept = []

    async def method(future):
        if kept:
            kept.pop().cancel()
        kept.append(asyncio.current_task())
        await future
        return "done"

    futures = [asyncio.get_running_loop().create_future() for _ in range(4)]
    for future in futures:
        if not waits:
            future.set_result(None)
    tickets = []
    for future in futures:
        tickets.append(await run(method, future))
        if waits:
            await settle()
            future.set_result(None)
        await settle()
    assert [owner.told[ticket] for ticket in tickets] == [("ended", "done")] * 4


async def test_a_task_that_somebody_holds_on_to_ends_with_its_event(run, owner):
    kept, heard = [], []
    future = asyncio.get_running_loop().create_future()

    async def keep():
        kept.append(asyncio.current_task())
        await future

    async def ask():
        asyncio.current_task().add_done_callback(lambda _: heard.append(1))
        await future

    await run(keep)
    await run(ask)
    future.set_result(None)
    await settle()
    assert kept[0].done()
    assert not kept[0].cancelled()
    assert heard == [1]


async def test_a_task_that_somebody_knows_by_a_weak_reference_serves_no_other_event(run, owner):
    known, future = [], asyncio.get_running_loop().create_future()

    async def method():
        known.append(weakref.ref(asyncio.current_task()))
        await future

    async def wait():
        await asyncio.get_running_loop().create_future()

    await run(method)
    future.set_result(None)
    await settle()
    tickets = [await run(wait) for _ in range(3)]
    if known[0]() is not None:
        known[0]().cancel()
    await settle()
    assert list(owner.tasks) == tickets


async def test_a_cancellation_that_an_event_took_back_is_not_the_next_events(stage, owner):
    future = asyncio.get_running_loop().create_future()

    async def take_back():
        asyncio.current_task().cancel()
        asyncio.current_task().uncancel()

    async def method():
        return await future

    def callback():
        stage.run(owner, 1, take_back, (), None)
        stage.run(owner, 2, method, (), None)

    await settle()  # its Task has begun
    asyncio.get_running_loop().call_soon(callback)
    await settle()
    future.set_result("on")
    await settle()
    assert owner.told == {1: ("ended", None), 2: ("ended", "on")}


async def test_a_task_that_was_kept_and_ended_before_it_had_begun_is_not_the_next_events(
    stage, owner
):
    kept, future = [], asyncio.get_running_loop().create_future()

    async def wait():
        await future

    async def cancels_itself():
        kept.append(asyncio.current_task())
        kept[0].cancel()

    async def method():
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    def callback():
        stage.run(owner, 1, wait, (), None)
        stage.run(owner, 2, cancels_itself, (), None)  # in the Task that was parked just now

    asyncio.get_running_loop().call_soon(callback)
    await settle()
    assert kept[0].done()
    asyncio.get_running_loop().call_soon(stage.run, owner, 3, method, (), None)
    await settle()
    assert owner.told[3] == ("ended", 0)


async def test_a_cancellation_reaches_what_the_event_waits_for_at_once(run, owner):
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def method():
        try:
            await first
        except asyncio.CancelledError:
            await second

    ticket = await run(method)
    for future in (first, second):
        owner.tasks[ticket].cancel()
        assert future.cancelled()
        await settle()
    assert isinstance(owner.told[ticket][1], asyncio.CancelledError)


async def test_a_cancellation_that_comes_after_what_the_event_waits_for_is_not_lost(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method():
        await future

    ticket = await run(method)
    future.set_result(None)
    owner.tasks[ticket].cancel()
    await settle()
    assert isinstance(owner.told[ticket][1], asyncio.CancelledError)


async def test_an_event_cancelled_while_what_it_waits_for_is_brought_about_hears_of_it(owner):
    """Its Task was parked in the same turn of the loop, by the event before it."""
    loop = asyncio.get_running_loop()
    waited_for = loop.create_future()

    def bring_about(waiting):
        if waiting is not waited_for or waiting.done():
            return waiting.done()
        waiting.set_result(None)
        owner.tasks[2].cancel()
        return True

    stage = Stage(loop, bring_about)

    async def method(future):
        await future

    def callback():
        stage.run(owner, 1, method, (loop.create_future(),), None)
        stage.run(owner, 2, method, (waited_for,), None)

    loop.call_soon(callback)
    await settle()
    assert isinstance(owner.told[2][1], asyncio.CancelledError)
    await stage.close()


async def test_what_a_cancelled_event_had_is_not_kept(run, owner):
    class Thing:
        pass

    future, things = asyncio.get_running_loop().create_future(), []

    async def method():
        thing = Thing()
        things.append(weakref.ref(thing))
        await future

    ticket = await run(method)
    future.set_result(None)
    gc.collect()
    gc.disable()
    try:
        owner.tasks[ticket].cancel()
        await settle()
        owner.told.clear()
        assert things[0]() is None
    finally:
        gc.enable()


async def test_a_cancellation_brings_its_message(run, owner):
    async def method():
        await asyncio.get_running_loop().create_future()

    ticket = await run(method)
    await settle()
    owner.tasks[ticket].cancel("why")
    await settle()
    assert owner.told[ticket][1].args == ("why",)


async def test_what_was_there_when_the_gate_closed_is_not_waited_for_again(run, owner):
    """Events go on in the order in which what they waited for came, however they waited."""
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def method(future):
        await future

    tickets = [await run(method, first), await run(method, second)]
    await settle()
    owner.gate.lock()
    second.set_result(None)
    await settle()
    first.set_result(None)
    await settle()
    owner.gate.unlock()
    await settle()
    assert owner.order == tickets[::-1]


async def test_events_pass_the_gate_in_the_order_in_which_what_they_waited_for_came(run, owner):
    """Also when the Task of one has taken over, for a round of the loop, and none of another."""
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def method(future, rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        await future

    tickets = [await run(method, first, 1), await run(method, second, 0)]
    await settle()
    owner.gate.lock()
    second.set_result(None)
    first.set_result(None)
    await settle()
    owner.gate.unlock()
    await settle()
    assert owner.order == tickets[::-1]


# --- the input gate --------------------------------------------------------------------------------


async def test_what_waited_goes_on_through_the_input_gate_only(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method(number):
        await future
        owner.order.append(f"on {number}")

    tickets = [await run(method, 1), await run(method, 2)]
    owner.gate.lock()
    owner.gate.lock()
    future.set_result(None)
    await settle()
    owner.gate.unlock()
    await settle()
    assert owner.order == []
    owner.gate.unlock()
    await settle()
    assert owner.order == ["on 1", tickets[0], "on 2", tickets[1]]


async def test_a_gate_locked_by_the_first_to_pass_holds_the_others(run, owner):
    future = asyncio.get_running_loop().create_future()

    async def method(number):
        await future
        owner.order.append(number)
        owner.gate.lock()

    await run(method, "a")
    await run(method, "b")
    owner.gate.lock()
    future.set_result(None)
    await settle()
    owner.gate.unlock()
    await settle()
    assert owner.order == ["a", 0]
    owner.gate.unlock()
    await settle()
    assert owner.order == ["a", 0, "b", 1]


async def test_a_cancellation_waits_at_the_gate_too(run, owner):
    async def method():
        await asyncio.get_running_loop().create_future()

    ticket = await run(method)
    owner.gate.lock()
    owner.tasks[ticket].cancel()
    await settle()
    owner.tasks[ticket].cancel()
    await settle()
    assert owner.told == {}
    owner.gate.unlock()
    await settle()
    assert isinstance(owner.told[ticket][1], asyncio.CancelledError)


# --- context variables -----------------------------------------------------------------------------


async def see():
    return color.get(), shape.get()


async def test_each_event_finds_its_owner_as_the_current_event(run, owner):
    other = Owner(asyncio.get_running_loop())

    async def method():
        first = current_event.get()
        await asyncio.sleep(0)
        return first, current_event.get()

    tickets = [(await run(method, by=by), by) for by in (owner, other, owner, other)]
    await settle()
    for ticket, by in tickets:
        assert by.told[ticket] == ("ended", (by, by))


@pytest.mark.parametrize("waits", [False, True])
async def test_what_an_event_sets_no_other_event_sees(run, owner, waits):
    async def paint():
        color.set("red")
        if waits:
            await asyncio.sleep(0)
            shape.set("round")
            await asyncio.sleep(0)
        return color.get()

    for setter in (lambda: color.set("red") and None, paint):
        await run(setter)
        ticket = await run(see)
        assert owner.told[ticket] == ("ended", ("none", "none"))
        await settle()
        ticket = await run(see)
        assert owner.told[ticket] == ("ended", ("none", "none"))


async def test_an_event_keeps_what_it_set_across_its_waits(run, owner):
    async def method(name):
        color.set(name)
        await asyncio.sleep(0)
        shape.set(name)
        await asyncio.gather(asyncio.sleep(0), see())
        return await see()

    tickets = {name: await run(method, name) for name in ("red", "blue")}
    await settle()
    assert {name: owner.told[ticket][1] for name, ticket in tickets.items()} == {
        "red": ("red", "red"),
        "blue": ("blue", "blue"),
    }


async def test_what_the_code_that_made_the_loop_come_here_had_set_is_not_seen(run, owner):
    """The end of a critical section, say, comes with the context of the event that began it."""

    async def wait():
        await asyncio.sleep(0)

    painted = copy_context()
    painted.run(color.set, "red")
    await run(wait, context=painted)
    await run(lambda: color.set("green") and None, context=painted)
    tickets = [await run(see), await run(see, context=painted)]
    assert [owner.told[ticket][1] for ticket in tickets] == [("none", "none")] * 2


async def test_what_the_script_set_at_its_import_each_event_finds_unchanged(owner):
    color.set("imported")
    stage = Stage(asyncio.get_running_loop())

    async def run(function, ticket):
        asyncio.get_running_loop().call_soon(stage.run, owner, ticket, function, (), None)
        await settle()

    async def paint():
        color.set("red")

    async def paint_and_wait():
        color.set("blue")
        await asyncio.sleep(0)

    for number, setter in enumerate((paint, paint_and_wait)):
        await run(setter, f"set {number}")
        await run(see, f"see {number}")
        assert owner.told[f"see {number}"] == ("ended", ("imported", "none"))
    await stage.close()


# --- nothing is left -------------------------------------------------------------------------------


async def test_an_event_that_has_ended_is_not_kept(run, owner):
    class Thing:
        pass

    async def method():
        thing = Thing()
        await asyncio.sleep(0)
        return id(thing)

    for _ in range(3):
        await run(method)
        await settle()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Thing]


async def test_an_owner_that_fails_leaves_no_task(owner):
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    stage, future = Stage(loop), loop.create_future()

    class Failing(Owner):
        def ended(self, ticket, _value):
            raise LookupError(ticket)

    async def method():
        await future

    loop.call_soon(stage.run, Failing(loop), 1, method, (), None)
    await settle()
    future.set_result(None)
    await settle()
    assert [type(error) for error in told] == [LookupError]
    await stage.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_code_that_will_not_be_closed_is_no_other_events_failure(run, owner):
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # a Task is destroyed

    async def refuses():
        await asyncio.sleep(0)  # its Task has taken over
        try:
            await asyncio.get_running_loop().create_future()
        except GeneratorExit:
            await asyncio.sleep(0)

    async def method():
        return "on"

    await run(refuses)
    await settle()
    owner.tasks.clear()
    gc.collect()
    assert owner.told[await run(method)] == ("ended", "on")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_an_event_returned_or_raised_is_not_kept(run, owner, waits, fails):
    class Thing(Exception):  # noqa: N818
        pass

    async def method():
        if waits:
            await asyncio.sleep(0)
        if fails:
            raise Thing
        return Thing()

    await run(method)
    await settle()
    owner.told.clear()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Thing]


async def test_closing_the_stage_leaves_no_task():
    stage = Stage(asyncio.get_running_loop())
    assert len(asyncio.all_tasks()) == 2
    await stage.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_loop_that_is_thrown_away_closes_the_code_that_waited(capsys):
    closed = []

    async def method():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append(1)

    async def main():
        owner = Owner(asyncio.get_running_loop())
        stage = Stage(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(stage.run, owner, 1, method, (), None)
        await settle()
        return stage, owner

    loop = asyncio.new_event_loop()
    stage, owner = loop.run_until_complete(main())
    loop.close()
    del stage, owner, loop
    gc.collect()
    assert closed == [1]
    sys.stderr.flush()
