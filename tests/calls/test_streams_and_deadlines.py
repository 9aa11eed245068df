"""Generators, deadlines and large values through a whole instance."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from runtime import AsyncRuntime, Runtime
from runtime.wire.streams import CREDIT
from workers import DeadlineExceeded, DurableObject, HostLost, RuntimeClosed

SECONDS = 20


class Source(DurableObject):
    """Gives items, and tells what became of its generators."""

    closed = 0
    heard = None

    def note(self):
        self.closed += 1
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(None)

    async def until_closed(self, count):
        while self.closed < count:
            self.heard = asyncio.get_running_loop().create_future()
            await self.heard
        return self.closed

    def count(self, end):
        try:
            yield from range(end)
        finally:
            self.note()

    async def count_slowly(self, end):
        try:
            for number in range(end):
                await asyncio.sleep(0)
                yield {"number": number}
        finally:
            self.note()

    async def pause(self):
        yield 1
        await asyncio.get_running_loop().create_future()

    def fail(self):
        yield 1
        raise LookupError("no more")

    async def store(self, end):
        for number in range(end):
            await self.ctx.storage.put("last", number)
            yield bytes(CREDIT // 8)

    async def last(self):
        return await self.ctx.storage.get("last")

    async def relay(self, name, end):
        return [item async for item in self.env.SOURCES.getByName(name).count(end)]

    async def pass_on(self, what):
        another = self.env.SOURCES.getByName("another")
        return {
            "a call": another.count(1),
            "items": await another.count(1),
            "itself": self,
            "its method": self.last,
        }[what]

    async def wait(self):
        self.cancelled = asyncio.get_running_loop().create_future()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set_result(True)
            raise

    async def was_cancelled(self):
        return await self.cancelled

    def echo(self, value):
        return value

    def shape(self, array):
        return array.shape, array.flags.writeable, float(array[0])

    def pid(self):
        return os.getpid()

    def die_after(self, items):
        yield from range(items)
        os.kill(os.getpid(), 9)


@pytest.fixture(scope="module")
def rt(tmp_path_factory):
    with Runtime(
        objects={"SOURCES": Source}, hosts=2, data_dir=tmp_path_factory.mktemp("data")
    ) as runtime:
        yield runtime


@pytest.fixture
def source(rt, request):
    return rt.env.SOURCES.getByName(request.node.name)


def shelf_files():
    return [
        file
        for folder in Path("/dev/shm").glob("*-*")
        if folder.is_dir()
        for file in folder.iterdir()
        if f"c{os.getpid()}-" in file.name and ".kept-" not in file.name
    ]


def test_a_generator_streams_to_a_plain_loop(source):
    assert list(source.count(5)) == [0, 1, 2, 3, 4]
    assert sum(source.count(100_000)) == sum(range(100_000))
    assert [item["number"] for item in source.count_slowly(100)] == list(range(100))
    assert source.until_closed(3) == 3


def test_a_submitted_generator_gives_an_iterator(source):
    assert list(source.count.submit(1000).result()) == list(range(1000))


@pytest.mark.parametrize("method", ["count", "count_slowly"])
def test_leaving_the_loop_closes_the_generator(rt, method):
    source = rt.env.SOURCES.getByName(f"left {method}")
    items = getattr(source, method)(10**9)
    assert next(items) is not None
    items.close()
    assert list(items) == []
    assert source.until_closed(1) == 1


def test_threads_may_share_an_iterator(source):
    items = source.count(50_000)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: list(items), range(4)))
    assert sorted(number for some in found for number in some) == list(range(50_000))


def test_an_iterator_may_be_closed_while_another_thread_waits_for_its_next_item(source):
    items = source.pause()
    assert next(items) == 1
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(list, items)
        items.close()
        assert waiting.result(SECONDS) == []


def test_a_reader_that_stops_reading_holds_the_generator_back(source):
    items = source.store(10**9)
    next(items)
    assert max(source.last() for _ in range(300)) < 20
    items.close()


def test_what_a_generator_raises_comes_after_its_items_with_the_remote_traceback(source):
    items = source.fail()
    assert next(items) == 1
    with pytest.raises(LookupError, match="no more") as raised:
        next(items)
    assert raised.value.remote
    assert raised.value.durable_object_id == str(source.id)
    assert "in fail" in raised.value.remote_traceback
    assert list(items) == []


def test_objects_read_each_others_generators(source):
    assert source.relay("another", 1000) == list(range(1000))
    assert source.relay("one more", 10) == list(range(10))


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("a call", "await it"),
        ("items", "read them"),
        ("itself", "send a stub"),
        ("its method", "send a stub"),
    ],
)
def test_what_stays_in_its_process_says_so(source, what, why):
    with pytest.raises(TypeError, match=f"cannot be sent to another process: .*{why}"):
        source.pass_on(what)


async def test_a_generator_streams_to_an_asynchronous_loop(tmp_path):
    async with AsyncRuntime(objects={"SOURCES": Source}, hosts=1, data_dir=tmp_path) as rt:
        source = rt.env.SOURCES.getByName("a")
        assert [item async for item in source.count(1000)] == list(range(1000))
        async for item in source.count(10**9):
            if item == 10:
                break
        items = await source.count(3)
        assert [item async for item in items] == [0, 1, 2]
        with pytest.raises(TypeError, match="no generator"):
            async for _ in source.echo(1):
                pass
        with pytest.raises(DeadlineExceeded):
            await source.wait.with_timeout(0.05)()
        assert await source.was_cancelled()


def test_a_generator_whose_host_dies_ends_in_host_lost(rt):
    source = rt.env.SOURCES.getByName("dies")
    for call in (source.die_after, lambda items: source.die_after.submit(items).result(SECONDS)):
        with pytest.raises(HostLost, match=r"^host . died [^,]*; call again$") as raised:
            list(call(3))
        assert raised.value.retryable
        assert raised.value.durable_object_id == str(source.id)
    assert source.echo(1) == 1


@pytest.mark.parametrize("submit", [False, True])
def test_a_call_after_a_loss_waits_for_the_host_that_comes_next(rt, monkeypatch, submit):
    """Also when the loop has not heard of the loss yet."""
    connection, held = rt._connection, []
    hear, caller = connection._heard, connection.caller
    post = caller.post

    def hear_later(verb, text):
        held.append((verb, text))

    def hear_again():
        monkeypatch.undo()
        while held:
            hear(*held.pop(0))

    def post_and_hear(*call):
        post(*call)
        connection._loop.call_soon(hear_again)

    source = rt.env.SOURCES.getByName("dies again")
    monkeypatch.setattr(connection, "_heard", hear_later)
    monkeypatch.setattr(caller, "post", post_and_hear)
    with pytest.raises(HostLost):
        list(source.die_after(3))
    assert (source.echo.submit(1).result(30) if submit else source.echo(1)) == 1
    connection._loop.call_soon_threadsafe(hear_again)


@pytest.mark.parametrize("submit", [False, True])
def test_a_call_that_takes_too_long_fails_and_is_cancelled_at_the_object(rt, submit):
    source = rt.env.SOURCES.getByName(f"too long {submit}")
    wait = source.wait.options(timeout=0.05)
    call = (lambda: wait.submit().result()) if submit else wait
    with pytest.raises(DeadlineExceeded, match=r"wait\(\) of Source .* within 0.05 s"):
        call()
    assert source.was_cancelled()
    assert source.echo.with_timeout(30)("in time") == "in time"


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_must_be_positive(source, seconds):
    with pytest.raises(ValueError, match="positive"):
        source.echo.with_timeout(seconds)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, Decimal(20), None])
def test_a_timeout_may_be_any_positive_number(source, seconds):
    assert source.echo.with_timeout(seconds)(1) == 1
    assert source.echo.with_timeout(seconds).submit(2).result(SECONDS) == 2
    assert source.echo.submit(3).result(SECONDS) == 3


@pytest.mark.parametrize("size", [10_000, 100_000, 4_000_000])
def test_arrays_of_all_sizes_go_and_come_back_read_only(source, size):
    array = np.arange(size, dtype=np.float64) + 1
    assert source.shape(array) == ((size,), size < 8192, 1.0)
    assert source.shape.submit(array).result() == ((size,), size < 8192, 1.0)
    assert np.array_equal(source.echo(array), array)
    assert np.array_equal(source.echo.submit([array]).result()[0], array)
    assert not shelf_files()


def test_large_values_that_nobody_takes_leave_nothing_in_shared_memory(rt):
    source = rt.env.SOURCES.getByName("leaves")
    pid = source.pid()
    calls = [source.echo.submit(np.zeros(1 << 18)) for _ in range(50)]
    dying = source.die_after.submit(1)
    late = [source.echo.submit(np.zeros(1 << 18)) for _ in range(50)]
    with pytest.raises(HostLost):
        list(dying.result())
    for call in (*calls, *late):
        assert call.exception() is None or isinstance(call.exception(), HostLost)
    assert source.pid() != pid
    assert not shelf_files()


def test_a_large_argument_that_is_cancelled_at_once_leaves_nothing_in_shared_memory(rt, source):
    sent, go_on = threading.Event(), threading.Event()
    rt._loop.call_soon_threadsafe(lambda: (sent.set(), go_on.wait(SECONDS)))
    assert sent.wait(SECONDS)
    call = source.echo.submit(np.zeros(1 << 18))
    assert call.cancel()
    go_on.set()
    assert source.echo.submit(1).result(SECONDS) == 1
    assert not shelf_files()


def test_closing_a_runtime_does_not_wait_for_items_that_nobody_reads(tmp_path):
    with Runtime(objects={"SOURCES": Source}, hosts=1, data_dir=tmp_path) as rt:
        source = rt.env.SOURCES.getByName("a")
        directly, submitted = source.count(10**9), source.count.submit(10**9).result()
        assert next(directly) == next(submitted) == 0
    with pytest.raises(RuntimeClosed):
        list(directly)
    with pytest.raises(RuntimeClosed):
        list(submitted)
