"""`roost backup` and `roost restore`: what comes back is what was there, whole, or nothing."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from runtime import connect
from runtime.client.backups import MANIFEST
from runtime.kv.value_file import FOLDER
from tests.cli.conftest import SECONDS
from workers.errors import ObjectReset

SCRIPT = """
import time
from workers import DurableObject, Response, WorkerEntrypoint

class Room(DurableObject):
    async def add(self, sql):
        storage = self.ctx.storage
        n = (await storage.get("n") or 0) + 1
        storage.put({"n": n, "same": n})
        storage.setAlarm(4_000_000_000_000 + n)
        if sql:
            storage.sql.exec("CREATE TABLE IF NOT EXISTS log(n)")
            storage.sql.exec("INSERT INTO log VALUES (?)", n)
        return n

    async def look(self, sql):
        storage = self.ctx.storage
        rows = storage.sql.exec("SELECT count(*) c FROM log").one().c if sql else None
        alarm = await storage.getAlarm()
        return await storage.get("n"), await storage.get("same"), rows, alarm

    async def mark(self):
        return await self.ctx.storage.getCurrentBookmark(), time.time_ns() // 1_000_000

    async def mark_of(self, ms):
        return await self.ctx.storage.getBookmarkForTime(ms)

    async def go_back(self, bookmark):
        return await self.ctx.storage.onNextSessionRestoreBookmark(bookmark)

    async def abort(self):
        self.ctx.abort("going back")

    async def alarm(self):
        pass
"""
CONFIG = """
name = "w"
main = "worker.py"
kv_namespaces = [{ binding = "KV", id = "kv" }]
durable_objects.bindings = [{ name = "ROOMS", class_name = "Room" }]
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""
NAMES = [f"n{number}" for number in range(12)]
LARGE = "x" * 300_000


def has_sql(name):
    return int(name[1:]) % 2 == 1


def check(rt, name, at_least):
    """An object is whole, and not older than what was acknowledged before the backup."""
    n, same, rows, alarm = rt.env.ROOMS.getByName(name).look(has_sql(name))
    assert n == same >= at_least
    assert rows == (n if has_sql(name) else None)
    assert alarm == 4_000_000_000_000 + n
    return n


def go_back(room, bookmark):
    """Have an object be what it was at a bookmark; returns the one to undo it with, and what it is then."""
    undo = room.go_back(bookmark)
    with pytest.raises(ObjectReset):
        room.abort()
    n, same, rows, _ = room.look(True)
    assert n == same == rows
    return undo, n


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wrangler.toml").write_text(CONFIG)
    (tmp_path / "worker.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def filled(folder, start):
    """A running instance with objects and KV."""
    instance = start("serve").ready()
    with connect(folder / ".roost") as rt:
        for name in NAMES:
            rt.env.ROOMS.getByName(name).add(has_sql(name))
        rt.env.KV.put("small", "1")
        rt.env.KV.put("large", LARGE)
    return instance


def test_a_backup_of_a_busy_instance_is_whole(filled, folder, roost, start):
    done = threading.Event()
    counts = dict.fromkeys(NAMES, 1)

    def work(name):
        with connect(folder / ".roost") as rt:
            while not done.is_set():
                counts[name] = rt.env.ROOMS.getByName(name).add(has_sql(name))
                rt.env.KV.put("large", LARGE + str(counts[name]))

    workers = [threading.Thread(target=work, args=(name,)) for name in NAMES[:4]]
    for worker in workers:
        worker.start()
    with connect(folder / ".roost") as rt:
        marks = {name: rt.env.ROOMS.getByName(name).mark()[0] for name in NAMES if has_sql(name)}
        at_marks = {name: rt.env.ROOMS.getByName(name).look(True)[0] for name in marks}
    before = dict(counts)
    said = roost("backup", "copy").worked()
    assert said.startswith("backed up .roost in copy: ")
    after = dict(counts)
    done.set()
    for worker in workers:
        worker.join(SECONDS)
    assert filled.end() == 0
    assert oct((folder / "copy").stat().st_mode & 0o777) == "0o700"
    restored = roost("restore", "copy", "--data-dir", "again").worked()
    assert "restored again as of 20" in restored
    start("serve", "--data-dir", "again").ready()
    with connect(folder / "again") as rt:
        for name in NAMES:
            found = check(rt, name, before[name])
            assert found <= after[name] + 1  # what was under way when the backup ended
            assert rt.env.ROOMS.getByName(name).add(has_sql(name)) == found + 1
        for name, mark in marks.items():
            room = rt.env.ROOMS.getByName(name)
            undo, n = go_back(room, mark)
            assert 1 <= n <= at_marks[name]
            assert go_back(room, undo)[1] == room.look(True)[0] > n
        assert rt.env.KV.get("small") == "1"
        assert rt.env.KV.get("large").startswith(LARGE)
        assert {(record.class_name, record.name) for record in rt.objects()} == {
            ("Room", name) for name in NAMES
        }


def test_a_restored_object_goes_back_in_its_history(filled, folder, roost, start):
    with connect(folder / ".roost") as rt:
        room = rt.env.ROOMS.getByName("n1")
        mark, ms = room.mark()
        while time.time_ns() // 1_000_000 <= ms:  # a bookmark for a time has what was made in it
            pass
        for _ in range(2):
            room.add(True)
        roost("backup", "copy").worked()
        roost("backup", "small", "--no-history").worked()
        room.add(True)
    assert filled.end() == 0
    assert len([*folder.glob("copy/objects/*/*-history")]) == sum(map(has_sql, NAMES))
    assert not [*folder.glob("small/objects/*/*-history")]
    roost("restore", "copy", "--data-dir", "again").worked()
    roost("restore", "small", "--data-dir", "without").worked()
    again = start("serve", "--data-dir", "again").ready()
    with connect(folder / "again") as rt:
        room = rt.env.ROOMS.getByName("n1")
        undo, n = go_back(room, room.mark_of(ms))
        assert n == 1
        assert go_back(room, undo)[1] == 3
        assert go_back(room, mark)[1] == 1
    assert again.end() == 0
    start("serve", "--data-dir", "without").ready()
    with connect(folder / "without") as rt:
        room = rt.env.ROOMS.getByName("n1")
        assert check(rt, "n1", 3) == 3
        with pytest.raises(ValueError, match="not of this object, or of a time before"):
            room.go_back(mark)


def test_a_backup_of_a_stopped_instance_is_the_same(filled, folder, roost, start):
    assert filled.end() == 0
    roost("backup", "copy").worked()
    (line,) = roost("restore", "copy").failed().splitlines()
    assert "is not empty: name another --data-dir, or move it aside with --force" in line
    moved, said = roost("restore", "copy", "--force").worked().splitlines()
    assert moved.startswith("what was there is now in .roost.before-20")
    assert said.startswith("restored .roost as of 20")
    assert len(json.loads(roost("objects", "list", "--json").worked())) == len(NAMES)
    start("serve").ready()
    with connect(folder / ".roost") as rt:
        for name in NAMES:
            assert check(rt, name, 1) == 1
        assert rt.env.KV.get("large") == LARGE
    roost("backup", "second").worked()  # of what was restored
    assert (
        "is not empty: a backup takes a directory of its own" in roost("backup", "second").failed()
    )
    assert "is in use by another Roost (pid" in roost("restore", "copy", "--force").failed()
    assert not list(folder.glob("*.restoring"))


KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.client import backups
from runtime.storage.wal_file import WalFile
left = [int(sys.argv[3])]

def killing(owner, name):
    function = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*args, **kwargs)
    setattr(owner, name, wrapped)

for name in ("_copy_all", "copy_namespace", "_digest", "sync_directory", "write_private"):
    killing(backups, name)
killing(WalFile, "copy_to")
killing(backups.shutil, "copyfile")
if sys.argv[4] == "backup":
    backups.back_up(Path(sys.argv[1]), Path(sys.argv[2]))
else:
    backups.restore(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def killed_at(step, what, source, target):
    """Whether the program was killed, at its so manieth step."""
    program = [sys.executable, "-c", KILLED, source, target, str(step), what]
    code = subprocess.run(program, check=False, timeout=SECONDS).returncode
    assert code in {0, -signal.SIGKILL}
    return code != 0


def test_a_backup_that_was_interrupted_is_never_restored(filled, folder, roost):
    assert filled.end() == 0
    step = 0
    while killed_at(step, "backup", folder / ".roost", folder / f"copy{step}"):
        if (folder / f"copy{step}").exists():
            line = roost("restore", f"copy{step}", "--data-dir", "again").failed()
            assert f"copy{step} is no complete backup: it has no backup.json" in line
        step += 8
    assert step > 25
    roost("restore", f"copy{step}", "--data-dir", "again").worked()
    assert not list((folder / ".roost").rglob("backup"))  # what killed ones left in KV


def test_a_restoring_that_was_interrupted_leaves_nothing_in_its_place(filled, folder, roost):
    assert filled.end() == 0
    roost("backup", "copy").worked()
    step = 0
    while killed_at(step, "restore", folder / "copy", folder / "again"):
        assert not (folder / "again").exists()
        step += 9
    assert step > 25
    assert (folder / "again").is_dir()
    assert not (folder / "again.restoring").exists()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_backup_that_was_damaged_is_not_restored(filled, folder, roost, damage):
    assert filled.end() == 0
    roost("backup", "copy").worked()
    path = max((folder / "copy" / "slots").iterdir())
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + b"?" * (damage == "changed"))
    line = roost("restore", "copy", "--data-dir", "again").failed()
    assert path.name in line
    assert not list(folder.glob("again*"))


def test_manifests_that_lie_are_refused(filled, folder, roost):
    assert filled.end() == 0
    roost("backup", "copy").worked()
    path = folder / "copy" / MANIFEST
    manifest = json.loads(path.read_bytes())
    for files in ({"../x": [1, ""]}, {"/etc/x": [1, ""]}, [1], {"a//b": [1, ""]}):
        path.write_text(json.dumps(manifest | {"files": files}))
        assert f"{path.relative_to(folder)} cannot be read" in roost("restore", "copy").failed()
    path.write_text(json.dumps(manifest | {"format": 9}))
    assert "was made by a newer Roost (format 9)" in roost("restore", "copy").failed()


def test_where_nothing_was_stored_nothing_is_made(folder, roost):
    assert "nothing was ever stored in .roost" in roost("backup", "copy").failed()
    assert "is no complete backup" in roost("restore", ".").failed()
    assert sorted(path.name for path in folder.iterdir()) == ["worker.py", "wrangler.toml"]


def test_large_values_of_kv_are_files_in_the_backup_too(filled, folder, roost):
    roost("backup", "copy").worked()
    (value,) = (folder / "copy" / "kv" / "kv" / FOLDER).iterdir()
    assert value.read_text() == LARGE
    assert not (folder / ".roost" / "kv" / "kv" / "backup").exists()
