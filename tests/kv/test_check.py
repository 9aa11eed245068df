"""What is wrong with a namespace is found, also while it is in use, and repaired where that loses nothing."""

import fcntl
import os
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from runtime.kv import SyncKVNamespace, check, value_file
from runtime.kv.bytes_disk import FILE_BYTES, BytesDisk

LARGE = b"x" * FILE_BYTES


@pytest.fixture
def sql(directory):
    def execute(statement, *values):
        with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as database:
            return database.execute(statement, values).fetchall()

    return execute


@pytest.fixture
def filled(sync_kv):
    sync_kv.put("small", "v", metadata={"a": 1}, expirationTtl=60)
    sync_kv.put("large", LARGE)
    sync_kv.put("x" * 512, "long")
    sync_kv.delete("absent")
    return sync_kv


def texts(found):
    return [problem.text for problem in found.problems]


def repaired(store):
    """Repair; returns what was said, after a look that nothing is left."""
    found = check(store, repair=True)
    assert all(problem.repaired for problem in found.problems)
    assert check(store).problems == []
    return texts(found)


def test_nothing_is_wrong_with_what_was_written(filled, store):
    for key in ("small", "large"):
        filled.get(key)
    found = check(store)
    assert (found.keys, found.files, found.problems) == (3, 1, [])


def test_a_file_left_by_a_killed_writer_is_found_and_one_being_written_is_not(
    filled, store, directory
):
    left = directory / "values" / ("0" * 32 + ".val")
    left.write_bytes(b"half")
    being_written = store.new_file()
    assert texts(check(store)) == [f"values/{left.name} is left of a write that was interrupted"]
    assert left.exists()
    assert repaired(store) == [f"values/{left.name} is left of a write that was interrupted"]
    assert not left.exists()
    assert (directory / being_written.name).exists()
    being_written.discard()


@pytest.mark.parametrize("moment", ["made", "replaced"])
def test_a_file_between_two_steps_of_its_writer_is_nothing_wrong(
    filled, store, monkeypatch, moment
):
    reached, looked = threading.Event(), threading.Event()
    checker = threading.get_ident()
    locked, removed = fcntl.flock, BytesDisk.remove

    def until_looked_at():
        reached.set()
        assert looked.wait(10)

    def flock(descriptor, kind):
        if threading.get_ident() == checker:
            looked.set()
        elif moment == "made" and not reached.is_set():
            until_looked_at()
        locked(descriptor, kind)

    def remove(*arguments):
        if moment == "replaced":
            until_looked_at()
        removed(*arguments)

    monkeypatch.setattr(value_file, "fcntl", SimpleNamespace(**{**vars(fcntl), "flock": flock}))
    monkeypatch.setattr(BytesDisk, "remove", remove)
    writer = threading.Thread(target=filled.put, args=("large", b"y" * FILE_BYTES))
    writer.start()
    assert reached.wait(10)
    found = check(store)
    writer.join()
    assert (looked.is_set(), found.problems) == (True, [])
    assert check(store).problems == []


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_lost_value_is_found_and_its_key_removed(filled, store, directory, damage):
    (file,) = (directory / "values").iterdir()
    if damage == "gone":
        file.unlink()
    else:
        os.truncate(file, 10)
    (text,) = texts(check(store))
    assert text.startswith("the value of 'large' is lost: ")
    assert repaired(store)[0] == text
    assert filled.get("large") is None
    assert filled.get("small") == "v"


def test_figures_that_are_wrong_are_set_right(filled, store, sql):
    sql("UPDATE Settings SET value = 99 WHERE key = 'count'")
    sql("UPDATE Settings SET value = 5 WHERE key = 'size'")
    assert repaired(store) == [
        "diskcache's count says 99 instead of 3",
        f"diskcache's size says 5 instead of {FILE_BYTES:,}",
    ]


def test_rows_that_roost_did_not_write_are_told_and_left_alone(filled, store, sql):
    sql("INSERT INTO Cache (key, raw, size, mode, value) VALUES (x'70', 0, 0, 1, x'70')")
    sql("INSERT INTO Cache (key, raw, size, mode, value) VALUES (x'71', 1, 0, 4, x'70')")
    found = check(store, repair=True)
    assert sorted(texts(found)) == [
        "row 4 has a key that Roost did not write",
        "the value of 'q' was not written by Roost",
    ]
    assert not any(problem.repaired for problem in found.problems)


def test_a_broken_database_is_told(filled, store, directory):
    store.close()
    path = directory / "cache.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x99" * (len(content) - 4096)
    path.write_bytes(content)
    found = check(store, repair=True)
    assert found.problems
    assert not any(problem.repaired for problem in found.problems)
    assert all(text.startswith("the database is broken: ") for text in texts(found))


@pytest.mark.parametrize("cache", ["cache"], indirect=True)
def test_a_cache_that_disagrees_is_found_and_forgotten(filled, store, sql):
    assert filled.get("small") == "v"
    sql("UPDATE Cache SET value = x'77' WHERE key = CAST('small' AS BLOB)")  # behind its back
    assert filled.get("small") == "v"
    assert repaired(store) == ["the cache has another value of 'small'"]
    assert filled.get("small") == "w"


def test_a_namespace_in_use_is_never_wrong(directory, open_, start, cache):
    def write_for_ever(say):
        kv = SyncKVNamespace(open_())
        number = 0
        while True:
            number += 1
            kv.put(f"k{number % 7}", LARGE if number % 3 else b"small")
            kv.get(f"k{number % 5}")
            if number % 5 == 0:
                kv.delete(f"k{number % 4}")
            if number == 20:
                say("under way")

    store = open_()
    writer = start(write_for_ever)
    assert writer.said.readline() == "under way\n"
    for _ in range(20):
        assert check(store).problems == []
    writer.kill()
