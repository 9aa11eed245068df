"""Large values stand apart from the entries, so that nothing beside them has to read them."""

from contextlib import closing

import apsw
import pytest

from runtime.ids import NamespaceKey
from runtime.storage import Change, SlotFile
from runtime.storage.large import LARGE_BYTES

RAW = NamespaceKey("w-Room").from_name("a").raw
BIG, BIGGER = b"b" * (LARGE_BYTES + 100), b"c" * (20 << 20)


def pages_read(connection):
    """How many pages a connection has read that it had not in memory."""
    return connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]


def apart(connection, table):
    """How many values are apart."""
    return connection.execute(f"SELECT count(*) FROM {table}").get


@pytest.fixture
def plain_limits(open_storage, open_file):
    """An object of a class without SQL, with room for large values."""
    return open_storage(open_file(durability="relaxed"), value_bytes=64 << 20)


async def test_small_entries_beside_a_large_value_read_none_of_it(plain_limits, commit):
    storage = plain_limits
    await storage.put("m", BIGGER)
    commit(storage)
    connection = storage.file._connection
    before = pages_read(connection)
    await storage.put({f"l{n}": n for n in range(50)} | {f"n{n}": n for n in range(50)})
    commit(storage)
    assert await storage.delete("l7")
    commit(storage)
    assert not storage.file.contains(RAW, b"l7")
    assert storage.file.read(RAW, b"n7") is not None
    assert pages_read(connection) - before < 100  # it has 5,000


async def test_so_it_is_in_a_file_of_an_objects_own(sqlite, commit):
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("m", BIGGER[: 1 << 19])
    commit(sqlite)
    connection = sqlite.database()._connection
    before = pages_read(connection)
    await sqlite.put({f"l{n}": n for n in range(50)} | {f"n{n}": n for n in range(50)})
    commit(sqlite)
    assert pages_read(connection) - before < 50  # it has 128
    assert not sqlite.database().hollow


@pytest.fixture
def again(sqlite, open_storage, object_files):
    """The storage of the object's next activation."""
    return lambda: open_storage(sqlite.file, files=object_files)


@pytest.fixture(params=["slot file", "own file"])
def objects(request, sqlite, open_storage, again, commit):
    """The storage of an object, another of its next activation, and how many values are apart."""
    if request.param == "slot file":
        file = sqlite.file
        return (
            open_storage(file),
            lambda: open_storage(file),
            lambda: apart(file._connection, "large"),
        )
    sqlite.sql.exec("CREATE TABLE t(x)")
    commit(sqlite)

    def count():
        return apart(sqlite.database()._connection, "_cf_LARGE")

    return sqlite, again, count


async def test_values_go_apart_and_come_back_whatever_they_replace(objects, commit):
    storage, again, count = objects
    await storage.put({"a": BIG, "b": 1, "c": BIG})
    commit(storage)
    assert count() == 2
    assert await again().list() == {"a": BIG, "b": 1, "c": BIG}
    assert list(await again().list(reverse=True, limit=2)) == ["c", "b"]
    await storage.put({"a": 1, "b": BIG, "c": BIG + b"!"})
    commit(storage)
    assert count() == 2
    assert [await again().get(key) for key in "abc"] == [1, BIG, BIG + b"!"]
    await storage.delete(["a", "c"])
    commit(storage)
    assert count() == 1
    assert await again().list() == {"b": BIG}
    await storage.deleteAll()
    storage.record(b"\xffnote", lambda: BIG)
    commit(storage)
    assert await again().list() == {}
    assert again().records() == [(b"\xffnote", BIG)]
    assert count() == 1


async def test_they_move_with_an_objects_first_sql_and_are_measured(sqlite, again, commit):
    await sqlite.put({"a": BIG, "b": 1})
    commit(sqlite)
    entries, size = sqlite.file.measure(RAW)
    assert entries == 2
    assert len(BIG) < size < len(BIG) + 50
    sqlite.transactionSync(lambda: sqlite.sql.exec("CREATE TABLE t(x)"))
    commit(sqlite)
    assert apart(sqlite.file._connection, "large") == 0
    assert sqlite.database().measure() == (entries, size)
    assert await again().list() == {"a": BIG, "b": 1}


async def test_the_first_one_can_be_undone_and_put_again(sqlite, again, commit):
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 1)
    commit(sqlite)
    await sqlite.put("k", BIG)
    assert sqlite.take_changes() is not None
    sqlite.failed()
    following = again()
    assert await following.get("k") == 1
    await following.put("k", 2)
    commit(following)
    await following.put("k", BIG)
    commit(following)
    assert await again().get("k") == BIG


async def test_an_object_goes_back_to_before_and_after_the_first_one(sqlite, again, commit):
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 1)
    commit(sqlite)
    small = await sqlite.getCurrentBookmark()
    await sqlite.put("k", BIG)
    commit(sqlite)
    large = await sqlite.getCurrentBookmark()
    storage = sqlite
    for bookmark, value in ((small, 1), (large, BIG), (small, 1)):
        await storage.onNextSessionRestoreBookmark(bookmark)
        commit(storage)
        storage = again()
        assert await storage.get("k") == value
        await storage.put("other", [value, value])
        commit(storage)
        assert await again().get("other") == [value, value]


def test_files_of_before_get_theirs_apart(open_file, tmp_path):
    version = next(n for n, sql in enumerate(SlotFile.MIGRATIONS) if "TABLE large" in sql)
    with closing(apsw.Connection(str(tmp_path / "0.sqlite"))) as connection:
        connection.execute("".join(SlotFile.MIGRATIONS[:version])).fetchall()
        rows = [(RAW, b"a", BIG), (RAW, b"b", b"1")]
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows).fetchall()
        connection.execute(f"PRAGMA user_version = {version}").fetchall()
    file = open_file()
    assert list(file.scan(RAW)) == [(b"a", BIG), (b"b", b"1")]
    assert apart(file._connection, "large") == 1
    file.commit([Change.gone(RAW, "Room")])
    assert list(file.scan(RAW)) == []
    assert apart(file._connection, "large") == 0
