"""Long listings: in bounded memory, in order, with what is written meanwhile."""

import tracemalloc

import pytest

from runtime.storage import store


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(store, "PAGE_ROWS", 3)


@pytest.fixture(params=["slot file", "own file"])
def storage(request, sqlite):
    """A storage whose entries are in either place."""
    if request.param == "own file":
        sqlite.database()
    return sqlite


async def listed(storage, **options):
    return [entry async for entry in storage.entries(**options)]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 3, 7, 100])
async def test_entries_and_kv_list_give_what_list_gives(storage, commit, reverse, limit):
    await storage.put({f"k{n:02}": n for n in range(0, 20, 2)})
    commit(storage)
    await storage.put({f"k{n:02}": n for n in range(1, 20, 3)})
    await storage.delete(["k04", "k10"])
    options = {"reverse": reverse, "limit": limit, "start": "k01", "end": "k18"}
    wanted = list((await storage.list(options)).items())
    assert len(wanted) == min(limit or 99, 9)
    assert await listed(storage, **options) == wanted
    assert list(storage.kv.list(options)) == wanted


@pytest.mark.usefixtures("small_pages")
async def test_what_is_written_meanwhile_is_there_when_its_turn_comes(storage, commit):
    await storage.put(dict.fromkeys("abcdefgh", 1))
    commit(storage)
    found = []
    async for key, value in storage.entries():
        found.append((key, value))
        if key == "c":
            await storage.put({"a": 2, "e": 2, "ee": 2})
            await storage.delete("f")
            commit(storage)
    assert found == [*((key, 1) for key in "abcd"), ("e", 2), ("ee", 2), ("g", 1), ("h", 1)]


@pytest.mark.parametrize("committed", [False, True])
async def test_so_it_is_within_what_was_read_at_once(storage, commit, committed):
    await storage.put(dict.fromkeys("abcdef", 1))
    commit(storage)
    storage._writes.known.clear()
    found = []
    async for key, value in storage.entries(limit=5):
        found.append((key, value))
        if key == "b":
            await storage.put({"a": 2, "d": 2})
            await storage.delete("c")
            if committed:
                commit(storage)
                storage._writes.known.clear()
    assert found == [("a", 1), ("b", 1), ("d", 2), ("e", 1), ("f", 1)]


async def test_a_second_kv_listing_ends_the_first(sqlite):
    sqlite.kv.put("a", 1)
    sqlite.kv.put("b", 2)
    first = sqlite.kv.list()
    assert next(first) == ("a", 1)
    assert list(sqlite.kv.list(prefix="b")) == [("b", 2)]
    with pytest.raises(RuntimeError, match=r"Only one kv\.list\(\) iterator can exist at a time"):
        next(first)


async def test_a_long_listing_takes_a_page_of_memory(storage, commit):
    for first in range(0, 20_000, 5000):
        await storage.put({f"{n:06}": "x" * 50 for n in range(first, first + 5000)})
        commit(storage)
    storage._writes.known.clear()
    tracemalloc.start()
    count = 0
    async for _ in storage.entries():
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 3_000_000


async def test_large_values_end_a_page_early(sqlite, commit, monkeypatch):
    monkeypatch.setattr(store, "PAGE_BYTES", 100_000)
    await sqlite.put({f"{n:02}": b"x" * 90_000 for n in range(20)})
    commit(sqlite)
    sqlite._writes.known.clear()
    tracemalloc.start()
    entries = [key async for key, _ in sqlite.entries()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == 20
    assert peak < 1_000_000
