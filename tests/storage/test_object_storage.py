"""`ctx.storage`: Cloudflare's calls, over memory and a real file."""

from types import SimpleNamespace

import apsw
import pytest

from runtime.storage import values
from workers.errors import ObjectReset, StorageError


async def test_what_was_put_is_read_at_once_after_a_commit_and_by_the_next_activation(
    storage, open_storage, commit
):
    assert await storage.get("k") is None
    await storage.put("k", {"a": [1]})
    assert await storage.get("k") == {"a": [1]}
    commit(storage)
    assert await storage.get("k") == {"a": [1]}
    again = open_storage(storage.file)
    assert await again.get("k") == {"a": [1]}
    assert await open_storage(storage.file, "other").get("k") is None


async def test_several_keys_give_a_sorted_dict_of_those_found(storage, commit):
    await storage.put({"b": 2, "é": 4, "a": 1})
    commit(storage)
    await storage.put("c", None)
    assert list((await storage.get(["é", "c", "missing", "b", "a"])).items()) == [
        ("a", 1),
        ("b", 2),
        ("c", None),
        ("é", 4),
    ]


async def test_a_later_change_of_a_value_reaches_neither_storage_nor_other_readers(storage, commit):
    value = [1]
    await storage.put("k", value)
    value.append("put")
    read = await storage.get("k")
    assert read == [1]
    read.append("get")
    (await storage.list())["k"].append("list")
    (await storage.get(["k"]))["k"].append("get many")
    assert await storage.get("k") == [1]
    commit(storage)
    (await storage.get("k")).append("clean")
    assert await storage.get("k") == [1]


async def test_an_integer_key_is_its_digits_and_none_is_a_value(storage):
    await storage.put(7, None)
    await storage.put({8: "x"})
    assert await storage.list() == {"7": None, "8": "x"}
    assert await storage.get(8) == "x"
    assert await storage.delete(7) is True


async def test_delete_tells_what_was_there(storage, commit):
    await storage.put({"a": 1, "b": 2, "c": 3})
    commit(storage)
    assert await storage.delete("a") is True
    assert await storage.delete("a") is False
    assert await storage.delete(["a", "b", "b", "missing", "c"]) == 2
    assert await storage.list() == {}


async def test_deleting_what_is_not_there_is_no_write(storage):
    assert await storage.delete(["a", "b"]) == 0
    assert await storage.delete([]) == 0
    assert await storage.delete("a") is False
    await storage.put({})
    assert storage.take_changes() is None


async def test_list_takes_options_in_every_spelling(storage, commit):
    await storage.put({"a": 1, "c": 3, "p1": 4, "p2": 5})
    commit(storage)
    await storage.put({"b": 2, "p3": 6})
    await storage.delete("p1")
    assert list(await storage.list()) == ["a", "b", "c", "p2", "p3"]
    assert await storage.list({"prefix": "p", "limit": 1}) == {"p2": 5}
    assert list(await storage.list(reverse=True, limit=2)) == ["p3", "p2"]
    assert list(await storage.list(startAfter="a", end="p")) == ["b", "c"]
    assert list(await storage.list(start_after="a", limit=1)) == ["b"]
    assert list(await storage.list({"start": "c"}, allowConcurrency=True)) == ["c", "p2", "p3"]
    assert await storage.list(prefix="p", start="q") == {}


async def test_delete_all_leaves_nothing_wherever_it_was(storage, commit, open_storage):
    await storage.put("file", 1)
    commit(storage)
    await storage.put("flying", 2)
    flying = storage.take_changes()
    await storage.put("pending", 3)
    await storage.deleteAll()
    assert await storage.list() == {}
    assert await storage.get(["file", "flying", "pending"]) == {}
    assert await storage.delete("file") is False
    await storage.put("after", 4)
    storage.file.commit([flying])
    storage.committed(flying)
    assert await storage.list() == {"after": 4}
    commit(storage)
    assert await open_storage(storage.file).list() == {"after": 4}
    await storage.delete_all()
    commit(storage)
    assert storage.file.counts() == {}


async def test_options_without_effect_are_accepted(storage):
    await storage.put("k", 1, {"allowUnconfirmed": True})
    await storage.put({"l": 2}, {"noCache": True})
    await storage.put("m", 3, allow_concurrency=True)
    await storage.put("n", 4, None)
    assert await storage.get("k", {"noCache": True}) == 1
    assert await storage.get("k", allowConcurrency=True) == 1
    assert await storage.delete(["k", "l"], {"allowUnconfirmed": True}) == 2
    await storage.delete_all({"allowUnconfirmed": True})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("k",), TypeError, r"put\(\) called with undefined value\."),
        ((["k"], 1), TypeError, r"put\(\) may only be called with a single key-value pair"),
        (({"k": 1}, {}, {}), TypeError, r"put\(\) may only be called with a single key-value pair"),
        ((None, 1), TypeError, "a key must be a str, not NoneType"),
        (("k", 1, {"ttl": 1}), TypeError, "has no option 'ttl'"),
        (({"good": 1, "x" * 2049: 1},), ValueError, "larger than 2048 bytes"),
        (({"good": 1, "bad": lambda: 1},), TypeError, "'bad'.*cannot be pickled"),
        (({"good": 1, "large": "x" * 2_000_000},), ValueError, "larger than 1048576 bytes"),
    ],
)
async def test_a_put_that_is_refused_writes_nothing(storage, arguments, error, text):
    with pytest.raises(error, match=text):
        await storage.put(*arguments)
    assert storage.take_changes() is None
    assert await storage.list() == {}


async def test_a_counter_put_1000_times_in_a_tick_is_pickled_once(storage, monkeypatch):
    pickled = []
    spy = SimpleNamespace(dumps=lambda value, _: pickled.append(value) or b"")
    monkeypatch.setattr(values, "pickle", spy)
    for n in range(1000):
        await storage.put("n", float(n))
    storage.take_changes()
    assert pickled == [999.0]


async def test_the_engine_hears_of_the_first_write_of_each_change(open_file, open_storage):
    heard = []
    storage = open_storage(open_file(), on_write=lambda: heard.append(1))
    await storage.get("k")
    for number in (1, 2):
        await storage.put("k", number)
        await storage.put("l", number)
        await storage.delete("k")
        await storage.deleteAll()
        await storage.put("k", number)
        assert len(heard) == number
        storage.take_changes()
    await storage.deleteAll()
    await storage.put("k", 1)
    assert len(heard) == 3


async def test_a_write_that_the_engine_refuses_is_not_made(open_file, open_storage):
    def refuse():
        raise RuntimeError("no")

    storage = open_storage(open_file(), on_write=refuse)
    for write in (
        lambda: storage.put("k", 1),
        lambda: storage.put({"k": 1}),
        storage.delete_all,
    ):
        with pytest.raises(RuntimeError):
            await write()
    assert await storage.list() == {}
    assert storage.take_changes() is None


def test_no_method_but_sync_ever_waits(storage):
    for call in (
        storage.get("k"),
        storage.put("k", 1),
        storage.list(),
        storage.delete("k"),
        storage.deleteAll(),
        storage.sync(),  # nothing is unconfirmed
    ):
        with pytest.raises(StopIteration):
            next(call.__await__())


async def test_sync_waits_for_what_the_engine_says(open_file, open_storage):
    waited = []

    async def durable():
        waited.append(1)

    storage = open_storage(open_file(), confirm=durable)
    await storage.sync()
    assert waited == [1]


async def test_after_a_reset_nothing_is_left_and_all_use_is_refused(storage):
    await storage.put("k", 1)
    await storage.deleteAll()
    await storage.put("k", 1)
    storage.failed()
    storage.failed()
    assert storage.take_changes() is None
    for use in (
        lambda: storage.get("k"),
        lambda: storage.get(["k"]),
        lambda: storage.put("k", 1),
        lambda: storage.put({"k": 1}),
        lambda: storage.delete("k"),
        storage.list,
        storage.deleteAll,
        storage.getAlarm,
        lambda: storage.setAlarm(1),
        lambda: storage.transaction(storage.get),
        storage.sync,
    ):
        with pytest.raises(ObjectReset, match="was reset"):
            await use()


async def test_a_file_that_cannot_be_read_is_a_storage_error(storage):
    storage.file.close()
    for use in (storage.get, storage.delete, lambda _: storage.list()):
        with pytest.raises(StorageError) as raised:
            await use("k")
        assert isinstance(raised.value.__cause__, apsw.Error)
