"""Files of older formats are brought up to date when they are opened, whole or not at all."""

from contextlib import closing

import apsw
import pytest

from runtime.ids import NamespaceKey
from runtime.storage import SlotFile
from runtime.storage.object_file import ObjectFile
from runtime.storage.slot_file import ObjectRecord
from tests.storage.test_kill import LIMITS
from workers.errors import StorageError

A = NamespaceKey("w-Room").from_name("a")
SCHEMA = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
MORE = "CREATE TABLE _cf_MORE(note);"


def look(path, *statements):
    """What statements say on a file that nobody has open."""
    with closing(apsw.Connection(str(path))) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


@pytest.mark.parametrize("version", range(1, len(SlotFile.MIGRATIONS)))
def test_a_slot_file_of_any_older_format_becomes_one_of_today(open_file, tmp_path, version):
    open_file("new.sqlite").close()
    steps = "".join(SlotFile.MIGRATIONS[:version])
    look(
        tmp_path / "0.sqlite",
        f"{steps} PRAGMA user_version = {version}",
        f"INSERT INTO entries VALUES (x'{A}', x'61', x'62')",
        f"INSERT INTO objects VALUES (x'{A}', 'Room', 'a', 5.0)",
    )
    file = open_file()
    assert file.read(A.raw, b"a") == b"b"
    assert [*file.objects()] == [ObjectRecord(A, "Room", "a", 5.0)]
    assert file.alarm(A.raw) is None
    file.close()
    what = "PRAGMA user_version", SCHEMA
    assert look(tmp_path / "0.sqlite", *what) == look(tmp_path / "new.sqlite", *what)


def object_file(path):
    return closing(ObjectFile(path, durability="relaxed", limits=LIMITS))


def found(path):
    with object_file(path) as file:
        file.found([(b"k", b"v")], 7)
        file.commit()


def test_an_object_file_of_an_older_format_becomes_one_of_today(tmp_path, monkeypatch):
    found(tmp_path / "old")
    monkeypatch.setattr(ObjectFile, "MIGRATIONS", (*ObjectFile.MIGRATIONS, MORE))
    found(tmp_path / "new")
    with object_file(tmp_path / "old") as file:
        assert (file.is_home, file.read(b"k"), file.alarm) == (True, b"v", 7)
    what = "PRAGMA user_version", SCHEMA
    assert look(tmp_path / "old", *what) == look(tmp_path / "new", *what)


def test_a_new_object_file_has_no_format_before_it_is_a_home(tmp_path):
    with object_file(tmp_path / "new") as file:
        assert not file.is_home
    assert look(tmp_path / "new", "PRAGMA user_version", SCHEMA) == [[(0,)], []]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    found(tmp_path / "old")
    before = look(tmp_path / "old", "PRAGMA user_version", SCHEMA)
    with monkeypatch.context() as patch:
        broken = MORE + "ALTER TABLE _cf_NOWHERE ADD COLUMN note;"
        patch.setattr(ObjectFile, "MIGRATIONS", (*ObjectFile.MIGRATIONS, broken))
        with pytest.raises(
            StorageError, match=r"object file .*old cannot be opened: no such table"
        ):
            object_file(tmp_path / "old")
    assert look(tmp_path / "old", "PRAGMA user_version", SCHEMA) == before
    with object_file(tmp_path / "old") as file:
        assert file.read(b"k") == b"v"
