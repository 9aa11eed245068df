"""Objects with files of their own: how entries come there, stay one truth, and leave no room behind."""

import pytest

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import ObjectFiles
from workers.errors import ObjectReset, SqlError, StorageError

RAW = NamespaceKey("w-Room").from_name("a").raw


@pytest.fixture
def again(sqlite, open_storage, object_files):
    """The storage of the object's next activation."""
    return lambda name="a": open_storage(sqlite.file, name, files=object_files)


def paths(tmp_path):
    return sorted(path.name for path in tmp_path.glob("objects/*/*.sqlite"))


async def test_an_object_without_sql_has_no_file(sqlite, commit, tmp_path, again):
    await sqlite.put("k", 1)
    sqlite.kv.put("l", 2)
    commit(sqlite)
    assert await again().list() == {"k": 1, "l": 2}
    assert paths(tmp_path) == []


async def test_its_entries_and_alarm_move_with_its_first_sql(sqlite, commit, tmp_path, again):
    await sqlite.put({"k": 1, "gone": 1})
    await sqlite.setAlarm(1 << 50)
    commit(sqlite)
    await sqlite.put("k", 2)
    await sqlite.delete("gone")
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("l", 3)
    assert await sqlite.list() == {"k": 2, "l": 3}
    commit(sqlite)
    assert paths(tmp_path) == [f"{RAW.hex()}.sqlite"]
    assert list(sqlite.file.scan(RAW)) == []  # nothing is left behind
    following = again()
    assert await following.list() == {"k": 2, "l": 3}
    assert await following.getAlarm() == 1 << 50
    assert following.sql.exec("SELECT * FROM t").toArray() == []
    assert sqlite.file.counts() == {"Room": 1}


async def test_entries_and_tables_commit_together_or_not_at_all(
    sqlite, commit, again, object_files
):
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 1)
    commit(sqlite)
    sqlite.sql.exec("INSERT INTO t VALUES (1)")
    await sqlite.put("k", 2)
    sqlite.failed()
    following = again()
    assert await following.get("k") == 1
    assert following.sql.exec("SELECT * FROM t").toArray() == []
    with pytest.raises(ObjectReset):
        sqlite.sql.exec("SELECT 1")


async def test_a_move_that_was_never_committed_leaves_the_entries_where_they_were(
    sqlite, commit, again
):
    await sqlite.put("k", 1)
    commit(sqlite)
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 2)
    sqlite.failed()
    following = again()
    assert await following.list() == {"k": 1}
    following.sql.exec("CREATE TABLE t(x)")
    commit(following)
    assert await again().list() == {"k": 1}


@pytest.mark.parametrize("steps", range(3))
async def test_whatever_a_kill_leaves_undone_the_entries_are_there_once(
    steps, sqlite, open_storage, again, commit, tmp_path
):
    """Steps of the move: the slot file's commit, the own file's, the end of what moved."""
    await sqlite.put({"k": 1, "l": 1})
    await sqlite.setAlarm(1 << 50)
    commit(sqlite)
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.put("k", 2)
    await sqlite.setAlarm(1 << 51)
    change = sqlite.take_changes()
    if steps:
        sqlite.file.commit([change])
    if steps > 1:
        change.home.commit()
    else:
        change.home.roll_back()  # as the kill does
    following = again()
    moved = steps > 1
    assert await following.list() == {"k": 2 if moved else 1, "l": 1}
    assert await following.getAlarm() == (1 << 51 if moved else 1 << 50)
    assert sqlite.file.alarm(RAW).due == 1 << 50  # never later than the true one
    await following.put("m", 3)
    commit(following)
    if moved:
        assert list(sqlite.file.scan(RAW)) == []
    assert await again().list() == {"k": 2 if moved else 1, "l": 1, "m": 3}


async def test_an_earlier_alarm_is_there_first_and_a_later_one_last(sqlite, commit, again):
    sqlite.sql.exec("CREATE TABLE t(x)")
    await sqlite.setAlarm(1 << 50)
    commit(sqlite)
    for time, meanwhile in ((1 << 49, 1 << 49), (1 << 51, 1 << 49), (None, 1 << 51)):
        if time is None:
            await sqlite.deleteAlarm()
        else:
            await sqlite.setAlarm(time)
        change = sqlite.take_changes()
        sqlite.file.commit([change])
        assert sqlite.file.alarm(RAW).due == meanwhile
        change.home.commit()
        assert await again().getAlarm() == time
        sqlite.committed(change)
        commit(sqlite)
        row = sqlite.file.alarm(RAW)
        assert (row and row.due) == time


async def test_delete_all_leaves_neither_tables_nor_a_file(sqlite, commit, tmp_path, again):
    sqlite.sql.exec(
        """CREATE TABLE p(i INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE "c ""d"(i REFERENCES p);
        INSERT INTO p VALUES (1); INSERT INTO "c ""d" VALUES (1); CREATE VIEW v AS SELECT 1;
        CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES (hex(randomblob(100000)))"""
    )
    await sqlite.put("k", 1)
    await sqlite.setAlarm(1 << 50)
    commit(sqlite)
    await sqlite.deleteAll()
    names = "SELECT name FROM sqlite_schema WHERE name NOT LIKE '%cf%' AND name NOT LIKE 'sqlite%'"
    assert sqlite.sql.exec(names).toArray() == []
    assert await sqlite.list() == {}
    assert await sqlite.getAlarm() is None
    commit(sqlite)
    assert paths(tmp_path) == []
    assert sqlite.file.counts() == {}
    assert sqlite.file.alarm(RAW) is None
    await sqlite.put("k", 2)
    commit(sqlite)
    assert await again().list() == {"k": 2}
    assert sqlite.file.counts() == {"Room": 1}


async def test_what_was_stored_under_a_larger_limit_can_be_read(
    open_file, open_storage, commit, tmp_path
):
    file = open_file(durability="relaxed")

    def storages(limit):
        files = ObjectFiles(tmp_path / "objects", "relaxed", Limits(value_bytes=limit))
        return files, *(open_storage(file, n, files=files, value_bytes=limit) for n in "ab")

    files, own, moving = storages(1 << 20)
    own.sql.exec("CREATE TABLE t(x)")
    commit(own)
    before = own.database().now(own._id.raw)
    own.sql.exec("INSERT INTO t VALUES (zeroblob(300000))")
    for storage in (own, moving):
        await storage.put({"large": b"x" * 300_000, "small": 1})
    commit(own, moving)
    after = own.database().now(own._id.raw)
    files.close()
    files, own, moving = storages(1000)
    moving.sql.exec("CREATE TABLE t(x)")
    for storage in (own, moving):
        assert await storage.list() == {"large": b"x" * 300_000, "small": 1}
        with pytest.raises(SqlError, match="SQLITE_TOOBIG"):
            storage.sql.exec("INSERT INTO t VALUES (zeroblob(100000))")
    assert len(own.sql.exec("SELECT x FROM t").one().x) == 300_000
    commit(own, moving)
    for there in (before, after):  # it is small for a session, and then large again
        await own.onNextSessionRestoreBookmark(there)
        commit(own)
        files.close()
        files, own, _ = storages(1000)
        assert list(await own.list()) == ([] if there == before else ["large", "small"])
    files.close()


async def test_delete_all_asks_no_trigger(sqlite, commit, tmp_path):
    sqlite.sql.exec(
        """CREATE TABLE p(i INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
        CREATE TABLE c(p REFERENCES p ON DELETE CASCADE); INSERT INTO c VALUES (1);
        CREATE TABLE r(p REFERENCES p ON DELETE RESTRICT); INSERT INTO r VALUES (1);
        CREATE TRIGGER kept BEFORE DELETE ON c BEGIN SELECT RAISE(ABORT, 'it stays'); END"""
    )
    commit(sqlite)
    await sqlite.deleteAll()
    commit(sqlite)
    assert paths(tmp_path) == []


async def test_delete_all_frees_the_disk_also_when_something_follows(
    sqlite, commit, tmp_path, again
):
    sqlite.sql.exec("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(1000000))")
    await sqlite.put("k", "x" * 100_000)
    commit(sqlite)
    await sqlite.deleteAll()
    await sqlite.put("k", 2)
    sqlite.sql.exec("CREATE TABLE t(y)")
    commit(sqlite)
    sizes = [path.stat().st_size for path in tmp_path.glob("objects/*/*")]
    assert sum(sizes) < 50_000
    following = again()
    assert await following.list() == {"k": 2}
    assert following.sql.exec("SELECT * FROM t").column_names == ["y"]
    assert sqlite.file.counts() == {"Room": 1}


async def test_no_more_files_are_open_than_the_bound_and_none_forgets(
    open_file, open_storage, commit, tmp_path
):
    files = ObjectFiles(tmp_path / "objects", "relaxed", Limits(value_bytes=1000), limit=3)
    file = open_file(durability="relaxed")
    storages = [open_storage(file, f"{n}", files=files) for n in range(10)]
    for turn in range(2):
        for number, storage in enumerate(storages):
            storage.sql.exec("CREATE TABLE IF NOT EXISTS t(x)")
            storage.sql.exec("INSERT INTO t VALUES (?)", number)
            commit(storage)
            assert len(files._open) <= 3
        for number, storage in enumerate(storages):
            assert list(storage.sql.exec("SELECT x FROM t").raw()) == [[number]] * (turn + 1)
    files.close()


async def test_files_with_work_under_way_stay_open_over_the_bound(
    open_file, open_storage, commit, tmp_path
):
    files = ObjectFiles(tmp_path / "objects", "relaxed", Limits(value_bytes=1000), limit=1)
    file = open_file(durability="relaxed")
    storages = [open_storage(file, f"{n}", files=files) for n in range(5)]
    for storage in storages:
        storage.sql.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)")
    assert len(files._open) == 5
    cursor = storages[0].sql.exec("SELECT x FROM t")
    next(cursor)
    commit(*storages)
    storages[4].database()
    assert next(cursor).x == 2
    files.close()


async def test_a_damaged_file_is_a_storage_error_and_the_slot_goes_on(
    sqlite, commit, open_storage, object_files, tmp_path, open_file
):
    sqlite.sql.exec("CREATE TABLE t(x)")
    commit(sqlite)
    object_files.close()
    (path,) = tmp_path.glob("objects/*/*.sqlite")
    path.write_bytes(b"no database, but long enough to be read as the head of one" * 100)
    files = ObjectFiles(tmp_path / "objects", "relaxed", Limits(value_bytes=1000))
    broken = open_storage(sqlite.file, files=files)
    with pytest.raises(StorageError, match=r"object file .* cannot be opened"):
        await broken.get("k")
    other = open_storage(sqlite.file, "b", files=files)
    await other.put("k", 1)
    commit(other)
    files.close()


async def test_a_file_of_a_newer_version_is_refused(sqlite, commit, object_files, tmp_path, again):
    sqlite.sql.exec("CREATE TABLE t(x)")
    commit(sqlite)
    object_files.peek(0, RAW)._cursor.execute("PRAGMA user_version = 99")
    object_files.close()
    with pytest.raises(StorageError, match=r"has format 99.*newer"):
        await again().get("k")
