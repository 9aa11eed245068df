"""Items with ids: their effects happen once, and their stored results come back."""

import asyncio

import pytest

from runtime import Runtime, aconnect
from runtime.config import Limits
from runtime.host.ledger import GIVEN_IDS, JOBS, Ledger
from runtime.ids import NamespaceKey
from runtime.storage import ObjectStorage, SlotFile
from workers.errors import RoostError

ID = NamespaceKey("w-Account").from_name("a")


@pytest.fixture
def open_storage(tmp_path):
    """Open the storage of an object, as after a restart; `commit` commits it."""
    files = []

    def open_():
        for file in files:
            file.close()
        files.append(SlotFile(tmp_path / "0", durability="relaxed"))
        return ObjectStorage(files[-1], ID, "Account", lambda: None, lambda: None, Limits())

    yield open_
    for file in files:
        file.close()


def commit(storage):
    change = storage.take_changes()
    if change is not None:
        storage.file.commit([change])
        storage.committed(change)


async def test_a_note_commits_with_the_writes_of_its_turn_or_not_at_all(open_storage):
    storage = open_storage()
    ledger = Ledger(storage)
    await storage.put("k", 1)
    ledger.note(None, "job", (7,), "done")
    found = open_storage()
    assert await found.get("k") is None
    assert Ledger(found).find("job", 7) is None
    await found.put("k", 1)
    Ledger(found).note(None, "job", (7,), ["done"])
    commit(found)
    after = open_storage()
    assert await after.get("k") == 1
    assert Ledger(after).find("job", 7).value() == ["done"]


async def test_notes_are_no_entries_and_survive_delete_all(open_storage):
    storage = open_storage()
    Ledger(storage).note(None, "job", (7,), "done")
    await storage.put("k", 1)
    commit(storage)
    assert await storage.list() == {"k": 1}
    await storage.deleteAll()
    commit(storage)
    storage = open_storage()
    assert await storage.list() == {}
    assert Ledger(storage).find("job", 7).value() == "done"


async def test_a_run_is_one_record_and_goes_when_its_items_will_not_come_again(open_storage):
    storage = open_storage()
    ledger = Ledger(storage)
    record = None
    for item in range(5):
        record = ledger.note(record, "job", (item,), item)
    commit(storage)
    record = ledger.note(None, "job", (5,), 5)
    commit(storage)
    assert len(storage.records()) == 2
    ledger.begin("job", 4)
    commit(storage)
    assert len(storage.records()) == 2  # item 4 of the first run may come again
    ledger.begin("job", 5)
    commit(storage)
    ((_, _),) = storage.records()
    assert ledger.find("job", 4) is None
    assert Ledger(open_storage()).find("job", 5).value() == 5


async def test_of_chosen_ids_the_last_1024_are_remembered(open_storage):
    storage = open_storage()
    ledger = Ledger(storage)
    for number in range(GIVEN_IDS + 10):
        ledger.begin("", 0)
        ledger.note(None, "", (f"id {number}",), number)
    ledger.begin("", 0)
    commit(storage)
    ledger = Ledger(open_storage())
    assert ledger.find("", "id 9") is None
    assert ledger.find("", "id 10").value() == 10
    assert ledger.find("", f"id {GIVEN_IDS + 9}").value() == GIVEN_IDS + 9


async def test_jobs_without_a_checkpoint_are_forgotten_before_those_with_one(open_storage):
    storage = open_storage()
    now = iter(range(100))
    ledger = Ledger(storage, clock=lambda: float(next(now)))
    ledger.note(None, "named/1", (0,), "kept")
    for number in range(JOBS - 1):
        ledger.note(None, f"~{number}", (0,), number)
    ledger.note(None, "named/2", (0,), "kept")
    commit(storage)
    ledger = Ledger(open_storage())
    assert ledger.find("named/1", 0) is not None
    assert ledger.find("~0", 0) is None
    assert ledger.find("~1", 0) is not None
    assert ledger.find("named/2", 0) is not None


def test_once_applies_once_and_returns_the_stored_result(accounts):
    account = accounts.getByName("once")
    assert account.add.once("payment 1", 5) == 5
    assert account.add.once("payment 2", 5) == 10
    assert account.add.once("payment 1", 5) == 5
    assert account.total() == 10


def test_what_wrote_nothing_or_raised_is_called_again(accounts):
    account = accounts.getByName("not noted")
    assert account.double.once(b"id", 2) == 4
    assert account.double.once(b"id", 3) == 6
    for _ in range(2):
        with pytest.raises(ValueError, match="1 is odd"):
            account.fail_on_odd.once(1, 1)


@pytest.mark.parametrize("wrong", [None, 1.5, True, ("a",)])
def test_an_id_is_a_str_an_int_or_bytes(accounts, wrong):
    with pytest.raises(TypeError, match="the id of an item must be a str, int or bytes"):
        accounts.getByName("once").add.once(wrong, 1)


def test_an_id_is_remembered_when_its_host_was_killed(accounts, rt, kill):
    account = accounts.getByName("killed once")
    assert account.add.once("id", 5) == 5
    for host in range(2):
        kill(rt, host)
    results = accounts.map("add", [5], key=lambda _: "killed once", item_id=lambda _: "id")
    assert list(results) == [("killed once", 5)]
    assert account.total() == 5


def test_an_id_is_remembered_over_a_restart(tmp_path, account_class):
    for _ in range(2):
        with Runtime(objects={"ACCOUNTS": account_class}, data_dir=tmp_path, hosts=1) as rt:
            assert rt.env.ACCOUNTS.getByName("a").add.once("id", 5) == 5
            assert rt.env.ACCOUNTS.getByName("a").total() == 5


async def test_an_item_that_is_under_way_is_not_started_again(rt):
    connected = await aconnect(rt._instance.data)
    try:
        account = connected.env.ACCOUNTS.getByName("under way")
        first = asyncio.ensure_future(account.add_when_open.once("id", 5))
        with pytest.raises(RoostError, match="is being applied for another caller") as refused:
            await account.add_when_open.once("id", 5)
        assert refused.value.retryable
        await account.open()
        assert await first == 5
        assert await account.add_when_open.once("id", 5) == 5
        assert await account.total() == 5
    finally:
        await connected.close()


def test_a_method_that_waited_is_noted_with_its_last_writes(accounts):
    account = accounts.getByName("waited")
    assert account.add_twice.once("id", 5) == 10
    assert account.add_twice.once("id", 5) == 10
    assert account.total() == 10


def test_items_with_known_ids_are_applied_once_whichever_map_sends_them(accounts):
    items = [(f"order {n % 40}", n % 40) for n in range(120)]

    def apply():
        return accounts.map("add_pair", items, key=lambda _: "shop", item_id=lambda item: item[0])

    assert len(list(apply())) == 120
    assert len(list(apply())) == 120
    assert accounts.getByName("shop").total() == sum(range(40))


def test_items_of_one_id_in_one_batch_are_given_once_and_share_their_result(rt):
    accounts = rt.env.ACCOUNTS
    items = [("a", 1), ("b", 2), ("a", 1)]
    pairs = list(
        accounts.map(
            "log_all", items, key=lambda _: "twice", item_id=lambda item: item[0], batch=10
        )
    )
    assert pairs == [("twice", [("a", 1), ("b", 2)])]
    assert accounts.getByName("twice").seen() == [("a", 1), ("b", 2)]


async def test_a_batch_of_more_ids_than_are_kept_is_known_when_it_comes_again(open_storage):
    storage = open_storage()
    ledger = Ledger(storage)
    ids = tuple(range(GIVEN_IDS + 500))
    await storage.put("k", 1)
    ledger.note(None, "", ids, "done")
    ledger.begin("", 0)
    assert ledger.find("", 0).value() == "done"
    await storage.put("k", 2)
    ledger.note(None, "", ("next",), "more")
    ledger.begin("", 0)
    assert ledger.find("", 0) is None
    assert ledger.find("", "next").value() == "more"
