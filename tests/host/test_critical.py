"""blockConcurrencyWhile: nothing else of the object starts or goes on, and failure resets it."""

import asyncio
from functools import partial

import pytest

from runtime.host import context
from tests.stepping import settle, soon
from workers import DurableObject
from workers.errors import ObjectReset, RemoteError


class Careful(DurableObject):
    """Runs critical sections that the test opens and ends by hand."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.log = []
        self.gates = {}

    def gate(self, name):
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, name):
        self.gate(name).set()

    def say(self, text):
        self.log.append(text)
        return list(self.log)

    async def wait(self, name):
        self.log.append(f"{name} waits")
        await self.gate(name).wait()
        self.log.append(f"{name} goes on")

    async def section(self, name):
        self.log.append(f"{name} begins")
        await self.gate(name).wait()
        self.log.append(f"{name} ends")
        return name

    async def block(self, *names):
        outcomes = [
            self.ctx.blockConcurrencyWhile(lambda name=name: self.section(name)) for name in names
        ]
        self.log.append("asked")
        return [await outcome for outcome in outcomes]

    async def go_on_after(self, how, name):
        run = self.ctx.blockConcurrencyWhile if how == "section" else self.ctx.storage.transaction
        await run(lambda *_: self.section(name))
        self.log.append("asker goes on")

    async def block_unawaited(self, name):
        self.ctx.blockConcurrencyWhile(lambda: self.section(name))
        await self.ctx.storage.get("k")
        self.log.append("still here")

    async def nested(self, depth):
        async def inner(left):
            self.log.append(f"in {left}")
            if left:
                await self.ctx.blockConcurrencyWhile(lambda: inner(left - 1))
            self.log.append(f"out {left}")
            return left

        return await self.ctx.blockConcurrencyWhile(lambda: inner(depth))

    async def sibling_within(self):
        async def outer():
            inner = [
                self.ctx.blockConcurrencyWhile(lambda name=name: self.section(name))
                for name in ("b", "c")
            ]
            await asyncio.gather(*inner)

        await self.ctx.blockConcurrencyWhile(outer)

    async def too_many(self):
        async def section(depth):
            try:
                await self.ctx.blockConcurrencyWhile(partial(section, depth + 1))
            except RuntimeError as error:
                self.ctx.abort(f"{error} {depth}")

        await section(0)

    def abort(self):
        self.ctx.abort("over")

    async def section_that(self, behaves):
        return await self.ctx.blockConcurrencyWhile(getattr(self, behaves))

    async def raises(self):
        await self.ctx.storage.put("k", "lost")
        raise LookupError("in the section")

    async def exits(self):
        raise SystemExit("in the section")

    async def times_out(self):
        raise TimeoutError("its own")

    async def is_cancelled(self):
        raise asyncio.CancelledError("its own")

    async def aborts(self):
        self.ctx.abort("from the section")

    def is_no_coroutine(self):
        return 5

    async def never_ends(self):
        await asyncio.get_running_loop().create_future()

    async def will_not_end(self):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.log.append("no")
        await self.gate("end").wait()

    async def get(self, key):
        return await self.ctx.storage.get(key)


@pytest.fixture
async def opened(house):
    return await house(CAREFUL=Careful)


@pytest.fixture
async def stub(opened):
    return opened.env.CAREFUL.getByName("a")


@pytest.fixture
async def instance(opened, stub):
    """The live instance, to open gates while no event can."""
    await stub.say("made")
    found = opened.activation(stub).instance
    found.log.clear()
    return found


async def test_no_event_starts_within_it_and_those_that_came_start_in_order_after_it(
    stub, instance
):
    blocking = stub.block("s")
    calls = [stub.say(n) for n in range(3)]
    await settle()
    assert instance.log == ["asked", "s begins"]
    instance.open("s")
    assert await soon(blocking) == ["s"]
    assert (await soon(calls[2]))[:6] == ["asked", "s begins", "s ends", 0, 1, 2]


async def test_no_event_that_waits_goes_on_within_it_and_it_goes_first_after_it(stub, instance):
    waiting = stub.wait("w")
    await settle()
    blocking = stub.block("s")
    late = stub.say("late")
    await settle()
    instance.open("w")
    await settle()
    assert instance.log == ["w waits", "asked", "s begins"]
    instance.open("s")
    await soon(asyncio.gather(waiting, blocking, late))
    assert instance.log == ["w waits", "asked", "s begins", "s ends", "w goes on", "late"]


@pytest.mark.parametrize("how", ["section", "transaction"])
async def test_who_awaits_it_goes_on_before_all_that_waited_for_its_end(stub, instance, how):
    waiting = stub.wait("w")
    await settle()
    asking = stub.go_on_after(how, "s")
    late = stub.say("late")
    await settle()
    instance.open("w")
    await settle()
    instance.open("s")
    await soon(asyncio.gather(waiting, asking, late))
    assert instance.log[2:] == ["s ends", "asker goes on", "w goes on", "late"]


async def test_it_begins_after_the_current_turn(stub, instance):
    await soon(stub.block_unawaited("s"))
    await settle()
    assert instance.log == ["still here", "s begins"]
    instance.open("s")
    assert (await soon(stub.say("after")))[2:] == ["s ends", "after"]


async def test_other_objects_go_on(opened, stub, instance):
    blocking = stub.block("s")
    assert await soon(opened.env.CAREFUL.getByName("b").say("free")) == ["free"]
    instance.open("s")
    await soon(blocking)


async def test_two_of_one_event_run_one_after_the_other(stub, instance):
    blocking = stub.block("a", "b")
    await settle()
    instance.open("b")
    await settle()
    assert instance.log == ["asked", "a begins"]
    instance.open("a")
    assert await soon(blocking) == ["a", "b"]
    assert instance.log == ["asked", "a begins", "a ends", "b begins", "b ends"]


async def test_they_nest(stub, instance):
    late = None
    call = stub.nested(3)
    late = stub.say("late")
    assert await soon(call) == 3
    await soon(late)
    ins, outs = [f"in {n}" for n in (3, 2, 1, 0)], [f"out {n}" for n in (0, 1, 2, 3)]
    assert instance.log == [*ins, *outs, "late"]


async def test_two_within_one_run_one_after_the_other(stub, instance):
    call = stub.sibling_within()
    await settle()
    assert instance.log == ["b begins"]
    instance.open("c")
    instance.open("b")
    await soon(call)
    assert instance.log == ["b begins", "b ends", "c begins", "c ends"]


async def test_64_deep_is_the_limit(stub, instance):
    with pytest.raises(ObjectReset, match=r"calls are nested too deeply\. 64$"):
        await soon(stub.too_many())


async def test_a_constructor_s_sections_end_before_the_first_event(house):
    class Initialised(DurableObject):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            self.steps = []

            @ctx.blockConcurrencyWhile
            async def first():
                await asyncio.sleep(0)
                self.steps.append("first")

            @ctx.block_concurrency_while
            async def second():
                self.steps.append("second")

            self.steps.append("constructed")

        def read(self, n):
            return [*self.steps, n]

    stub = (await house(OBJECTS=Initialised)).env.OBJECTS.getByName("a")
    expected = [["constructed", "first", "second", n] for n in range(3)]
    assert await soon(asyncio.gather(*(stub.read(n) for n in range(3)))) == expected


async def test_an_event_cancelled_while_it_waits_for_the_gate_is_forgotten(stub, instance):
    blocking = stub.block("s")
    late, later = stub.say("late"), stub.say("later")
    await settle()
    late.cancel()
    await settle()
    instance.open("s")
    await soon(blocking)
    assert await soon(later) == ["asked", "s begins", "s ends", "later"]


# --- failing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaves", "text"),
    [
        ("raises", "LookupError: in the section"),
        ("exits", "SystemExit: in the section"),
        ("times_out", "TimeoutError: its own"),
        ("is_cancelled", "CancelledError: its own"),
        ("is_no_coroutine", "TypeError: object int can't be used in 'await' expression"),
    ],
)
async def test_one_that_fails_resets_the_object(opened, stub, instance, behaves, text, monkeypatch):
    monkeypatch.setattr("runtime.host.host.SLICE_NS", 10**12)  # the calls arrive in one slice
    calls = [stub.wait("w"), stub.section_that(behaves), stub.say("in the mailbox")]
    failures = await soon(asyncio.gather(*calls, return_exceptions=True))
    for failure in failures:
        assert type(failure) is ObjectReset
        assert str(failure) == f"blockConcurrencyWhile() failed: {text}"
        assert failure.durable_object_reset
        assert failure.durable_object_id == str(stub.id)
        assert not failure.overloaded
    assert await soon(stub.say("new")) == ["new"]
    assert await stub.get("k") is None
    assert opened.host.waiting == 0


async def test_one_that_calls_abort_resets_the_object_with_that_reason(stub, instance, caplog):
    with pytest.raises(ObjectReset, match=r"^from the section$"):
        await soon(stub.section_that("aborts"))
    assert await soon(stub.say("new")) == ["new"]
    assert caplog.text == ""


async def test_events_behind_one_that_resets_the_object_after_it_are_told(stub, instance):
    blocking = stub.block("s")
    calls = [stub.say(1), stub.abort(), stub.say(2), stub.say(3)]
    await settle()
    instance.open("s")
    first, *failures = await soon(asyncio.gather(*calls, return_exceptions=True))
    assert first[-1] == 1
    assert [str(failure) for failure in failures] == ["over"] * 3
    assert await soon(blocking) == ["s"]  # it went on before them
    assert await soon(stub.say("new")) == ["new"]


@pytest.mark.parametrize("behaves", ["never_ends", "will_not_end"])
async def test_one_that_takes_too_long_resets_the_object_as_overloaded(
    opened, stub, instance, monkeypatch, behaves
):
    """Even if it does not listen to its cancellation."""
    monkeypatch.setattr(context, "CRITICAL_SECONDS", 0)
    calls = [stub.section_that(behaves), stub.say("in the mailbox")]
    for failure in await soon(asyncio.gather(*calls, return_exceptions=True)):
        assert type(failure) is ObjectReset
        assert str(failure) == (
            "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call "
            "was canceled and the Durable Object was reset."
        )
        assert failure.overloaded
        assert failure.durable_object_reset
    assert await soon(stub.say("new")) == ["new"]
    if behaves == "will_not_end":
        assert instance.log == ["no"]
        assert opened.host.waiting == 1
        instance.open("end")
        await settle()
    assert opened.host.waiting == 0


async def test_one_that_ends_in_time_is_not_late_afterwards(stub, instance, monkeypatch):
    monkeypatch.setattr(context, "CRITICAL_SECONDS", 3600)
    blocking = stub.block("s")
    instance.open("s")
    assert await soon(blocking) == ["s"]
    handles = asyncio.get_running_loop()._scheduled
    assert not [handle for handle in handles if not handle.cancelled() and "reset" in repr(handle)]


async def test_a_failure_that_nobody_awaits_resets_the_object_and_is_logged(house, caplog):
    class Broken(DurableObject):
        tries = 0

        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            Broken.tries += 1

            @ctx.blockConcurrencyWhile
            async def initialise():
                if Broken.tries == 1:
                    raise LookupError("no table")

        def hello(self):
            return Broken.tries

    stub = (await house(BROKEN=Broken)).env.BROKEN.getByName("a")
    with pytest.raises(ObjectReset, match="LookupError: no table"):
        await soon(stub.hello())
    assert await soon(stub.hello()) == 2
    assert f"blockConcurrencyWhile() of Broken {stub.id} failed" in caplog.text


async def test_the_code_of_a_reset_object_can_block_nothing_any_more(house):
    class Remnant(DurableObject):
        async def wait(self):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                Remnant.ran = []

                async def section():
                    Remnant.ran.append("section")

                try:
                    await self.ctx.blockConcurrencyWhile(section)
                except ObjectReset as error:
                    Remnant.ran.append(str(error))

        def stop(self):
            self.ctx.abort("over")

    stub = (await house(REMNANT=Remnant)).env.REMNANT.getByName("a")
    calls = [stub.wait(), stub.stop()]
    for failure in await soon(asyncio.gather(*calls, return_exceptions=True)):
        assert str(failure) == "over"
        assert not isinstance(failure, RemoteError)
    assert Remnant.ran == ["over"]
