"""`namespace.map` in asyncio programs and in worker scripts."""

import asyncio

import pytest

from runtime import aconnect


@pytest.fixture
async def accounts(rt):
    connected = await aconnect(rt._instance.data)
    try:
        yield connected.env.ACCOUNTS
    finally:
        await connected.close()


async def test_items_come_from_a_plain_iterable(accounts):
    pairs = [pair async for pair in accounts.map("double", range(500), key=lambda n: n % 7)]
    assert sorted(pairs) == sorted((n % 7, 2 * n) for n in range(500))


async def test_items_come_from_an_asynchronous_one_and_results_do_not_wait_for_its_end(accounts):
    more = asyncio.Event()

    async def items():
        yield 1
        await more.wait()
        yield 2

    results = accounts.map("double", items(), key=str)
    assert await anext(results) == ("1", 2)
    more.set()
    assert [pair async for pair in results] == [("2", 4)]


async def test_what_the_input_raises_is_raised(accounts):
    async def items():
        yield 1
        raise LookupError("no more")

    results = accounts.map("double", items(), key=str)
    with pytest.raises(LookupError, match="no more"):
        [pair async for pair in results]


async def test_an_input_that_is_cancelled_ends_the_map(accounts):
    async def items():
        yield 1
        raise asyncio.CancelledError

    results = accounts.map("double", items(), key=str)
    assert await anext(results) == ("1", 2)
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await anext(results)


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_a_map_that_is_dropped_is_stopped_and_its_checkpoint_free(accounts, kind):
    async def items():
        for n in range(300):
            yield n

    name = f"dropped, {kind}"
    for last in (10, 300):
        given = range(300) if kind == "plain" else items()
        taken = 0
        async for _ in accounts.map(
            "double", given, key=lambda n: n % 3, checkpoint=name, in_flight=50
        ):
            taken += 1
            if taken == last:
                break
    assert taken == 300 - 9  # the last one that was taken before is yielded again


@pytest.mark.parametrize("batch", [1, 40])
async def test_an_asynchronous_iterable_may_give_tables(accounts, batch):
    pandas = pytest.importorskip("pandas")

    async def chunks():
        for first in range(0, 900, 300):
            yield pandas.DataFrame({"key": "abc", "n": n} for n in range(first, first + 300))

    method = "same" if batch == 1 else "look_at"
    found = [value async for _, value in accounts.map(method, chunks(), key="key", batch=batch)]
    if batch == 1:
        assert found == [{"key": "abc", "n": n} for n in range(900)]
    else:
        assert [n for _, numbers, _ in found for n in numbers] == [*range(900)]
        assert {(kind, len(numbers)) for kind, numbers, _ in found} == {
            ("DataFrame", 40),
            ("DataFrame", 20),
        }


async def test_never_more_is_read_than_in_flight(accounts):
    position = 0

    async def items():
        nonlocal position
        while True:
            position += 1
            yield position

    taken = 0
    async with accounts.map("double", items(), key=lambda n: n % 3, in_flight=20) as results:
        async for _ in results:
            taken += 1
            assert position <= taken + 21
            if taken == 200:
                break
    assert [pair async for pair in results] == []


async def test_a_cancelled_task_cancels_its_map(accounts):
    results = accounts.map("never", range(10), key=str)
    task = asyncio.ensure_future(anext(results))
    await asyncio.sleep(0)
    assert results._under_way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await accounts.getByName("3").double(2) == 4


async def test_an_object_maps_over_others(accounts):
    pairs = await accounts.getByName("mapper").map_over(list(range(30)))
    assert len(pairs) == 30
    for key in range(3):
        assert await accounts.getByName(f"inner {key}").total() == sum(range(key, 30, 3))
