"""Bodies between two ends: in order, whole or broken, never more under way than was asked for."""

import asyncio
import contextlib
import gc
import logging
from contextvars import ContextVar, copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import messages as m
from runtime.wire.streams import CHUNK_SIZE, CREDIT, Streams
from workers.errors import HostLost, RemoteError


class Wire:
    """Two ends, and the messages between them, which a test delivers when it likes."""

    def __init__(self):
        self.to_reader, self.to_writer = [], []
        self.writer = Streams(self.to_reader.append)
        self.reader = Streams(self.to_writer.append)

    def deliver(self, to=None):
        """Deliver what has been said; to one end or to both."""
        for queue, end in ((self.to_writer, self.writer), (self.to_reader, self.reader)):
            if to in (None, end):
                waiting, queue[:] = queue[:], []
                for message in waiting:
                    end.handle(message)

    async def settle(self):
        """Deliver everything, and let the loop turn, until nothing more is said."""
        for _ in range(10):
            self.deliver()
            await asyncio.sleep(0)

    def offer(self, source, **how):
        return self.reader.receive(self.writer.send(source, **how))

    def chunks(self):
        return [len(message[2]) for message in self.to_reader if message[0] == m.CHUNK]


@pytest.fixture
async def wire():
    return Wire()


class Source:
    """An iterator of pieces that notes how far it was read, and when it was closed."""

    def __init__(self, pieces, error=None):
        self.pieces = list(pieces)
        self.error = error
        self.read = 0
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.pieces:
            self.read += 1
            return self.pieces.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self):
        self.closed += 1


async def collect(inflow, into):
    async for chunk in inflow:
        into.append(chunk)


async def reading(wire, inflow):
    """Read to the end while messages go to and fro."""
    got = []
    task = asyncio.ensure_future(collect(inflow, got))
    while not task.done():
        await wire.settle()
    task.result()
    return got


# --- whole, and in order ---------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3 * CHUNK_SIZE), max_size=12).map(
        lambda sizes: [bytes([number]) * size for number, size in enumerate(sizes)]
    )
)
def test_a_body_arrives_whole_and_in_order(pieces):
    async def main():
        wire = Wire()
        inflow = wire.offer(Source(pieces))
        got = await reading(wire, inflow)
        assert b"".join(got) == b"".join(pieces)
        assert all(0 < len(chunk) <= CHUNK_SIZE for chunk in got)
        assert wire.writer.writing == 0
        with pytest.raises(StopAsyncIteration):
            await anext(inflow)

    asyncio.run(main())


async def test_two_bodies_of_one_connection_do_not_mix(wire):
    first = wire.offer(Source([b"a" * CHUNK_SIZE] * 9))
    second = wire.offer(Source([b"b"] * 9))
    got = await asyncio.gather(reading(wire, first), reading(wire, second))
    assert [b"".join(chunks) for chunks in got] == [b"a" * CHUNK_SIZE * 9, b"b" * 9]


async def test_bodies_flow_both_ways_under_the_same_number(wire):
    upload = wire.offer(Source([b"up"]))
    download = wire.writer.receive(wire.reader.send(Source([b"down"])))
    assert await reading(wire, upload) == [b"up"]
    assert await reading(wire, download) == [b"down"]


# --- credit ----------------------------------------------------------------------------------------


async def test_nothing_of_a_body_is_read_or_sent_before_its_reader_asks(wire):
    source = Source([b"a"])
    number = wire.writer.send(source)
    await wire.settle()
    assert (source.read, wire.to_reader) == (0, [])
    wire.reader.receive(number)
    assert wire.to_writer == [(m.PULL, number, CREDIT)]
    await wire.settle()
    assert source.read == 1


async def test_a_slow_reader_holds_the_writer_back(wire):
    source = Source([b"x" * CHUNK_SIZE] * 40)
    inflow = wire.offer(source)
    held = []
    for _ in range(20):
        await wire.settle()
        held.append(sum(map(len, inflow._chunks)))
        await anext(inflow)
    assert max(held) < CREDIT + CHUNK_SIZE
    assert source.read <= 20 + CREDIT // CHUNK_SIZE + 1
    assert min(held[:10]) >= CREDIT // 2  # and the reader never waits for a writer that could write


async def test_a_piece_larger_than_the_credit_waits_in_the_middle(wire):
    source = Source([b"x" * (4 * CREDIT)])
    inflow = wire.offer(source)
    wire.deliver(wire.writer)
    for _ in range(5):
        await asyncio.sleep(0)
    assert sum(wire.chunks()) == CREDIT
    assert len(b"".join(await reading(wire, inflow))) == 4 * CREDIT


async def test_reading_gives_credit_back_in_halves_and_not_at_every_chunk(wire):
    inflow = wire.offer(Source([b"x" * 1024] * 2048))
    await wire.settle()
    pulls = []
    for _ in range(1024):
        await anext(inflow)
        pulls += wire.to_writer
        wire.deliver(wire.writer)
    assert pulls == [(m.PULL, 1, CREDIT // 2)] * 2


# --- ends that are no good -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "arrives"),
    [
        (ValueError("broken"), ValueError),
        (asyncio.CancelledError("left"), RemoteError),
        (SystemExit(1), RemoteError),
        (KeyboardInterrupt("stop"), RemoteError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_what_the_body_raises_its_reader_gets_after_what_came_before(wire, error, arrives):
    source = Source([b"a", b"b"], error)
    inflow = wire.offer(source)
    await wire.settle()
    assert [await anext(inflow), await anext(inflow)] == [b"a", b"b"]
    for _ in range(2):
        with pytest.raises(arrives, match=str(error)):
            await anext(inflow)
    assert source.closed == 1
    assert wire.writer.writing == 0


async def test_a_body_that_is_broken_off_ends_with_the_error(wire):
    source = Source([b"a" * CHUNK_SIZE] * 40)
    inflow = wire.offer(source)
    await wire.settle()
    wire.writer.fail(1, HostLost("gone"))
    wire.writer.fail(1, HostLost("again"))
    with pytest.raises(HostLost, match="gone"):
        await reading(wire, inflow)
    assert source.closed == 1


async def test_a_body_that_is_broken_off_before_it_began_ends_with_the_error(wire):
    source = Source([b"a"])
    number = wire.writer.send(source)
    wire.writer.fail(number, HostLost("gone"))
    inflow = wire.reader.receive(number)
    with pytest.raises(HostLost, match="gone"):
        await reading(wire, inflow)
    assert (source.read, source.closed) == (0, 1)


async def test_a_lost_peer_breaks_what_is_read_and_closes_what_is_written(wire):
    source = Source([b"a" * CHUNK_SIZE] * 40)
    inflow = wire.offer(source)
    late = wire.offer(Source([b"short"]))
    await wire.settle()
    wire.reader.lost(HostLost("host 0 died"))
    wire.writer.lost(HostLost("the reader died"))
    await asyncio.sleep(0)
    assert len(await anext(inflow)) == CHUNK_SIZE  # what had arrived is good
    with pytest.raises(HostLost, match="host 0 died"):
        await collect(inflow, [])
    assert await anext(late) == b"short"
    await wire.settle()
    assert source.closed == 1
    assert wire.writer.writing == 0


async def test_a_reader_that_waits_hears_of_the_loss_at_once(wire):
    inflow = wire.reader.receive(1)
    task = asyncio.ensure_future(anext(inflow))
    await asyncio.sleep(0)
    wire.reader.lost(HostLost("host 0 died"))
    with pytest.raises(HostLost):
        await task


async def test_bodies_that_nobody_began_to_read_can_outlive_a_lost_peer(wire):
    kept, begun = Source([b"kept"]), Source([b"a" * CHUNK_SIZE] * 40)
    number = wire.writer.send(kept)
    wire.offer(begun)
    await wire.settle()
    wire.writer.lost(HostLost("host 0 died"), keep_unread=True)
    await wire.settle()
    assert (kept.closed, begun.closed) == (0, 1)
    assert await reading(wire, wire.reader.receive(number)) == [b"kept"]
    lost = Source([b"lost"])
    wire.writer.send(lost)
    wire.writer.lost(HostLost("host 0 died"))
    await wire.settle()
    assert lost.closed == 1
    assert wire.writer.writing == 0


# --- readers that have enough ----------------------------------------------------------------------


async def test_a_reader_that_has_enough_stops_the_writer_and_closes_its_source(wire):
    source = Source([b"a" * CHUNK_SIZE] * 40)
    inflow = wire.offer(source)
    await wire.settle()
    await anext(inflow)
    await inflow.aclose()
    await inflow.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(inflow)
    assert wire.to_writer == [(m.STOP, 1)]
    await wire.settle()
    assert source.closed == 1
    assert source.read < 40
    assert wire.writer.writing == 0
    assert wire.to_reader == []


async def test_stopping_a_body_that_never_began_closes_its_source(wire):
    source = Source([b"a"])
    wire.writer.stop(wire.writer.send(source))
    await wire.settle()
    assert (source.read, source.closed, wire.writer.writing) == (0, 1, 0)


async def test_stopping_a_body_in_the_tick_in_which_it_began_closes_its_source(wire):
    source = Source([b"a"])
    inflow = wire.offer(source)
    inflow.close()
    wire.deliver(wire.writer)  # both the PULL and the STOP
    await wire.settle()
    assert (source.read, source.closed, wire.writer.writing) == (0, 1, 0)


async def test_a_stopped_generator_runs_its_finally(wire):
    ended = []

    async def body():
        try:
            while True:
                yield b"x" * CHUNK_SIZE
        finally:
            await asyncio.sleep(0)
            ended.append("closed")

    inflow = wire.offer(body())
    await wire.settle()
    assert wire.writer.writing == 1
    inflow.close()
    await wire.settle()
    assert ended == ["closed"]
    assert wire.writer.writing == 0


async def test_a_source_that_will_not_close_is_logged_and_forgotten(wire, caplog):
    class Stuck(Source):
        async def aclose(self):
            raise SystemExit(1)

    inflow = wire.offer(Stuck([b"a" * CHUNK_SIZE] * 40))
    await wire.settle()
    with caplog.at_level(logging.ERROR, "roost.wire"):
        inflow.close()
        await wire.settle()
    assert "a body could not be closed" in caplog.text
    assert wire.writer.writing == 0


async def test_a_body_that_nobody_holds_any_more_is_stopped(wire):
    source = Source([b"a" * CHUNK_SIZE] * 40)
    inflow = wire.offer(source)
    await wire.settle()
    assert wire.writer.writing == 1
    del inflow
    gc.collect()
    await wire.settle()
    assert (source.closed, wire.writer.writing) == (1, 0)


async def test_a_body_read_to_its_end_is_dropped_in_silence(wire):
    inflow = wire.offer(Source([b"a"]))
    await reading(wire, inflow)
    del inflow
    gc.collect()
    await asyncio.sleep(0)
    assert wire.to_writer == []


async def test_who_reads_on_after_the_engine_closed_the_body_gets_the_error(wire):
    """Never an early end, which would pass for the whole body."""
    whole, part = wire.offer(Source([b"a", b"b"])), wire.offer(Source([b"a" * CHUNK_SIZE] * 40))
    await wire.settle()
    waiting = wire.reader.receive(9)
    task = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0)
    for inflow in (whole, part, waiting):
        inflow.close(OSError("too late"))
    for reader in (anext(whole), anext(part), task):
        with pytest.raises(OSError, match="too late"):
            await reader


async def test_a_reader_that_gives_up_waiting_loses_nothing(wire):
    inflow = wire.reader.receive(1)
    task = asyncio.ensure_future(anext(inflow))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    wire.reader.handle((m.CHUNK, 1, b"a"))
    wire.reader.handle((m.END, 1, None))
    assert await reading(wire, inflow) == [b"a"]


# --- what is late or unknown -----------------------------------------------------------------------


async def test_messages_of_bodies_that_are_over_are_ignored(wire):
    inflow = wire.offer(Source([b"a"]))
    await reading(wire, inflow)
    for message in ((m.PULL, 1, 5), (m.STOP, 1), (m.STOP, 77), (m.PULL, 77, 5)):
        wire.writer.handle(message)
    for message in ((m.CHUNK, 1, b"x"), (m.END, 1, None), (m.CHUNK, 77, b"x"), (m.END, 77, None)):
        wire.reader.handle(message)
    await wire.settle()
    assert wire.to_reader == wire.to_writer == []


async def test_a_body_runs_in_the_context_it_was_given(wire):
    color = ContextVar("color", default="none")
    context = copy_context()
    context.run(color.set, "red")
    seen = []

    async def body():
        try:
            seen.append(color.get())
            yield b"x"
            yield b"y" * 2 * CREDIT
        finally:
            seen.append(color.get())

    inflow = wire.offer(body(), context=context)
    await wire.settle()
    inflow.close()
    await wire.settle()
    assert seen == ["red", "red"]
