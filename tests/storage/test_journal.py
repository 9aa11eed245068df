"""The journal before the slot files: one sync for all, and no row is lost, late or there twice."""

import os
import shutil
import subprocess
import tempfile
from contextlib import closing
from marshal import dumps
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import (
    RECORDS,
    CommitGroup,
    Journal,
    ObjectFiles,
    ObjectStorage,
    SlotFile,
    ahead,
    journal,
)
from runtime.storage import slot_file as slot_files
from runtime.storage.journal import rows_after
from runtime.storage.layout import clear_journals, journal_path
from workers.errors import StorageError

NAMESPACE = NamespaceKey("w-Room")
LIMITS = Limits(value_bytes=1 << 20)
FAR = 4_000_000_000_000
"""A time to come, in milliseconds."""


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


class Shelf:
    """Slot files with a journal before them, and a storage for each of some objects."""

    def __init__(self, data, names, *, slots=2, durability="strict", **options):
        folder = data / "slots"
        folder.mkdir(exist_ok=True)
        self.syncs = []
        path = journal_path(data, 0)
        self.journal = Journal(
            path, durability=durability, fdatasync=self.synced("journal"), **options
        )
        self.files = [
            SlotFile(
                folder / f"{slot:05}.sqlite",
                durability=durability,
                journal=self.journal,
                fdatasync=self.synced(slot),
            )
            for slot in range(slots)
        ]
        self.group = CommitGroup(self.journal)
        self.names = names
        self.objects = {name: self.open(name) for name in names}

    def synced(self, what):
        def sync(descriptor):
            self.syncs.append(what)
            self.on_sync(what, descriptor)

        return sync

    def on_sync(self, what, descriptor):
        os.fdatasync(descriptor)

    def open(self, name, object_id=None, **options):
        storage = ObjectStorage(
            self.files[ord(name) % len(self.files)],
            object_id or NAMESPACE.from_name(name),
            "Room",
            lambda: self.group.mark(storage),
            lambda: None,
            LIMITS,
            **options,
        )
        return storage

    def put(self, value, *names, key="k"):
        """One round with a put of each object, or of some."""
        for name in names or self.names:
            run(self.objects[name].put(key, value))
        return self.round()

    def round(self):
        round_ = self.group.start_round()
        round_.sync()
        return self.group.end_round(round_)

    def value(self, name, key="k"):
        """What a new instance of an object reads."""
        return run(self.open(name).get(key))

    def close(self):
        for file in self.files:
            file.close()
        self.journal.close()


@pytest.fixture
def shelf(tmp_path):
    shelves = []

    def open_(names="abcd", **options):
        shelves.append(Shelf(tmp_path, names, **options))
        return shelves[-1]

    yield open_
    for opened in shelves:
        opened.close()


def copied(data, target):
    """What the files would be, were their host killed now."""
    shutil.copytree(data, target)
    return target


def stored(path, key=b"k"):
    """The values that a slot file itself has, whatever its journal has."""
    with closing(apsw.Connection(f"file:{path}?immutable=0", flags=70)) as file:
        rows = file.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchall()
    return sorted(value for (value,) in rows)


# --- rounds ----------------------------------------------------------------------------------------


def test_a_round_of_puts_and_deletes_in_all_files_is_one_sync(shelf):
    house = shelf()
    assert house.put(1) == {}
    assert house.syncs == [1, 0, "journal"]  # before it starts, all is committed in the files
    house.syncs.clear()
    assert house.put(2) == {}
    run(house.objects["a"].put({"x": 1, "y": 1}))
    run(house.objects["b"].delete("k"))
    assert house.round() == {}
    assert house.syncs == ["journal"] * 2
    assert [house.value(name) for name in "abcd"] == [2, None, 2, 2]
    assert house.value("a", "x") == 1


def test_new_objects_go_to_the_journal_and_every_look_at_the_register_sees_them(shelf):
    house = shelf("abcdefgh", slots=1)
    (file,) = house.files
    house.put(1, "a")
    house.syncs.clear()
    ids = {name: NAMESPACE.from_name(name).raw for name in "abcdefgh"}
    looks = [
        lambda name: ids[name] in [record.id.raw for record in file.objects("Room")],
        lambda name: file.counts() == {"Room": "abcdefgh".index(name) + 1},
        lambda name: file.record(ids[name])[1:3] == ("Room", name),
        lambda name: ids[name] in file.owners(),
        lambda name: file.rename([ids[name]], "Den") or file.record(ids[name])[1] == "Den",
    ]
    for name, look in zip("bcdef", looks, strict=True):
        assert house.put(1, name) == {}
        assert ids[name] in file._ahead
        assert house.value(name) == 1
        assert look(name)
    assert house.syncs == ["journal"] * 5


def test_an_object_keeps_its_first_time_and_gets_its_name_when_that_is_known(shelf):
    house = shelf("a", slots=1)
    (file,) = house.files
    times = iter(range(100, 200))
    file.clock = lambda: next(times)
    house.put(1)
    ids = {name: NAMESPACE.from_name(name) for name in "xy"}
    for name, named in ("x", False), ("x", True), ("x", False), ("y", True), ("y", False):
        storage = house.open(name, ids[name] if named else NAMESPACE.parse(str(ids[name])))
        run(storage.put("k", 1))
        house.round()
    assert file._ahead
    assert [file.record(ids[name].raw)[2:] for name in "xy"] == [("x", 101), ("y", 104)]


def test_an_alarm_rings_with_the_name_that_only_the_journal_has(shelf):
    house = shelf("a", slots=1)
    house.put(1)
    its_id = NAMESPACE.from_name("x")
    storage = house.open("x", NAMESPACE.parse(str(its_id)))
    run(storage.setAlarm(FAR))
    house.round()
    storage = house.open("x", its_id)
    run(storage.put("k", 1))
    house.round()
    assert house.files[0]._ahead
    assert house.files[0].due_alarm(its_id.raw)[:2] == ("Room", "x")


def test_a_new_object_keeps_its_place_in_the_register_when_it_gets_a_file_of_its_own(
    shelf, tmp_path
):
    house = shelf("ab", slots=1)
    house.put(1, "a")
    (file,) = house.files
    with closing(ObjectFiles(tmp_path / "objects", "strict", LIMITS)) as files:
        for number in range(2):
            house.objects["b"] = house.open("b", files=files)
            house.put(1, "b")
            assert file._ahead
            house.objects["b"].sql.exec("CREATE TABLE t(n)")
            house.round()
            dead = copied(tmp_path / "slots", tmp_path / f"dead{number}")
            with closing(SlotFile(dead / "00000.sqlite")) as left:
                assert left.counts() == {"Room": 2}
            for _ in range(3):  # its entries go, then it does
                house.round()
            run(house.objects["b"].deleteAll())
            for _ in range(3):
                house.round()
            assert file.counts() == {"Room": 1}


def test_whatever_is_more_than_puts_and_deletes_is_committed_in_its_file_after_what_came_before(
    shelf, tmp_path
):
    house = shelf()
    house.put(1)
    house.put(2)
    house.syncs.clear()
    run(house.objects["a"].deleteAll())
    run(house.objects["b"].setAlarm(7))
    run(house.objects["c"].put("k", 3))
    assert house.round() == {}
    assert sorted(map(str, house.syncs)) == ["0", "1", "journal"]
    house.files[0].catch_up()
    dead = copied(tmp_path / "slots", tmp_path / "dead")
    assert (
        len(stored(dead / "00000.sqlite")) == 2
    )  # b and d; nothing of the journal is put after it
    assert len(stored(dead / "00001.sqlite")) == 1  # c; a has nothing
    assert [house.value(name) for name in "abcd"] == [None, 2, 3, 2]


def test_large_changes_go_past_the_journal(shelf):
    house = shelf()
    house.put(1)
    house.syncs.clear()
    house.put(b"x" * 300_000, "a")
    assert house.syncs == [1]
    assert house.journal.number == 0


def test_a_journal_that_is_long_starts_anew_when_all_its_files_have_caught_up(shelf, monkeypatch):
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 1000)
    house = shelf()
    house.put(1)
    ids = set()
    for value in range(100):
        house.syncs.clear()
        before = house.journal.id
        house.put("x" * 100 + str(value), "a", "b")
        ids.add(house.journal.id)
        if house.journal.id != before:
            assert house.syncs == [1, 0, "journal"]
            assert house.journal.number == 0
        else:
            assert house.syncs == ["journal"]
    assert len(ids) > 10
    assert house.journal.path.stat().st_size < 1 << 20
    assert house.value("a") == house.value("b") == "x" * 100 + "99"


def test_a_file_that_lacks_many_keys_catches_up_before(shelf, monkeypatch):
    monkeypatch.setattr(ahead, "MOST_AHEAD", 50)
    house = shelf("a", slots=1)
    house.put(0)
    for number in range(120):
        house.put(number, key=f"k{number}")
    assert len(house.files[0]._ahead) <= 101
    for number in range(500):  # of a key that is written again, the last value counts
        house.put(number, key="same")
    assert len(house.files[0]._ahead) <= 101
    assert [house.value("a", f"k{n}") for n in range(120)] == [*range(120)]


def test_reads_of_every_kind_see_what_only_the_journal_has(shelf):
    house = shelf("ab", slots=1)
    house.put(1)
    house.put(2)
    run(house.objects["b"].delete("k"))
    run(house.objects["a"].put("l", 3))
    house.objects["a"].record(RECORDS + b"r", lambda: b"kept")
    house.round()
    file = house.files[0]
    raw, other = (NAMESPACE.from_name(name).raw for name in "ab")
    looks = [
        lambda: [file.read(raw, b"l") is not None, file.read(other, b"k")] == [True, None],
        lambda: (file.contains(raw, b"l"), file.contains(other, b"k")) == (True, False),
        lambda: [key for key, _ in file.scan(raw)] == [b"k", b"l"],
        lambda: [*file.scan(other)] == [],
        lambda: file.records(raw) == [(RECORDS + b"r", b"kept")],
        lambda: file.measure(raw)[0] == 2,
        lambda: file.measure(other)[0] == 0,
    ]
    for look in looks:
        house.put(5, "a")  # the file lacks something of it again
        run(house.objects["b"].put("k", 1))
        house.round()
        run(house.objects["b"].delete("k"))
        house.round()
        assert file._ahead
        assert look()


def test_a_copy_has_what_only_the_journal_has(shelf, tmp_path):
    house = shelf("a", slots=1)
    house.put(1)
    house.put(2)
    for _ in house.files[0].copy_to(tmp_path / "copy.sqlite"):
        pass
    with closing(apsw.Connection(str(tmp_path / "copy.sqlite"))) as copy:
        assert copy.execute("SELECT * FROM journals").fetchall() == []
    with closing(SlotFile(tmp_path / "copy.sqlite")) as copy:
        assert copy.read(NAMESPACE.from_name("a").raw, b"k") == b"\x80\x05K\x02."


# --- the end of a host -----------------------------------------------------------------------------


def test_a_file_that_is_closed_has_all_and_a_journal_that_is_closed_is_gone(shelf, tmp_path):
    house = shelf()
    house.put(1)
    house.put(2)
    house.close()
    assert sorted(path.suffix for path in (tmp_path / "slots").iterdir()) == [
        *[".lock"] * 2,
        *[".sqlite"] * 2,
    ]
    house = shelf()
    assert [house.value(name) for name in "abcd"] == [2] * 4


def test_after_a_kill_who_opens_a_file_has_it_catch_up_and_the_journal_goes_when_all_are_open(
    shelf, tmp_path
):
    house = shelf()
    house.put(1)
    house.put(2)
    dead = tmp_path / "dead"
    dead.mkdir()
    copied(tmp_path / "slots", dead / "slots")
    path = dead / "slots" / house.journal.path.name
    with closing(SlotFile(dead / "slots" / "00000.sqlite")) as file:
        assert file.read(NAMESPACE.from_name("b").raw, b"k") is not None
    clear_journals(dead, 0, {0})
    assert path.exists()  # slot 1 was not opened
    clear_journals(dead, 1, {0, 1})
    assert path.exists()  # nor is it this host's
    clear_journals(dead)
    assert not path.exists()
    two = b"\x80\x05K\x02."
    assert stored(dead / "slots" / "00000.sqlite") == [two, two]
    assert stored(dead / "slots" / "00001.sqlite") == [two, two]


def test_after_a_kill_new_objects_are_in_the_register(shelf, tmp_path):
    house = shelf("abc", slots=1)
    house.put(1, "a")
    house.put(1, "b", "c")
    dead = copied(tmp_path / "slots", tmp_path / "dead")
    with closing(SlotFile(dead / "00000.sqlite")) as file:
        assert file.counts() == {"Room": 3}
        assert {record.id.name for record in file.objects()} == {*"abc"}
    assert len(stored(dead / "00000.sqlite")) == 3


def test_a_journal_whose_end_is_torn_is_read_up_to_there(shelf, tmp_path):
    house = shelf("a", slots=1)
    for value in range(4):
        house.put(value)
    (file,) = house.files
    whole = house.journal.path.read_bytes()
    number, ends = house.journal.number, []
    torn = tmp_path / "torn.journal"
    for length in range(house.journal._end + 1):
        torn.write_bytes(whole[:length] + os.urandom(9))
        journal.forget()
        found = list(rows_after(torn, house.journal.id, 0, file.label))
        ends.append(len(found))
    assert ends == sorted(ends)
    assert {*ends} == {*range(number + 1)}
    journal.forget()
    assert [*rows_after(torn, house.journal.id + 1, 0, file.label)] == []
    assert [*rows_after(torn, house.journal.id, 0, "other")] == []
    assert len([*rows_after(torn, house.journal.id, number - 1, file.label)]) == 1


@pytest.mark.parametrize("has", [3, 4])
def test_a_journal_of_an_older_version_is_brought_in(shelf, tmp_path, monkeypatch, has):
    house = shelf("a", slots=1)
    monkeypatch.setattr(
        journal.marshal, "dumps", lambda its, version: dumps([one[:has] for one in its], version)
    )
    house.put(1)
    house.put(2)
    journal.forget()
    (rows,) = rows_after(house.journal.path, house.journal.id, 0, house.files[0].label)
    assert rows == ([(NAMESPACE.from_name("a").raw, b"k", b"\x80\x05K\x02.")], [], [])


def test_a_host_of_an_older_version_that_was_killed_left_nothing_behind(
    shelf, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(SlotFile, "MIGRATIONS", SlotFile.MIGRATIONS[:4])
        patch.setattr(
            journal.marshal, "dumps", lambda its, version: dumps([one[:4] for one in its], version)
        )
        house = shelf("ab", slots=1)
        house.put(1)
        house.put(2)
        dead = copied(tmp_path / "slots", tmp_path / "dead")
    journal.forget()
    with closing(SlotFile(dead / "00000.sqlite")) as file:
        assert file.counts() == {"Room": 2}
        assert file._connection.execute("PRAGMA user_version").get == len(SlotFile.MIGRATIONS)
    two = b"\x80\x05K\x02."
    assert stored(dead / "00000.sqlite") == [two, two]


def test_a_version_that_does_not_know_of_new_objects_in_a_journal_leaves_it_and_its_file_alone(
    shelf, tmp_path, monkeypatch, caplog
):
    house = shelf("ab", slots=1)
    house.put(1, "a")
    house.put(1, "b")
    dead = tmp_path / "dead"
    dead.mkdir()
    copied(tmp_path / "slots", dead / "slots")
    with monkeypatch.context() as patch:
        patch.setattr(SlotFile, "MIGRATIONS", SlotFile.MIGRATIONS[:4])
        with pytest.raises(StorageError, match="it was written by a newer one"):
            SlotFile(dead / "slots" / "00000.sqlite")
        clear_journals(dead)
    assert "stays until the next start" in caplog.text
    with closing(SlotFile(dead / "slots" / "00000.sqlite")) as file:
        assert file.counts() == {"Room": 2}


# --- without syncs ---------------------------------------------------------------------------------


def test_without_syncs_a_round_of_puts_needs_no_thread_and_a_kill_takes_nothing(shelf, tmp_path):
    house = shelf(durability="relaxed")
    house.put(1)
    run(house.objects["a"].put("k", 2))
    run(house.objects["b"].put("k", 2))
    under_way = house.group.start_round()
    assert not under_way.needs_sync
    assert house.group.end_round(under_way) == {}
    assert house.syncs == []
    assert [house.value(name) for name in "abcd"] == [2, 2, 1, 1]
    dead = copied(tmp_path / "slots", tmp_path / "dead")
    for slot, its in ((0, "bd"), (1, "ac")):
        with closing(SlotFile(dead / f"{slot:05}.sqlite")) as file:
            found = [file.read(NAMESPACE.from_name(name).raw, b"k") for name in its]
        assert found == [b"\x80\x05K\x02.", b"\x80\x05K\x01."]


_WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 99)),
        st.tuples(st.sampled_from(["delete", "wipe", "alarm"]), st.sampled_from("abc"), st.just(0)),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_WRITES, min_size=2, max_size=12), st.data())
def test_without_syncs_a_power_cut_leaves_of_each_object_what_it_was_once(rounds, data):
    """Each file may be on disk as it was after another round: last writes go, and none before them."""
    lengths = journal.JOURNAL_BYTES, ahead.MOST_AHEAD
    journal.JOURNAL_BYTES, ahead.MOST_AHEAD = 700, 2
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        house = Shelf(home, "abc", durability="relaxed")
        disks, were, now = [], [], dict.fromkeys("abc", (None, None))
        for number, writes in enumerate(rounds):
            for what, name, value in writes:
                its = house.objects[name]
                if what == "put":
                    run(its.put("k", value))
                    now[name] = value, now[name][1]
                elif what == "alarm":
                    run(its.setAlarm(FAR + number))
                    now[name] = now[name][0], FAR + number
                else:
                    run(its.deleteAll() if what == "wipe" else its.delete("k"))
                    now[name] = None, None if what == "wipe" else now[name][1]
            assert house.round() == {}
            disks.append(on_disk(home))
            were.append(dict(now))
        assert house.syncs == []
        house.close()
        cut = home / "cut"
        (cut / "slots").mkdir(parents=True)
        for slot in ("00000", "00001", "0-"):
            disk = disks[data.draw(st.integers(0, len(disks) - 1), label=slot)]
            for name, content in disk.items():
                if name.startswith(slot):
                    (cut / "slots" / name).write_bytes(content)
        left = Shelf(cut, "abc", durability="relaxed")
        for name in "abc":
            found = left.value(name), run(left.open(name).getAlarm())
            assert found in [(None, None), *(its[name] for its in were)]
        left.close()
    journal.JOURNAL_BYTES, ahead.MOST_AHEAD = lengths


def test_without_syncs_a_record_is_void_without_the_commit_of_its_file_that_it_follows(
    shelf, tmp_path
):
    house = shelf("a", slots=1, durability="relaxed")
    house.put(1, key="first")
    house.put(2, key="second")
    run(house.objects["a"].setAlarm(FAR))
    house.round()
    early = on_disk(tmp_path)
    house.put(b"x" * 300_000, key="third")  # past the journal, like the alarm
    house.put(4, key="fourth")
    assert house.files[0]._ahead
    late = on_disk(tmp_path)
    assert after_cut(tmp_path / "cut", early, late) == {"first": 1, "second": 2}
    assert after_cut(tmp_path / "whole", late, late).keys() == {
        "first",
        "second",
        "third",
        "fourth",
    }


def test_without_syncs_a_commit_is_not_lost_between_others_when_the_journal_started_late(
    shelf, tmp_path
):
    full = [True]

    def pwrite(descriptor, data, offset):
        if full[0]:
            raise OSError(28, "No space left on device")
        return os.pwrite(descriptor, data, offset)

    house = shelf("a", slots=1, durability="relaxed", pwrite=pwrite)
    assert house.put(1, key="first") == {}
    early = on_disk(tmp_path)
    full[0] = False
    house.put(2, key="second")
    house.put(3, key="third")
    assert house.files[0]._ahead
    late = on_disk(tmp_path)
    assert after_cut(tmp_path / "cut", early, late) == {"first": 1}


def test_without_syncs_a_slot_file_has_no_commit_of_an_object_that_changes_its_own_file_only(
    shelf, tmp_path
):
    house = shelf("a", slots=1, durability="relaxed")
    with closing(ObjectFiles(tmp_path / "objects", "relaxed", LIMITS)) as files:
        a = house.objects["a"] = house.open("a", files=files)
        a.sql.exec("CREATE TABLE t(n)")
        for _ in range(3):  # what the slot file had goes
            house.round()
        log = Path(f"{house.files[0].path}-wal")
        length = log.stat().st_size
        a.sql.exec("INSERT INTO t VALUES(1)")
        assert house.round() == {}
        assert log.stat().st_size == length


def test_without_syncs_what_moves_to_a_file_of_its_own_is_durable_before_it_is_deleted(
    shelf, tmp_path
):
    house = shelf("a", slots=1, durability="relaxed")
    house.put(1)
    left, raw, file = [], NAMESPACE.from_name("a").raw, house.files[0]

    def fdatasync(descriptor):
        left.append(len([*file.scan(raw)]))

    limits = Limits(history_days=0)  # which is synced on its own
    with closing(
        ObjectFiles(tmp_path / "objects", "relaxed", limits, fdatasync=fdatasync)
    ) as files:
        a = house.objects["a"] = house.open("a", files=files)
        for number in range(3):
            a.sql.exec(f"CREATE TABLE t{number}(n)")
            house.round()
        assert left == [1]
        assert [*file.scan(raw)] == []


def after_cut(data, slot, rest):
    """What object a has after a power cut that left the slot's file older than the journal."""
    (data / "slots").mkdir(parents=True)
    for name, content in {
        **rest,
        **{n: c for n, c in slot.items() if n.startswith("00000")},
    }.items():
        (data / "slots" / name).write_bytes(content)
    with closing(Shelf(data, "a", slots=1, durability="relaxed")) as left:
        return run(left.objects["a"].list())


def on_disk(data):
    """What the files of an instance have."""
    return {path.name: path.read_bytes() for path in (data / "slots").iterdir()}


# --- faults ----------------------------------------------------------------------------------------


def test_a_journal_that_cannot_be_written_fails_those_who_had_puts_and_takes_the_next(shelf):
    room = [True]

    def pwrite(descriptor, data, offset):
        if room[0]:
            return os.pwrite(descriptor, data, offset)
        os.pwrite(descriptor, data[:10], offset)
        raise OSError(28, "No space left on device")

    house = shelf(pwrite=pwrite)
    house.put(1)
    house.put(2)
    room[0] = False
    run(house.objects["b"].setAlarm(5))
    failed = house.put(3, "a", "c")
    assert failed.keys() == {id(house.objects["a"]), id(house.objects["c"])}
    assert "No space left on device" in str(failed[id(house.objects["a"])])
    assert [house.value(name) for name in "abcd"] == [2] * 4
    room[0] = True
    house.objects["a"] = house.open("a")
    assert house.put(4, "b", "a") == {}
    assert [house.value(name) for name in "abcd"] == [4, 4, 2, 2]


def test_after_a_sync_that_failed_nothing_is_read_before_it_is_durable(shelf):
    house = shelf("a", slots=1)
    house.put(1)
    house.put(2)
    good, broken = house.on_sync, {"journal", 0}

    def bad(what, descriptor):
        if what in broken:
            raise OSError(5, "Input/output error")
        good(what, descriptor)

    house.on_sync = bad
    first = os.open(house.journal.path, os.O_RDONLY)
    assert house.put(3).keys() == {id(house.objects["a"])}
    with pytest.raises(StorageError, match="is not durable"):
        house.value("a")
    broken.clear()
    assert house.value("a") in (2, 3)  # the file was opened anew, which syncs it
    house.objects["a"] = house.open("a")
    house.put(3)
    house.put(4)
    broken.add("journal")
    assert house.put(5).keys() == {id(house.objects["a"])}
    house.syncs.clear()
    assert house.value("a") == 5
    assert house.value("a") == 5
    assert house.syncs == [0]
    broken.clear()
    house.objects["a"] = house.open("a")
    house.put(6)
    house.put(7)
    assert os.fstat(first).st_nlink == 0  # a new one was made: this may have holes
    os.close(first)
    assert house.value("a") == 7


def test_nor_when_somebody_elses_commit_had_the_file_catch_up(shelf):
    house = shelf("ab", slots=1)
    house.put(1)
    house.put(2)

    def bad(what, descriptor):
        raise OSError(5, "Input/output error")

    good, house.on_sync = house.on_sync, bad
    assert house.put(3, "a").keys() == {id(house.objects["a"])}
    house.on_sync = good
    run(house.objects["b"].setAlarm(5))
    house.syncs.clear()
    round_ = house.group.start_round()
    assert house.value("a") == 3
    assert house.syncs == [0]
    round_.sync()
    assert house.group.end_round(round_) == {}
    house.objects["a"] = house.open("a")
    assert house.put(4) == {}
    assert house.put(5) == {}
    assert house.syncs[-1:] == ["journal"]
    assert house.value("a") == house.value("b") == 5


def test_no_row_is_in_the_journal_before_its_file_says_so_durably(shelf, monkeypatch):
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 600)
    house = shelf("abcd")
    house.put(1)
    before = house.journal.id
    while house.journal.id == before:
        house.put("x" * 100, "a")  # the journal starts anew without the other file
    other = house.files[0]
    assert other.in_journal != house.journal.id
    good, house.on_sync = house.on_sync, broken_sync
    run(house.objects["b"].setAlarm(5))
    assert house.round().keys() == {id(house.objects["b"])}
    house.on_sync = good
    house.syncs.clear()
    assert house.put(2, "d") == {}
    assert house.syncs == [0]
    assert house.put(3, "d") == {}
    assert house.syncs == [0, "journal"]
    assert house.value("d") == 3


def broken_sync(what, descriptor):
    raise OSError(5, "Input/output error")


def test_a_file_that_cannot_have_all_when_it_is_closed_leaves_the_journal_and_the_others_go_on(
    shelf, tmp_path
):
    house = shelf()
    house.put(1)
    house.put(2)
    lacking, first = house.files[0], house.journal.path
    lacking._connection.set_commit_hook(lambda: True)  # makes every COMMIT fail
    lacking.close()
    house.files[0] = SlotFile(lacking.path, journal=house.journal)
    assert [house.value(name) for name in "abcd"] == [2] * 4
    for value in (3, 4):
        house.put(value, "a", "c")
    house.syncs.clear()
    house.put(5, "a", "c")
    assert house.syncs == ["journal"]
    assert first.exists()
    assert house.journal.path != first
    house.close()
    assert [*(tmp_path / "slots").glob("*.journal")] == [first]
    clear_journals(tmp_path)
    assert not first.exists()


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_what_a_journal_had_that_was_left_is_not_brought_in_over_what_came_after(
    shelf, tmp_path, durability
):
    house = shelf("ab", durability=durability)
    house.put(1)
    house.put(2)
    house.files[0]._connection.set_commit_hook(lambda: True)  # makes every COMMIT fail
    house.files[0].close()
    house.put(3, "a")  # goes on in another journal
    house.put(4, "a")
    house.files[1].catch_up()
    assert len([*(tmp_path / "slots").glob("*.journal")]) == 2
    dead = copied(tmp_path / "slots", tmp_path / "dead")
    with closing(SlotFile(dead / "00001.sqlite")) as file:
        assert file.read(NAMESPACE.from_name("a").raw, b"k") == b"\x80\x05K\x04."


def test_nor_does_a_journal_that_was_about_to_start_take_what_such_a_file_lacks(
    shelf, tmp_path, monkeypatch
):
    house = shelf("ab")
    house.put(1)
    house.put(2)
    lacking = house.files[0]
    lacking._connection.set_commit_hook(lambda: True)  # makes every COMMIT fail
    with monkeypatch.context() as patch:
        patch.setattr(journal, "JOURNAL_BYTES", 0)
        house.put(3, "a")  # it cannot start: a file cannot catch up
    assert house.journal.starting
    lacking.close()
    house.put(4, "a")
    assert not house.journal.starting
    dead = copied(tmp_path / "slots", tmp_path / "dead")
    with closing(SlotFile(dead / "00000.sqlite")) as file:
        assert file.read(NAMESPACE.from_name("b").raw, b"k") == b"\x80\x05K\x02."


def test_a_journal_that_cannot_be_read_when_its_file_is_mended_stays(shelf, monkeypatch):
    house = shelf("a", slots=1)
    house.put(1)
    house.put(9)
    house.files[0].unsound = True

    def unreadable(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(slot_files, "rows_after", unreadable)
        with pytest.raises(StorageError, match=r"cannot be read: .*Input/output"):
            house.value("a")
        house.close()
    assert house.journal.path.exists()
    assert shelf("a", slots=1).value("a") == 9


def test_a_file_that_is_broken_keeps_its_journal_and_nobody_from_starting(shelf, tmp_path, caplog):
    house = shelf()
    house.put(1)
    house.put(2)
    dead = tmp_path / "dead"
    dead.mkdir()
    copied(tmp_path / "slots", dead / "slots")
    (dead / "slots" / "00001.sqlite-wal").unlink()
    (dead / "slots" / "00001.sqlite").write_bytes(b"no database" * 1000)
    clear_journals(dead)
    assert "stays until the next start: slot file" in caplog.text
    assert [*(dead / "slots").glob("*.journal")]


# --- any order of it all ---------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """Objects in two slots against dicts, over kills and power cuts at any sync."""

    def __init__(self):
        super().__init__()
        self.directory = Path(
            tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.lengths = journal.JOURNAL_BYTES, ahead.MOST_AHEAD
        journal.JOURNAL_BYTES, ahead.MOST_AHEAD = 700, 3
        self.lives = 0
        self.now = {name: {} for name in "abcd"}
        self.under_way = None
        (self.directory / "0").mkdir()
        self.open()

    @property
    def data(self):
        return self.directory / str(self.lives)

    def open(self):
        self.shelf = Shelf(self.data, "abcd")
        self.shelf.on_sync = self.on_sync
        self.disk = {}  # what a power cut leaves: of each file what was synced
        self.acknowledged = {name: dict(its) for name, its in self.now.items()}
        for path in (self.data / "slots").glob("*.sqlite"):
            # By somebody else: were this process to close the file, SQLite would lose its locks.
            content = subprocess.run(["cat", path], check=True, capture_output=True).stdout
            self.disk[path.name] = content

    def on_sync(self, what, descriptor):
        name = self.shelf.journal.path.name if what == "journal" else f"{what:05}.sqlite-wal"
        size = os.fstat(descriptor).st_size
        self.disk[name] = os.pread(descriptor, size, 0)

    @rule(name=st.sampled_from("abcd"), key=st.sampled_from("xyz"), value=st.integers(0, 99))
    def put(self, name, key, value):
        run(self.shelf.objects[name].put(key, value))
        self.now[name][key] = value

    @rule(name=st.sampled_from("abcd"), key=st.sampled_from("xyz"))
    def delete(self, name, key):
        assert run(self.shelf.objects[name].delete(key)) == (key in self.now[name])
        self.now[name].pop(key, None)

    @rule(name=st.sampled_from("abcd"))
    def delete_all(self, name):
        run(self.shelf.objects[name].deleteAll())
        self.now[name].clear()

    @rule(name=st.sampled_from("abcd"), at=st.integers(1, 9))
    def alarm(self, name, at):
        run(self.shelf.objects[name].setAlarm(at))

    @rule(name=st.sampled_from("abcd"))
    def look(self, name):
        assert run(self.shelf.objects[name].list()) == dict(sorted(self.now[name].items()))

    @precondition(lambda self: self.under_way is None and not self.shelf.group._marked)
    @rule()
    def look_in_the_register(self):
        found = {record.id.name for file in self.shelf.files for record in file.objects("Room")}
        assert found >= {name for name, its in self.now.items() if its}

    @precondition(lambda self: self.under_way is None)
    @rule()
    def start_round(self):
        self.under_way = self.shelf.group.start_round()
        self.taken = {name: dict(its) for name, its in self.now.items()}

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def end_round(self):
        self.under_way.sync()
        assert self.shelf.group.end_round(self.under_way) == {}
        self.under_way = None
        self.acknowledged = self.taken

    def whole_round(self):
        if self.under_way is not None:
            self.end_round()
        self.start_round()
        self.end_round()

    @rule(name=st.sampled_from("abcd"))
    def evict(self, name):
        self.whole_round()
        self.shelf.objects[name] = self.shelf.open(name)

    @rule()
    def close(self):
        self.whole_round()
        self.shelf.close()
        assert not self.shelf.journal.path.exists()
        self.open()

    @rule()
    def kill(self):
        """What the kernel has of the files is there: all rounds that have begun."""
        kept = self.acknowledged if self.under_way is None else self.taken
        old = self.shelf
        copied(self.data, self.directory / str(self.lives + 1))
        self.leave(old, kept)

    @rule()
    def cut(self):
        """What was synced is there: all rounds that have ended."""
        old = self.shelf
        slots = self.directory / str(self.lives + 1) / "slots"
        slots.mkdir(parents=True)
        for name, content in self.disk.items():
            (slots / name).write_bytes(content)
        self.leave(old, self.acknowledged)

    def leave(self, old, kept):
        self.lives += 1
        self.under_way = None
        self.now = {name: dict(its) for name, its in kept.items()}
        old.on_sync = lambda *_: None
        old.close()
        self.open()
        for name in "abcd":
            self.look(name)
        self.look_in_the_register()
        clear_journals(self.data, 0, {0, 1}, but=self.shelf.journal.path)

    @invariant()
    def a_new_instance_reads_what_is_acknowledged(self):
        if self.under_way is None and not self.shelf.group._marked:
            for name in "abcd":
                assert run(self.shelf.open(name).list()) == dict(sorted(self.now[name].items()))

    def teardown(self):
        self.whole_round()
        for name in "abcd":
            self.look(name)
        self.look_in_the_register()
        for file in self.shelf.files:
            assert file._connection.execute("PRAGMA integrity_check").get == "ok"
        self.shelf.close()
        journal.JOURNAL_BYTES, ahead.MOST_AHEAD = self.lengths
        shutil.rmtree(self.directory)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
