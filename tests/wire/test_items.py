"""Items of generators as pieces of bytes: none lost, none twice, in order, wherever they are cut."""

import asyncio
import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire.items import PIECE_ITEMS, Pieces, pieces

plain = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
items = st.lists(plain | st.lists(plain) | st.dictionaries(st.text(), plain), max_size=50)


async def read(generator):
    return [piece async for piece in pieces(generator)]


@given(
    items, st.lists(st.booleans(), min_size=50, max_size=50), st.lists(st.floats(0, 1), max_size=8)
)
def test_items_arrive_as_they_were_wherever_the_stream_is_cut(given_items, waits, cuts):
    async def asynchronous():
        for item, wait in zip(given_items, waits, strict=False):
            yield item
            if wait:
                await asyncio.sleep(0)

    for generator in ((item for item in given_items), asynchronous()):
        stream = b"".join(asyncio.run(read(generator)))
        # How many pieces it is made of, and so its length, is a matter of time.
        places = sorted(int(cut * len(stream)) for cut in cuts)
        reader = Pieces()
        found = []
        for start, end in zip([0, *places], [*places, len(stream)], strict=True):
            found += reader.feed(stream[start:end])
        assert found == given_items


async def test_many_cheap_items_share_a_piece_and_a_lone_one_does_not_wait():
    assert len(await read(iter_of(PIECE_ITEMS))) <= 2
    gate = asyncio.Event()

    async def slow():
        yield "first"
        await gate.wait()
        yield "second"

    stream = pieces(slow())
    assert list(Pieces().feed(await anext(stream))) == ["first"]
    gate.set()
    assert list(Pieces().feed(await anext(stream))) == ["second"]


def iter_of(count):
    return (number for number in range(count))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_items_before_a_failure_arrive_and_then_the_failure(asynchronous):
    def plainly():
        yield from (1, 2)
        raise KeyError("three")

    async def awaiting():
        yield 1
        await asyncio.sleep(0)
        yield 2
        await asyncio.sleep(0)
        raise KeyError("three")

    stream = pieces(awaiting() if asynchronous else plainly())
    found = []
    while len(found) < 2:
        found += Pieces().feed(await anext(stream))
    with pytest.raises(KeyError, match="three"):
        await anext(stream)
    assert found == [1, 2]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_items_arrive_as_they_were_when_they_were_given(asynchronous):
    row = {"cells": []}

    def plainly():
        for number in range(3):
            row["cells"].append(number)
            yield row

    async def awaiting():
        for item in plainly():
            yield item

    stream = b"".join(await read(awaiting() if asynchronous else plainly()))
    found = [item["cells"] for item in Pieces().feed(stream)]
    assert found == [[0], [0, 1], [0, 1, 2]]


async def test_items_before_one_that_cannot_be_sent_arrive_and_it_is_named():
    stream = pieces(item for item in (1, [2], threading.Lock(), 4))
    found = []
    while len(found) < 2:
        found += Pieces().feed(await anext(stream))
    with pytest.raises(TypeError, match=r"^lock cannot be sent"):
        await anext(stream)
    assert found == [1, [2]]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_closing_the_stream_closes_the_generator(asynchronous):
    closed = []

    def plainly():
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    async def awaiting():
        try:
            for number in range(10**9):
                yield number
        finally:
            closed.append(True)

    stream = pieces(awaiting() if asynchronous else plainly())
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


async def test_a_generator_that_is_cancelled_while_it_waits_may_clean_up():
    cleaned = []

    async def waiting():
        try:
            await asyncio.get_running_loop().create_future()
            yield 1
        finally:
            cleaned.append(True)

    task = asyncio.ensure_future(read(waiting()))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert cleaned == [True]


@pytest.mark.parametrize("gives_on", [False, True])
async def test_a_generator_that_waits_while_its_items_leave_is_closed_with_the_stream(gives_on):
    waited_for = asyncio.get_running_loop().create_future()
    cleaned = []

    async def waiting():
        yield 1
        try:
            await waited_for
        except asyncio.CancelledError:
            if not gives_on:
                raise
            yield 2
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    stream = pieces(waiting())
    assert list(Pieces().feed(await anext(stream))) == [1]
    await stream.aclose()
    assert cleaned == [True]
    assert waited_for.cancelled()


async def test_an_endless_generator_leaves_others_their_turns():
    turns = []

    async def others():
        for turn in range(3):
            turns.append(turn)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    async for _ in pieces(iter_of(10**9)):
        if task.done():
            break
    assert turns == [0, 1, 2]
