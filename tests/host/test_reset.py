"""The end of an instance: abort(), waitUntil, eviction, and what of the old one gets out: nothing."""

import asyncio
import gc
import logging
import weakref

import pytest

from tests.stepping import settle, soon
from workers import DurableObject, Response
from workers.errors import ObjectReset


class Fragile(DurableObject):
    """Ends in every way there is; `remnants` is what the code of an ended instance saw."""

    remnants = None
    fails = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        if Fragile.fails:
            Fragile.fails -= 1
            raise LookupError("in the constructor")
        self.count = 0
        self.gate = asyncio.Event()

    def bump(self):
        self.count += 1
        return self.count

    async def put(self, key, value):
        await self.ctx.storage.put(key, value)

    async def get(self, key):
        return await self.ctx.storage.get(key)

    async def wait(self):
        await self.gate.wait()
        return "waited"

    def open(self):
        self.gate.set()

    def abort(self, reason=None):
        self.ctx.abort(reason)

    async def put_and_abort(self, reason):
        await self.ctx.storage.put("k", "uncommitted")
        self.ctx.abort(reason)

    async def wait_and_abort(self, reason):
        await asyncio.sleep(0)
        self.ctx.abort(reason)

    async def catch_abort(self):
        await self.ctx.storage.put("k", "uncommitted")
        try:
            self.ctx.abort("no way back")
        except Exception:
            return "caught as an Exception"
        except BaseException:
            return "secret"

    async def stay(self, how):
        """Do not listen to the cancellation, and talk on."""
        await self.ctx.storage.put("k", "lost")
        self.count = 99
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            return await self.talk(how)

    async def talk(self, how):
        if how == "return":
            return self.count
        if how == "return a list":
            return [self.count]
        if how == "raise":
            raise LookupError(f"count is {self.count}")
        try:
            if how == "call":
                return await self.env.FRAGILE.getByName("witness").tell(self.count)
            if how == "kv":
                return await self.env.NOTES.put("count", str(self.count))
            await self.ctx.storage.put("k", self.count)
        except ObjectReset as error:
            Fragile.remnants.append(str(error))

    def tell(self, count):
        Fragile.remnants.append(count)

    async def later(self, how):
        async def code():
            await self.gate.wait()
            if how == "raises":
                raise LookupError("later")
            if how == "exits":
                raise SystemExit("later")
            if how == "aborts":
                self.ctx.abort("later")
            self.count += 10

        self.ctx.waitUntil(code())
        return "answered"

    async def later_future(self):
        future = asyncio.get_running_loop().create_future()
        self.ctx.wait_until(future)
        self.future = future
        return "answered"

    async def fetch(self, request):
        if request.url.endswith("/writes"):
            await self.ctx.storage.put("k", "streamed")
        return Response(self.pieces())

    async def pieces(self):
        try:
            yield b"first"
            await self.gate.wait()
            yield b"second"
        finally:
            Fragile.remnants.append("body closed")


@pytest.fixture
async def opened(house):
    Fragile.remnants = []
    Fragile.fails = 0
    return await house(FRAGILE=Fragile, kv=["NOTES"], idle_s=10)


@pytest.fixture
async def stub(opened):
    return opened.env.FRAGILE.getByName("a")


async def reset_error(call):
    with pytest.raises(ObjectReset) as raised:
        await soon(call)
    assert raised.value.durable_object_reset
    assert raised.value.retryable
    return raised.value


# --- abort -----------------------------------------------------------------------------------------


async def test_abort_fails_the_call_with_its_reason_and_the_next_meets_a_new_instance(stub):
    await stub.bump()
    assert str(await reset_error(stub.abort("enough"))) == "enough"
    assert await stub.bump() == 1
    error = await reset_error(stub.wait_and_abort("enough of waiting"))
    assert str(error) == "enough of waiting"
    assert error.durable_object_id == str(stub.id)
    assert await stub.bump() == 1
    default = "Application called abort() to reset Durable Object."
    assert str(await reset_error(stub.abort())) == default


async def test_abort_fails_every_call_of_the_object_under_way(opened, stub):
    calls = [stub.wait(), stub.wait(), stub.abort("enough"), stub.bump()]
    *failures, count = await soon(asyncio.gather(*calls, return_exceptions=True))
    assert [str(failure) for failure in failures] == ["enough"] * 3
    assert count == 1
    assert opened.host.waiting == 0


async def test_abort_drops_what_was_not_committed_and_says_its_reason_all_the_same(stub):
    await stub.put("k", "committed")
    assert str(await reset_error(stub.put_and_abort("enough"))) == "enough"
    assert await stub.get("k") == "committed"


async def test_abort_while_a_commit_is_under_way_keeps_what_that_commits(stub, disk):
    disk.hold()
    writing = stub.put("k", "flying")
    await disk.held()
    aborting = stub.put_and_abort("enough")
    assert [str(await reset_error(call)) for call in (writing, aborting)] == ["enough"] * 2
    disk.release()
    assert await soon(stub.get("k")) == "flying"


async def test_events_that_waited_for_a_new_instance_outlive_its_end_too(opened, stub, disk):
    """Two of them end an instance each, one in the constructor; each other meets a live one."""
    disk.hold()
    writing = stub.put("k", "flying")
    await disk.held()
    aborting = stub.abort("first")
    await reset_error(aborting)
    Fragile.fails = 1
    calls = [stub.bump(), stub.bump(), stub.abort("second"), stub.bump(), stub.get("k")]
    await settle()
    assert not any(call.done() for call in calls)
    disk.release()
    await reset_error(writing)
    failed, *results = await soon(asyncio.gather(*calls, return_exceptions=True))
    assert isinstance(failed, LookupError)
    assert [str(result) for result in results] == ["1", "second", "1", "flying"]
    assert opened.host.waiting == 0


async def test_except_exception_does_not_stop_abort_and_nothing_makes_it_undone(stub):
    assert str(await reset_error(stub.catch_abort())) == "no way back"
    assert await stub.get("k") is None


# --- the code of an ended instance -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["return", "return a list", "raise", "call", "kv", "write"])
@pytest.mark.parametrize("end", ["abort", "commit"])
async def test_nothing_gets_out_of_an_instance_that_has_ended(opened, stub, disk, how, end):
    witness = opened.env.FRAGILE.getByName("witness")
    await witness.bump()
    disk.hold()
    staying = stub.stay(how)
    await disk.held()
    if end == "abort":
        await reset_error(stub.abort("enough"))
        reason = "enough"
    else:
        disk.error = OSError(5, "Input/output error")
        reason = f"Fragile {stub.id} was reset, because its writes could not be committed"
    disk.release()
    assert str(await reset_error(staying)).startswith(reason)
    disk.error = None
    await settle()
    assert await soon(stub.bump()) == 1
    assert await opened.env.NOTES.get("count") is None
    if how in {"call", "kv"}:
        (seen,) = Fragile.remnants
        assert seen.startswith(reason)
    elif how == "write":
        (seen,) = Fragile.remnants
        assert "was reset and can no longer use its storage" in seen


@pytest.mark.parametrize("path", ["", "writes"])
async def test_a_body_that_is_being_read_breaks_with_the_reset(opened, stub, path):
    response = await soon(stub.fetch(f"http://x/{path}"))
    pieces = aiter(response.body)
    assert await soon(anext(pieces)) == b"first"
    await reset_error(stub.abort("enough"))
    assert str(await reset_error(anext(pieces))) == "enough"
    await settle()
    assert Fragile.remnants == ["body closed"]


async def test_a_body_that_nobody_began_to_read_breaks_with_the_reset(opened, stub):
    call = stub.fetch("http://x/")
    aborting = stub.abort("enough")
    response = await soon(call)
    await reset_error(aborting)
    assert str(await reset_error(response.bytes())) == "enough"
    await settle()
    assert opened.host.local.streams.writing == 0


# --- waitUntil -------------------------------------------------------------------------------------


async def test_what_was_given_to_wait_until_goes_on_after_the_answer(opened, stub):
    assert await stub.later("ends") == "answered"
    assert await stub.bump() == 1
    assert opened.host.waiting == 1
    await stub.open()
    await settle()
    assert await stub.bump() == 12
    assert opened.host.waiting == 0


@pytest.mark.parametrize("how", ["raises", "exits"])
async def test_what_it_raises_is_logged_with_the_object_and_harms_nobody(stub, caplog, how):
    await stub.later(how)
    with caplog.at_level(logging.ERROR, "roost.host"):
        await stub.open()
        await settle()
    assert f"waitUntil() of Fragile {stub.id} failed" in caplog.text
    assert "later" in caplog.text
    assert await stub.bump() == 1


async def test_abort_within_it_resets_the_object(stub, caplog):
    await stub.later("aborts")
    waiting = stub.wait()
    await settle()
    await stub.open()
    assert str(await reset_error(waiting)) == "later"
    await settle()
    assert await stub.bump() == 1
    assert caplog.text == ""


async def test_a_reset_cancels_it(opened, stub):
    await stub.later("ends")
    await stub.later_future()
    future = opened.activation(stub).instance.future
    await reset_error(stub.abort())
    await settle()
    assert future.cancelled()
    assert opened.host.waiting == 0


# --- eviction --------------------------------------------------------------------------------------


async def test_an_idle_object_leaves_memory_and_comes_back_from_storage(opened, stub):
    await stub.put("k", "kept")
    await stub.bump()
    opened.host.catalog.tick(0.0)
    opened.host.catalog.tick(9.9)
    assert len(opened.host.catalog) == 1
    opened.host.catalog.tick(20.1)
    assert len(opened.host.catalog) == 0
    assert await stub.bump() == 1
    assert await stub.get("k") == "kept"


async def test_what_an_evicted_instance_has_left_running_changes_nothing(opened, stub):
    await stub.put("k", "kept")
    storage = opened.activation(stub).instance.ctx.storage
    for now in (0.0, 20.1):
        opened.host.catalog.tick(now)
    assert await stub.get("k") == "kept"  # there is another instance
    for use in (
        lambda: storage.put("k", "late"),
        lambda: storage.get("k"),
        lambda: storage.delete("k"),
        storage.list,
        storage.deleteAll,
        lambda: storage.sql.exec("SELECT 1"),
        lambda: storage.transaction(lambda txn: txn.put("k", "late")),
    ):
        with pytest.raises(ObjectReset, match="left memory when it had nothing to do"):
            use()
    assert await stub.get("k") == "kept"


async def test_a_call_keeps_an_object_for_as_long_again(opened, stub):
    tick = opened.host.catalog.tick
    await stub.bump()
    for now in range(5, 100, 5):
        tick(float(now))
        assert await stub.bump() > now // 5
    tick(109.0)
    tick(116.0)
    assert len(opened.host.catalog) == 0


@pytest.mark.parametrize("busy", ["event", "wait_until", "commit", "body", "section"])
async def test_an_object_that_is_busy_is_not_evicted_before_it_was_idle_for_long_enough(
    opened, stub, disk, busy
):
    tick = opened.host.catalog.tick
    await stub.bump()
    instance = opened.activation(stub).instance
    call = None
    if busy == "event":
        call = stub.wait()
    elif busy == "wait_until":
        await stub.later("ends")
    elif busy == "commit":
        disk.hold()
        call = stub.put("k", 1)
        await disk.held()
    elif busy == "section":
        instance.ctx.blockConcurrencyWhile(instance.gate.wait)
    else:
        pieces = aiter((await stub.fetch("http://x/")).body)
        assert await anext(pieces) == b"first"
    await settle()
    for now in (100.0, 200.0, 300.0):
        tick(now)
    assert opened.activation(stub).instance is instance
    instance.gate.set()
    disk.release()
    if call is not None:
        await soon(call)
    if busy == "body":
        assert [piece async for piece in pieces] == [b"second"]
    await settle()
    opened.host.catalog.live[stub.id.raw].touched = 0.0
    tick(305.0)
    assert len(opened.host.catalog) == 1
    tick(330.0)
    tick(350.0)
    assert len(opened.host.catalog) == 0


async def test_the_memory_of_evicted_objects_is_given_back_when_the_host_has_nothing_to_do(
    opened, stub
):
    stubs = [opened.env.FRAGILE.getByName(f"{number}") for number in range(3)]
    gc.disable()  # nobody else looks for cycles
    try:
        for other in (stub, *stubs):
            await other.bump()
        instances = [weakref.ref(opened.activation(each).instance) for each in (stub, *stubs)]
        waiting = stub.wait()
        await settle()
        opened.host.catalog.tick(1000.0)
        assert [bool(instance()) for instance in instances] == [True] * 4
        opened.activation(stub).instance.gate.set()
        await soon(waiting)
        await settle()
        opened.host.catalog.tick(1001.0)
        assert [bool(instance()) for instance in instances] == [True, False, False, False]
    finally:
        gc.enable()


async def test_a_body_that_nobody_reads_any_more_keeps_no_object(opened, stub):
    response = await stub.fetch("http://x/")
    del response
    await settle()
    opened.host.catalog.tick(100.0)
    opened.host.catalog.tick(200.0)
    assert len(opened.host.catalog) == 0


async def test_with_no_time_to_idle_an_object_leaves_at_the_next_look(house):
    opened = await house(FRAGILE=Fragile, idle_s=0)
    stub = opened.env.FRAGILE.getByName("a")
    call = stub.wait()
    await settle()
    opened.host.catalog.tick(1.0)
    assert len(opened.host.catalog) == 1
    await stub.open()
    await soon(call)
    opened.host.catalog.tick(2.0)
    assert len(opened.host.catalog) == 0
