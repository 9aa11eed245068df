"""Nothing in KV is ever pickled, and a pickle planted in a namespace is never loaded."""

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from runtime.kv.bytes_disk import BytesDisk
from workers.errors import KVError

PICKLED = 4


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def plant(directory, sync_kv, tmp_path):
    """Write a row as somebody would who can write to the directory."""
    sync_kv.put("innocent", "v")

    def plant_(key, raw, mode, filename, value):
        with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
            connection.execute(
                "INSERT INTO Cache (key, raw, store_time, access_time, mode, filename, value)"
                " VALUES (?, ?, 0, 0, ?, ?, ?)",
                (key, raw, mode, filename, value),
            )

    yield plant_
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def bomb(tmp_path):
    return pickle.dumps(Bomb(tmp_path / "mark"))


@pytest.mark.parametrize("form", ["text", "json", "bytes", "arrayBuffer", "stream"])
def test_a_pickled_value_is_refused(sync_kv, plant, bomb, form):
    plant(b"k", 1, PICKLED, None, bomb)
    with pytest.raises(KVError, match="Roost did not write"):
        sync_kv.get("k", form)


def test_a_pickled_value_in_a_file_is_refused(sync_kv, plant, bomb, directory):
    for number, name in enumerate(("planted.val", "../planted", "values/" + "0" * 32 + ".val")):
        (directory / name).write_bytes(bomb)
        plant(f"k{number}".encode(), 1, PICKLED, name, None)
        with pytest.raises(KVError, match="Roost did not write"):
            sync_kv.get(f"k{number}")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "values/../../secret", "secret"])
def test_a_row_cannot_name_a_file_outside_of_the_folder_of_values(sync_kv, plant, name, directory):
    (directory.parent / "secret").write_text("secret")
    plant(b"k", 1, 2, name, None)
    with pytest.raises(KVError, match="Roost did not write"):
        sync_kv.get("k")


def test_a_pickled_key_is_refused_where_it_is_listed_and_found_by_no_get(sync_kv, plant, bomb):
    plant(bomb, 0, 1, None, b"v")
    with pytest.raises(KVError, match="Roost did not write"):
        sync_kv.list()
    assert sync_kv.get("innocent") == "v"


def test_what_is_kept_as_text_or_a_number_is_refused(sync_kv, plant):
    plant(b"k", 1, 3, "text.val", None)
    plant(b"n", 1, 1, None, 5)
    for key in "kn":
        with pytest.raises(KVError, match="Roost did not write"):
            sync_kv.get(key)


def test_the_disk_pickles_nothing(tmp_path):
    with diskcache.Cache(str(tmp_path), disk=BytesDisk) as cache:
        for key, value in (("text", b"v"), (b"k", "text"), (b"k", 5), (b"k", [1]), ((1, 2), b"v")):
            with pytest.raises(TypeError, match="on disk is bytes"):
                cache.set(key, value)
        cache.set(b"k", b"v")
        assert cache.get(b"k") == b"v"


def test_nothing_on_disk_says_pickle(sync_kv, store, directory):
    sync_kv.put("k", {"a": 1}.__repr__(), metadata={"m": [1, 2]})
    sync_kv.put("l", b"\x00" * 200_000)
    rows = store._durable._select("SELECT DISTINCT raw, mode, typeof(key) FROM Cache", ())
    assert sorted(rows) == [(1, 1, "blob"), (1, 2, "blob")]
