"""The engine's records of an object are where its entries are, and commit with its effects."""

import pytest

from runtime.ids import NamespaceKey
from runtime.storage import RECORDS
from runtime.storage.write_set import RECORDS_END

RAW = NamespaceKey("w-Room").from_name("a").raw
FIRST, SECOND = RECORDS + b"job\0", RECORDS + b"job\1"


@pytest.fixture(params=["slot file", "own file"])
def kept(request, sqlite):
    """The storage of an object that uses no SQL, and of one that does."""
    if request.param == "own file":
        sqlite.sql.exec("CREATE TABLE t(x)")
    return sqlite


@pytest.fixture
def again(sqlite, open_storage, object_files):
    """The storage of the next activation of an object of a SQLite class."""
    return lambda: open_storage(sqlite.file, files=object_files)


def left_behind(storage):
    return list(storage.file.scan(RAW, end=RECORDS_END))


async def test_records_commit_are_written_anew_and_deleted(kept, commit):
    kept.record(FIRST, lambda: b"1")
    kept.record(SECOND, lambda: b"2")
    await kept.put("k", 1)
    assert kept.records() == []
    commit(kept)
    assert kept.records() == [(FIRST, b"1"), (SECOND, b"2")]
    kept.record(FIRST, lambda: b"3")
    kept.record(SECOND, None)
    commit(kept)
    assert kept.records() == [(FIRST, b"3")]
    assert await kept.list() == {"k": 1}


async def test_delete_all_leaves_the_records_and_the_object_leaves_the_register(kept, commit):
    kept.record(FIRST, lambda: b"1")
    await kept.put("k", 1)
    commit(kept)
    await kept.deleteAll()
    kept.record(SECOND, lambda: b"2")
    commit(kept)
    assert await kept.list() == {}
    assert kept.records() == [(FIRST, b"1"), (SECOND, b"2")]
    assert kept.file.counts() == {}
    kept.record(FIRST, None)
    commit(kept)
    assert kept.records() == [(SECOND, b"2")]
    assert kept.file.counts() == {}
    await kept.put("k", 2)
    commit(kept)
    assert kept.file.counts() == {"Room": 1}


async def test_a_record_deleted_before_the_register_was_told_does_not_keep_the_object_in_it(
    sqlite, commit
):
    sqlite.sql.exec("CREATE TABLE t(x)")
    sqlite.record(FIRST, lambda: b"1")
    commit(sqlite)
    await sqlite.deleteAll()
    change = sqlite.take_changes()
    sqlite.file.commit([change])
    change.home.commit()
    sqlite.committed(change)
    sqlite.record(FIRST, None)
    commit(sqlite)
    assert sqlite.file.counts() == {}
    assert sqlite.records() == []


async def test_records_move_with_the_entries(sqlite, commit, again):
    await sqlite.put("k", 1)
    sqlite.record(FIRST, lambda: b"1")
    commit(sqlite)
    sqlite.sql.exec("CREATE TABLE t(x)")
    sqlite.record(SECOND, lambda: b"2")
    commit(sqlite)
    assert left_behind(sqlite) == []
    following = again()
    assert following.records() == [(FIRST, b"1"), (SECOND, b"2")]
    assert await following.list() == {"k": 1}


async def test_records_move_when_the_entries_were_deleted_just_before(sqlite, commit, again):
    await sqlite.put("k", 1)
    sqlite.record(FIRST, lambda: b"1")
    commit(sqlite)
    await sqlite.deleteAll()
    sqlite.sql.exec("CREATE TABLE t(x)")
    commit(sqlite)
    assert left_behind(sqlite) == []
    assert again().records() == [(FIRST, b"1")]


@pytest.mark.parametrize("moves", [True, False])
async def test_a_kill_between_the_two_commits_loses_effects_and_record_together(
    sqlite, commit, again, moves
):
    sqlite.record(FIRST, lambda: b"1")
    if not moves:
        sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 1)
    commit(sqlite)
    sqlite.sql.exec("CREATE TABLE IF NOT EXISTS t(x)")
    sqlite.sql.exec("INSERT INTO t VALUES (1)")
    await sqlite.put("k", 2)
    sqlite.record(SECOND, lambda: b"2")
    sqlite.file.commit([sqlite.take_changes()])
    sqlite.failed()
    following = again()
    assert following.records() == [(FIRST, b"1")]
    assert await following.get("k") == 1
    following.sql.exec("CREATE TABLE IF NOT EXISTS t(x)")
    assert following.sql.exec("SELECT * FROM t").to_array() == []


async def test_what_a_kill_left_behind_of_moved_records_is_void_and_goes(sqlite, commit, again):
    sqlite.record(FIRST, lambda: b"old")
    commit(sqlite)
    sqlite.sql.exec("CREATE TABLE t(x)")
    sqlite.record(FIRST, lambda: b"new")
    change = sqlite.take_changes()
    sqlite.file.commit([change])
    change.home.commit()
    assert left_behind(sqlite) == [(FIRST, b"old")]
    following = again()
    assert following.records() == [(FIRST, b"new")]
    await following.put("k", 1)
    commit(following)
    assert left_behind(sqlite) == []
    assert again().records() == [(FIRST, b"new")]


async def test_an_own_file_goes_when_not_even_records_are_left(sqlite, commit, tmp_path):
    def files():
        return list(tmp_path.glob("objects/*/*.sqlite"))

    sqlite.sql.exec("CREATE TABLE t(x)")
    sqlite.record(FIRST, lambda: b"1")
    commit(sqlite)
    await sqlite.deleteAll()
    commit(sqlite)
    assert len(files()) == 1
    sqlite.record(FIRST, None)
    await sqlite.deleteAll()
    commit(sqlite)
    assert files() == []
    assert sqlite.records() == []


async def test_sql_alone_is_a_write_to_be_noted(sqlite, commit):
    sqlite.sql.exec("CREATE TABLE t(x)")
    assert sqlite.is_dirty
    commit(sqlite)
    assert not sqlite.is_dirty
    taken = sqlite.changes_taken
    sqlite.sql.exec("SELECT * FROM t").to_array()
    assert not sqlite.is_dirty
    sqlite.sql.exec("INSERT INTO t VALUES (1)")
    assert sqlite.is_dirty
    commit(sqlite)
    assert sqlite.changes_taken > taken


def test_no_record_is_written_within_a_transaction(sqlite, commit):
    def body():
        sqlite.record(FIRST, lambda: b"1")

    with pytest.raises(RuntimeError, match="within a transaction"):
        sqlite.transactionSync(body)
    commit(sqlite)
    assert sqlite.records() == []
