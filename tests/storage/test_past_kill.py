"""A kill at any step of going back leaves an object as it was, or as it is then, and its bookmarks."""

import io
import os
import shutil
import signal
import time
from itertools import cycle

import apsw
import pytest

from runtime.config import Limits
from runtime.storage import ObjectFiles, SlotFile, history
from runtime.storage import past as past_module
from runtime.storage.object_file import ObjectFile

LIMITS = Limits(value_bytes=1 << 20)
NO_HISTORY = Limits(value_bytes=1 << 20, history_days=0)
OLD = int(time.time()) - 10 * 86_400
"""When the object's history begins, in seconds since 1970."""


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


class Death(apsw.VFS):
    """Kills this process at its n-th change of a disk, and tears that in half if it is a write."""

    def __init__(self, number, *, torn):
        self.left, self.torn = number, torn
        super().__init__("deadly", "unix", makedefault=True)
        for name in ("unlink", "replace", "rename", "ftruncate", "fsync", "fdatasync", "open"):
            setattr(os, name, self.before(getattr(os, name)))
        self.pwrite, os.pwrite = os.pwrite, self.write
        history.open = self.open_in_python

    def step(self, half=None):
        self.left -= 1
        if self.left == 0:
            if half is not None and self.torn:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function):
        def deadly(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return deadly

    def write(self, descriptor, data, at):
        self.step(lambda: self.pwrite(descriptor, data[: len(data) // 2], at))
        return self.pwrite(descriptor, data, at)

    def open_in_python(self, path, mode, opener):
        self.step()
        return PythonFile(self, path, mode, opener)

    def xDelete(self, name, sync):
        self.step()
        super().xDelete(name, sync)

    def xOpen(self, name, flags):
        self.step()
        return SqliteFile(self, name, flags)


class PythonFile(io.FileIO):
    def __init__(self, death, path, mode, opener):
        self.death = death
        super().__init__(path, mode, opener=opener)

    def write(self, data):
        self.death.step(lambda: super(PythonFile, self).write(data[: len(data) // 2]))
        return super().write(data)


class SqliteFile(apsw.VFSFile):
    def __init__(self, death, name, flags):
        self.death = death
        super().__init__("unix", name, flags)

    def xWrite(self, data, at):
        self.death.step(lambda: super(SqliteFile, self).xWrite(data[: len(data) // 2], at))
        super().xWrite(data, at)

    def xSync(self, flags):
        self.death.step()
        super().xSync(flags)

    def xTruncate(self, size):
        self.death.step()
        super().xTruncate(size)


def fdatasync(descriptor):
    """Sync, and die of it: files are opened before the process is armed."""
    os.fdatasync(descriptor)


class House:
    """An object, opened as its host would, but without a host."""

    def __init__(self, folder, open_storage, commit, limits=LIMITS):
        self.open_storage, self.commit = open_storage, commit
        self.file = SlotFile(folder / "0.sqlite", durability="relaxed")
        self.files = ObjectFiles(folder / "objects", "strict", limits, fdatasync=fdatasync)
        self.begin_session()

    def begin_session(self):
        self.storage = self.open_storage(self.file, files=self.files)

    def write(self, number):
        storage = self.storage
        storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n)")
        storage.sql.exec("DELETE FROM t")
        storage.sql.exec("INSERT INTO t VALUES (?)", number)
        run(storage.put({"n": number, "body": os.urandom(700 * number)}))
        self.commit(storage)

    def mark(self):
        return run(self.storage.getCurrentBookmark())

    def look(self):
        """The number that all of the object has."""
        number, body = run(self.storage.get("n")), run(self.storage.get("body"))
        assert len(body) == 700 * number
        assert [row.n for row in self.storage.sql.exec("SELECT n FROM t")] == [number]
        assert self.storage.database()._connection.execute("PRAGMA integrity_check").get == "ok"
        return number

    def order(self, mark):
        undo = run(self.storage.onNextSessionRestoreBookmark(mark))
        self.commit(self.storage)
        return undo

    def close(self):
        self.files.close()
        self.file.close()


def survives(function, number, *, torn):
    """Whether a process of its own has got to the end of a function, or was killed at a step."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function(lambda: Death(number, torn=torn))
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status == 0


def rounds(template, folder, function, *, torn):
    """Kill a function at each of its steps, in a copy of a folder of its own; yields the copies."""
    number, done = 0, False
    while not done:
        number += 1
        copy = folder / str(number)
        shutil.copytree(template, copy)
        done = survives(lambda arm, copy=copy: function(copy, arm), number, torn=torn)
        yield copy, done
        shutil.rmtree(copy)
    assert number > 20


def peek(folder):
    """What the object's file has after a kill, before its next session, and whether it is to go back."""
    (path,) = folder.glob("objects/*/*.sqlite")
    file = ObjectFile(path, durability="strict", limits=LIMITS)
    (number,) = [n for (n,) in file._connection.execute("SELECT n FROM t")]
    ordered = file._fact(2) is not None
    assert file._connection.execute("PRAGMA integrity_check").get == "ok"
    file.close()
    return number, ordered


@pytest.mark.parametrize(("torn", "prunes"), [(False, False), (True, True)])
def test_a_kill_while_an_object_goes_back_leaves_it_here_or_there(
    torn, prunes, memory_path, open_storage, commit
):
    template = memory_path / "template"
    (template / "objects").mkdir(parents=True)
    house = House(template, open_storage, commit)
    now = [OLD]
    own = house.storage.database()
    own._past._clock = lambda: now[0]
    house.write(20)
    marks = {}
    for number in (1, 2, 3, 4):
        now[0] = OLD + number
        house.write(number)
        marks[number] = house.mark()
        own._checkpoint("RESTART")
    undo = house.order(marks[3])
    house.write(5)  # after the order
    killed = memory_path / "killed"
    shutil.copytree(template, killed)
    house.close()
    if prunes:
        del marks[1], marks[2]

    def go_back(folder, arm):
        if prunes:  # all goes that is not needed
            past_module.BUDGET_TIMES = past_module.BUDGET_BYTES = 0
        house = House(folder, open_storage, commit)
        arm()
        assert house.look() == 3
        house.write(6)
        house.close()

    found = set()
    some = cycle(marks.items())
    for folder, done in rounds(killed, memory_path / "rounds", go_back, torn=torn):
        aside = folder.with_name("aside")
        shutil.copytree(folder, aside)
        seen = peek(aside)
        shutil.rmtree(aside)
        assert seen in {(5, True), (3, False), (6, False)}
        found.add(seen)
        house = House(folder, open_storage, commit)
        there = house.look()
        assert there == (seen[0] if not seen[1] else 3)
        assert done <= (there == 6)
        if done:
            assert (house.storage.database()._past.oldest > 1) == prunes
        left = {path.name[64:] for path in folder.glob("objects/*/*")}
        assert left <= {".sqlite", ".sqlite-wal", ".sqlite-history"}
        here = house.mark()
        moment = run(house.storage.getBookmarkForTime((OLD + 4) * 1000))
        for wanted, mark in [(5, undo), next(some), (4, moment), (there, here)]:
            house.order(mark)
            house.begin_session()
            assert house.look() == wanted
        house.close()
    assert found == {(5, True), (3, False), (6, False)}


@pytest.mark.parametrize("torn", [False, True])
def test_a_kill_while_a_history_begins_anew_brings_no_older_one_back(
    torn, memory_path, open_storage, commit
):
    template = memory_path / "template"
    (template / "objects").mkdir(parents=True)
    house = House(template, open_storage, commit)
    house.write(1)
    mark = house.mark()
    for number in (2, 3):
        house.write(number)
    house.close()
    house = House(template, open_storage, commit, NO_HISTORY)
    house.write(4)
    killed = memory_path / "killed"
    shutil.copytree(template, killed)
    house.close()

    def open_it(folder, arm):
        house = House(folder, open_storage, commit)
        arm()
        assert house.look() == 4
        house.close()

    for folder, _ in rounds(killed, memory_path / "rounds", open_it, torn=torn):
        house = House(folder, open_storage, commit)
        assert house.look() == 4
        with pytest.raises(ValueError, match="not of this object, or of a time before"):
            house.order(mark)
        house.close()
