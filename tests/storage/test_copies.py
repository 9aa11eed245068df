"""A copy has each object as it was at one moment, whatever happens while it is made."""

import random
import sqlite3

import pytest

from runtime.ids import NamespaceKey
from runtime.storage import ObjectFiles, SlotFile, wal_file
from runtime.storage.copies import copy_object, copy_slot, delete_object, facts_of
from runtime.storage.layout import own_file, own_files, slot_path
from tests.storage.test_kill import LIMITS, run

NAMES = [f"n{number}" for number in range(8)]
KEY = NamespaceKey("w-Room")
IDS = {name: KEY.from_name(name) for name in NAMES}


@pytest.fixture
def data(memory_path):
    (memory_path / "data" / "slots").mkdir(parents=True)
    return memory_path / "data"


@pytest.fixture
def opened(data):
    """The slot file, and at most two open files of objects."""
    file = SlotFile(slot_path(data, 0), durability="relaxed")
    files = ObjectFiles(data / "objects", "relaxed", LIMITS, limit=2)
    yield file, files
    files.close()
    file.close()


def state_of(storage):
    """What an object sees of its storage."""
    entries = run(storage.list())
    numbers = {value[0] for value in entries.values()}
    alarm = run(storage.getAlarm())
    file = storage._home()
    if file is not None and any(name == "t" for name, _ in file.tables()):
        numbers |= {n for (n,) in file._connection.execute("SELECT n FROM t")}
    assert len(numbers) <= 1, "the state of two moments"
    return (numbers.pop() if numbers else None), alarm


def change(chance, storage, number):
    """Make one turn's writes, which are all of the same number."""
    kind = chance.random()
    if kind < 0.15:
        run(storage.deleteAll())
        return
    size = chance.choice([1, 1, 20_000])
    run(storage.put({"a": [number], "b": [number, b"x" * size]}))
    if kind < 0.7 and storage._home() is None:
        run(storage.setAlarm(4_000_000_000_000 + number))
        return
    storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n)")
    storage.sql.exec("DELETE FROM t")
    storage.sql.exec("INSERT INTO t VALUES (?)", number)
    run(storage.setAlarm(4_000_000_000_000 + number))


def goes_back(storage, mark, number, newest):
    """Whether an object takes a bookmark of when it had a number; newer than its copy, it may not."""
    if number <= newest:
        run(storage.onNextSessionRestoreBookmark(mark))
        return True
    with pytest.raises(ValueError, match=r"after the backup|of a time before"):
        run(storage.onNextSessionRestoreBookmark(mark))
    return False


@pytest.mark.parametrize("seed", range(12))
def test_writes_moves_and_deletions_meanwhile_leave_every_object_whole(
    seed, data, memory_path, opened, open_storage, commit, monkeypatch
):
    monkeypatch.setattr(wal_file, "COPY_PAGES", 2)
    chance = random.Random(seed)
    file, files = opened
    storages = {name: open_storage(file, name, files=files) for name in NAMES}
    history = {name: [(None, None)] for name in NAMES}
    marks = {name: [] for name in NAMES}

    def turn(number):
        name = chance.choice(NAMES)
        change(chance, storages[name], number)
        commit(storages[name])
        state = state_of(storages[name])
        history[name].append(state)
        if storages[name]._home() is None:
            marks[name].clear()
        else:
            marks[name].append((run(storages[name].getCurrentBookmark()), state[0]))

    for number in range(60):
        turn(number)
    since = {name: history[name][-1] for name in NAMES}
    for name in NAMES:
        history[name] = [since[name]]
    target = memory_path / "copy"
    steps = 0
    for _ in copy_slot(data, 0, file, files, target):
        steps += 1
        turn(1000 + steps)
    assert steps > 10
    back = 0
    copied = SlotFile(slot_path(target, 0))
    copied_files = ObjectFiles(target / "objects", "relaxed", LIMITS)
    try:
        registered = {record.id.raw for record in copied.objects()}
        for name in NAMES:
            storage = open_storage(copied, name, files=copied_files)
            found = state_of(storage)
            assert found in history[name]
            if found != (None, None):
                assert IDS[name].raw in registered
            row = copied.alarm(IDS[name].raw)
            if found[1] is not None:  # an early alarm is compared, a late one would be missed
                assert row is not None
                assert row.due <= found[1]
            if found[0] is not None and storage._home() is not None:
                here, newest = found[0], found[0]
                for mark, number in chance.sample(marks[name], min(4, len(marks[name]))):
                    if goes_back(storage, mark, number, newest):
                        here = number
                        back += 1
                    commit(storage)
                    storage = open_storage(copied, name, files=copied_files)
                    assert state_of(storage) == (here, found[1])
                    own = storage._home()._connection
                    assert own.execute("PRAGMA application_id").get == 0  # no copy any more
    finally:
        copied_files.close()
        copied.close()
    assert back > 0
    for path in target.rglob("*.sqlite"):
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


def test_a_file_that_is_rolled_back_all_the_time_is_copied_all_the_same(
    data, memory_path, opened, open_storage, commit, monkeypatch
):
    monkeypatch.setattr(wal_file, "COPY_PAGES", 1)
    file, files = opened
    storage = open_storage(file, "n0", files=files)
    change(random.Random(3), storage, 1)
    storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n)")
    storage.sql.exec("CREATE TABLE big(x)")
    storage.sql.exec("INSERT INTO big VALUES (zeroblob(100000))")
    commit(storage)
    home = files.find(0, IDS["n0"].raw)
    copying = copy_object(0, file, files, IDS["n0"].raw, memory_path / "copy")
    for steps, _ in enumerate(copying):
        home.begin()
        home.run("INSERT INTO big VALUES (zeroblob(50000))", ())
        home.roll_back()
        assert steps < 100
    with sqlite3.connect(memory_path / "copy") as database:
        assert database.execute("SELECT count(*) FROM big").fetchone() == (1,)
    database.close()


def test_nothing_of_an_open_transaction_is_copied(data, memory_path, opened, open_storage, commit):
    file, files = opened
    storage = open_storage(file, "n0", files=files)
    storage.sql.exec("CREATE TABLE t(n)")
    commit(storage)
    storage.sql.exec("INSERT INTO t VALUES (1)")
    copying = copy_object(0, file, files, IDS["n0"].raw, memory_path / "copy")
    for _ in range(3):
        assert next(copying) == wal_file.COPY_WAIT
    commit(storage)
    assert [*copying] == []
    with sqlite3.connect(memory_path / "copy") as database:
        assert database.execute("SELECT n FROM t").fetchall() == [(1,)]
    database.close()


def test_deleting_an_object_leaves_nothing_of_it(data, opened, open_storage, commit):
    file, files = opened
    for name in ("n0", "n1", "n2"):
        storage = open_storage(file, name, files=files)
        run(storage.put("a", [1]))
        run(storage.setAlarm(4_000_000_000_000))
        if name != "n1":
            storage.sql.exec("CREATE TABLE t(n)")
        commit(storage)
    for name in ("n0", "n1"):
        delete_object(0, file, files, IDS[name].raw)
    assert [record.id for record in file.objects()] == [IDS["n2"]]
    assert [*file.owners()] == [IDS["n2"].raw]
    assert [raw for raw, _ in own_files(data, 0)] == [IDS["n2"].raw]
    assert facts_of(0, file, files, IDS["n0"].raw) is None
    assert not [*own_file(data, 0, IDS["n0"].raw).parent.glob(f"{IDS['n0']}*")]


@pytest.fixture
def marked(opened, open_storage, commit):
    """The storage of an object with 9 rows, and a bookmark of when it had 3."""
    storage = open_storage(opened[0], "n0", files=opened[1])
    storage.sql.exec("CREATE TABLE t(n); INSERT INTO t VALUES (1), (2), (3)")
    commit(storage)
    mark = run(storage.getCurrentBookmark())
    storage.sql.exec("INSERT INTO t SELECT n + 3 FROM t; INSERT INTO t VALUES (7), (8), (9)")
    commit(storage)
    return storage, mark


@pytest.fixture
def copied(data, memory_path, opened, open_storage):
    """Copy the slot, and return the storage of the object's copy, for each call a session."""
    houses = []

    def copied_():
        if not houses:
            for _ in copy_slot(data, 0, *opened, memory_path / "copy"):
                pass
            houses.append(SlotFile(slot_path(memory_path / "copy", 0)))
            houses.append(ObjectFiles(memory_path / "copy" / "objects", "relaxed", LIMITS))
        return open_storage(houses[0], "n0", files=houses[1])

    yield copied_
    for house in houses[::-1]:
        house.close()


def test_a_cursor_that_is_being_read_keeps_no_history_out(marked, copied, commit):
    storage, mark = marked
    rows = storage.sql.exec("SELECT n FROM t")
    assert rows.next() == {"done": False, "value": {"n": 1}}
    assert storage._home().cursors
    copy = copied()
    run(copy.onNextSessionRestoreBookmark(mark))
    commit(copy)
    assert copied().sql.exec("SELECT count(*) AS c FROM t").one().c == 3
    assert len(rows.toArray()) == 8


def test_a_log_that_cannot_be_archived_keeps_no_object_out(
    marked, copied, memory_path, monkeypatch, caplog
):
    storage, mark = marked

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage._home()._past, "_fdatasync", full)
    copy = copied()
    assert "gets no history" in caplog.text
    assert not [*memory_path.glob("copy/objects/*/*-history")]
    assert copy.sql.exec("SELECT count(*) AS c FROM t").one().c == 9
    with pytest.raises(ValueError, match="not of this object, or of a time before"):
        run(copy.onNextSessionRestoreBookmark(mark))
