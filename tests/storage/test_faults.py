"""Whichever disk operation fails, at whichever point: nothing acknowledged is lost, no file breaks."""

import contextlib
import os
import secrets

import apsw
import pytest

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import CommitGroup, Journal, ObjectFiles, ObjectStorage, SlotFile, journal
from workers.errors import RoostError

NAMESPACE = NamespaceKey("w-Room")
LIMITS = Limits(value_bytes=1 << 20)
TURNS = 7
OF_FILES = ["open", "write", "sync", "truncate", "full", "fdatasync"]
OF_JOURNAL = ["append", "short append", "journal"]
KINDS = [*OF_FILES, *OF_JOURNAL]
PWRITE = os.pwrite


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


class Disk(apsw.VFS):
    """A file system whose n-th operation of a kind fails, and with `for_good` all after it."""

    def __init__(self):
        super().__init__("faulty", "")
        self.plan(None, 0)

    def plan(self, kind, number, *, for_good=False):
        self.kind, self.left, self.for_good = kind, number, for_good
        self.met = False

    def meet(self, kind):
        if kind == self.kind:
            self.left -= 1
            if self.left == 0 or (self.for_good and self.left < 0):
                self.met = True
                return True
        return False

    def xOpen(self, name, flags):
        if self.meet("open"):
            raise apsw.CantOpenError
        return File(self, name, flags)

    def pwrite(self, descriptor, data, at, kinds=("pwrite", "short")):
        failing, short = kinds
        if self.meet(failing):
            raise OSError(28, "No space left on device")
        if self.meet(short):
            data = data[: max(1, len(data) // 2)]
        return PWRITE(descriptor, data, at)

    def pwrite_journal(self, descriptor, data, at):
        return self.pwrite(descriptor, data, at, ("append", "short append"))

    def fdatasync(self, descriptor, kind="fdatasync"):
        if self.meet(kind):
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)

    def fdatasync_journal(self, descriptor):
        self.fdatasync(descriptor, "journal")


class File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self.disk = disk
        super().__init__("", name, flags)

    def fail(self, kind, code):
        if self.disk.meet(kind):
            error = apsw.IOError("the disk fails")
            error.extendedresult = code
            raise error

    def xWrite(self, data, offset):
        self.fail("write", apsw.SQLITE_IOERR_WRITE)
        if self.disk.meet("full"):
            raise apsw.FullError("no room")
        super().xWrite(data, offset)

    def xSync(self, flags):
        self.fail("sync", apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xTruncate(self, size):
        self.fail("truncate", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)


@pytest.fixture(autouse=True)
def short_journal(monkeypatch):
    """The journal starts anew within the scenario."""
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 10_000)


@pytest.fixture(scope="module")
def disk():
    found = Disk()
    yield found
    found.unregister()


class House:
    """A slot file with a plain object, and one that uses SQL."""

    def __init__(self, folder, disk=None):
        faulty = {"vfs": "faulty", "fdatasync": disk.fdatasync} if disk else {}
        its = {"fdatasync": disk.fdatasync_journal, "pwrite": disk.pwrite_journal} if disk else {}
        self.journal = Journal(folder / f"{secrets.token_hex(4)}.journal", **its)
        self.file = SlotFile(folder / "0.sqlite", journal=self.journal, **faulty)
        try:
            self.files = ObjectFiles(folder / "objects", "strict", LIMITS, **faulty)
        except BaseException:
            self.file.close()
            raise
        self.group = CommitGroup(self.journal)
        self.activate()

    def activate(self):
        self.plain, self.sql = self.storage_of("plain"), self.storage_of("sql")

    def storage_of(self, name):
        storage = ObjectStorage(
            self.file,
            NAMESPACE.from_name(name),
            "Room",
            lambda: self.group.mark(storage),
            lambda: None,
            LIMITS,
            files=self.files,
        )
        return storage

    def turn(self, number):
        """Write the number in four places; return the objects that acknowledge it."""
        said = []
        for storage, uses_sql in ((self.plain, False), (self.sql, True)):
            try:
                run(storage.put({"n": number, "body": "x" * 3000 * number}))
                if uses_sql:
                    storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n)")
                    storage.sql.exec("INSERT INTO t VALUES (?)", number)
                if number == 4:
                    run(storage.deleteAll())
                    run(storage.put("n", number))
                said.append(storage)
            except RoostError:
                storage.failed()  # as the host does when a turn's storage breaks
        while self.group._marked:
            round_ = self.group.start_round()
            round_.sync()
            failed = self.group.end_round(round_)
            said = [storage for storage in said if id(storage) not in failed]
        acknowledged = [name for name in ("plain", "sql") if getattr(self, name) in said]
        if len(acknowledged) < 2:
            self.activate()
        return acknowledged

    def close(self):
        for part in (self.files, self.file, self.journal):
            with contextlib.suppress(RoostError):
                part.close()


def numbers(folder):
    """What a sound disk has: the number of each object; checks that they are whole."""
    house = House(folder)
    found = {"plain": run(house.plain.get("n")) or 0, "sql": run(house.sql.get("n")) or 0}
    for name, number in found.items():
        storage = getattr(house, name)
        body = run(storage.get("body"))
        assert body == (None if number in (0, 4) else "x" * 3000 * number)
    if found["sql"]:
        house.sql.sql.exec("CREATE TABLE IF NOT EXISTS t(n)")
        rows = [row.n for row in house.sql.sql.exec("SELECT n FROM t ORDER BY n")]
        assert (rows[-1] if rows else 4) == found["sql"]
        assert run(house.sql.list()).keys() <= {"n", "body"}
        own = house.sql.database()
        assert own._connection.execute("PRAGMA integrity_check").get == "ok"
        own.roll_back()
    assert house.file._connection.execute("PRAGMA integrity_check").get == "ok"
    house.close()
    return found


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_of_a_scenario_leaves_what_was_acknowledged(disk, kind, for_good, memory_path):
    number, met = 0, True
    while met:
        number += 1
        folder = memory_path / str(number)
        folder.mkdir()
        acknowledged, tried = {"plain": 0, "sql": 0}, 0
        disk.plan(kind, number, for_good=for_good)
        try:
            house = House(folder, disk)
        except RoostError:
            assert disk.met
            continue
        for turn in range(1, TURNS + 1):
            tried = turn
            acknowledged.update(dict.fromkeys(house.turn(turn), turn))
        met = disk.met
        disk.plan(None, 0)
        house.close()
        found = numbers(folder)
        for name, at_least in acknowledged.items():
            assert at_least <= found[name] <= tried, (kind, number)
        if not met:
            assert acknowledged == {"plain": TURNS, "sql": TURNS}
    assert number > 1


@pytest.mark.parametrize("kind", [*KINDS, "pwrite", "short"])
def test_every_fault_while_an_object_goes_back_leaves_it_here_or_there(
    disk, kind, memory_path, monkeypatch
):
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    number, met = 0, True
    while met:
        number += 1
        folder = memory_path / str(number)
        folder.mkdir()
        house = House(folder, disk)
        house.turn(1)
        then = run(house.sql.getCurrentBookmark())
        house.turn(2)
        undo = run(house.sql.onNextSessionRestoreBookmark(then))
        assert house.turn(3) == ["plain", "sql"]
        disk.plan(kind, number)
        try:
            house.activate()
            assert run(house.sql.get("n")) == 1
            assert house.turn(5) == ["plain", "sql"]
            went_on = True
        except (RoostError, AssertionError):
            assert disk.met
            went_on = False
        met = disk.met
        disk.plan(None, 0)
        house.close()
        found = numbers(folder)["sql"]
        assert found == 5 if went_on else found in (1, 5), (kind, number)
        assert not list(folder.glob("objects/*/*-restoring"))
        house = House(folder)
        run(house.sql.onNextSessionRestoreBookmark(undo))
        house.turn(6)
        house.activate()
        assert run(house.sql.get("n")) == 3
        house.close()
    # All files are open, and so little goes past the journal.
    assert number > 1 or kind in ("open", *OF_JOURNAL)
