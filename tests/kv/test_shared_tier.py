"""The shared cache answers what it can, and whatever is wrong with it, no read is wrong."""

import logging
import os
import resource
import signal

import lmdb
import pytest

from runtime.kv import SyncKVNamespace, open_store, shared_tier
from runtime.kv.shared import FORMAT
from runtime.kv.tiers import Entry, Staged


@pytest.fixture
def cache(shelf):
    return lambda: shelf


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(shared_tier, "AGAIN_SECONDS", 0.0)


@pytest.fixture
def warnings(monkeypatch, caplog):
    monkeypatch.setattr(shared_tier, "_said", set())
    caplog.set_level(logging.WARNING, "roost.kv")
    return lambda: [record.message for record in caplog.records]


@pytest.fixture
def counts(store):
    def counts_():
        found = store.statistics()
        return found.hits, found.misses, found.refused

    return counts_


def test_a_value_written_or_read_once_is_read_from_memory_thereafter(sync_kv, counts):
    sync_kv.put("k", "v", metadata={"m": 1})
    sync_kv.put("l", "v" * 10_000)
    for _ in range(3):
        assert sync_kv.get_with_metadata("k") == {
            "value": "v",
            "metadata": {"m": 1},
            "cacheStatus": None,
        }
        assert sync_kv.get("l") == "v" * 10_000
        assert sync_kv.get("l", "bytes") == b"v" * 10_000
    assert counts() == (9, 0, 0)


def test_that_a_key_is_absent_is_remembered_too_until_it_is_written(sync_kv, counts):
    assert [sync_kv.get("k") for _ in range(3)] == [None] * 3
    assert counts() == (2, 1, 0)
    sync_kv.put("k", "v")
    assert sync_kv.get("k") == "v"
    sync_kv.delete("k")
    assert sync_kv.get("k") is None
    assert counts() == (4, 1, 0)


@pytest.mark.parametrize("value", [b"", b"\xff", b"\xffabc", b"\xff\xff", b"\x00", "é".encode()])
def test_any_bytes_come_back_from_memory_as_they_were(sync_kv, value, counts):
    sync_kv.put("k", value)
    assert sync_kv.get("k", "bytes") == value
    assert sync_kv.get("k") == value.decode(errors="replace")
    assert counts() == (2, 0, 0)


def test_an_entry_in_memory_expires(sync_kv, clock):
    sync_kv.put("k", "v", expirationTtl=60)
    assert sync_kv.get("k") == "v"
    clock.now += 59.9
    assert sync_kv.get("k") == "v"
    clock.now += 0.1
    assert sync_kv.get("k") is None


@pytest.mark.parametrize("length", [480, 481, 503, 504, 511, 512])
def test_keys_of_every_length_are_kept_apart(sync_kv, counts, length):
    keys = ["k" * (length - 1) + last for last in "abc"]
    for key in keys:
        sync_kv.put(key, key[-1])
    assert [sync_kv.get(key) for key in keys] == ["a", "b", "c"]
    sync_kv.delete(keys[0])
    assert [sync_kv.get(key) for key in keys] == [None, "b", "c"]
    assert counts() == (6, 0, 0)


def test_a_value_too_large_for_the_cache_is_read_from_disk(sync_kv, counts):
    sync_kv.put("k", "v")
    sync_kv.put("k", "x" * (1 << 20))
    assert sync_kv.get("k") == "x" * (1 << 20)
    assert sync_kv.get("k") == "x" * (1 << 20)
    assert counts() == (0, 2, 0)
    sync_kv.put("k", "w")
    assert sync_kv.get("k") == "w"


def test_namespaces_see_nothing_of_each_other(open_, tmp_path):
    spaces = [SyncKVNamespace(open_(tmp_path / name)) for name in "ab"]
    for number, kv in enumerate(spaces):
        kv.put("k", str(number))
    assert [kv.get("k") for kv in spaces] == ["0", "1"]
    spaces[0].delete("k")
    assert [kv.get("k") for kv in spaces] == [None, "1"]


def test_a_reader_in_the_midst_of_a_commit_sees_the_disk_and_fills_nothing(store, sync_kv, counts):
    sync_kv.put("k", "old")
    tier = store._tier
    tier.hold([b"k"])
    assert sync_kv.get("k") == "old"
    assert counts() == (0, 1, 1)
    store._durable.commit([Staged(b"k", Entry(b"new", None, None))], 0.0)
    assert sync_kv.get("k") == "new"
    tier.settle([Staged(b"k", Entry(b"new", None, None))])
    assert sync_kv.get("k") == "new"
    assert counts() == (1, 2, 2)
    store._durable.close_writer()


def test_marks_that_a_killed_writer_left_are_cleared_by_the_next(directory, shelf, start, open_):
    def die(say):
        kv = SyncKVNamespace(store := open_store(directory, cache=lambda: shelf))
        kv.put("k", "old")
        store._tier.settle = lambda writes: os.kill(os.getpid(), signal.SIGKILL)
        kv.put("k", "new")

    start(die).end()
    kv = SyncKVNamespace(store := open_())
    assert [kv.get("k"), kv.get("k")] == ["new", "new"]
    assert store.statistics().refused == 2
    kv.put("other", "v")
    assert [kv.get("k"), kv.get("k")] == ["new", "new"]
    found = store.statistics()
    assert (found.hits, found.refused) == (1, 2)


def test_a_writer_that_has_no_cache_ends_the_trust_in_it_and_it_is_found_again(
    sync_kv, store, open_, impatient, counts
):
    stranger = SyncKVNamespace(open_(cache=None))
    for number in range(3):
        sync_kv.put("k", "mine")
        assert sync_kv.get("k") == "mine"
        stranger.put("k", f"{number}")
        assert sync_kv.get("k") == stranger.get("k") == f"{number}"
        assert sync_kv.get("k") == f"{number}"
    assert counts() == (6, 3, 0)


def test_a_cache_that_cannot_be_written_is_trusted_by_nobody(
    directory, shelf, start, store, sync_kv, monkeypatch, warnings
):
    sync_kv.put("k", "old")
    assert sync_kv.get("k") == "old"

    def full():
        raise lmdb.DiskError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store._tier._shared, "write", full)
        sync_kv.put("k", "new")
        assert sync_kv.get("k") == "new"
        sync_kv.put("k", "newer")
        assert sync_kv.get("k") == "newer"
    assert store._tier._trust.token == 0
    (said,) = warnings()
    assert "goes on without its shared cache, from disk: No space left" in said


def test_with_shared_memory_full_reads_and_writes_go_on(directory, shelf, start, open_):
    def fill(say):
        store = open_store(directory, cache=lambda: shelf, cache_bytes=1 << 24)
        kv = SyncKVNamespace(store)
        kv.put("k", "old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
        for number in range(60):
            assert kv.get(f"n{number}") == "x" * 20_000
        say(store.statistics().refused)
        for number in range(40):
            kv.put("k", f"{number}")
            assert kv.get("k") == f"{number}"
        say(kv.get("k"))

    disk = SyncKVNamespace(open_(cache=None))
    for number in range(60):
        disk.put(f"n{number}", "x" * 20_000)
    disk._store.close()
    child = start(fill)
    refused, last = child.end()
    assert int(refused) > 10
    assert last == "39"
    assert disk.get("k") == "39"


@pytest.mark.parametrize("breakage", ["garbage", "empty lock", "directory", "another user"])
def test_a_cache_that_cannot_be_opened_is_gone_without_and_said_once(
    shelf, open_, warnings, breakage, impatient
):
    path = shelf / f"kv-{FORMAT}"
    if breakage == "garbage":
        path.write_bytes(os.urandom(100_000))
    elif breakage == "empty lock":
        path.touch()
        path.with_name(path.name + "-lock").mkdir()
    elif breakage == "directory":
        path.mkdir()
    else:
        shelf.chmod(0o770)
    kv = SyncKVNamespace(store := open_())
    for number in range(3):
        kv.put("k", f"{number}")
        assert kv.get("k") == f"{number}"
    assert store.statistics().hits == 0
    assert len(warnings()) == 1


def test_without_a_directory_there_is_no_cache_and_nothing_is_made(shelf, open_, warnings):
    shelf.rmdir()
    kv = SyncKVNamespace(store := open_())
    kv.put("k", "v")
    assert kv.get("k") == "v"
    assert store.statistics().hits == 0
    assert not shelf.exists()
    shelf.mkdir(0o700)


def test_the_cache_of_a_new_instance_takes_the_place_of_the_old(
    shelf, open_, sync_kv, counts, impatient
):
    sync_kv.put("k", "v")
    for path in shelf.iterdir():
        path.unlink()
    another = SyncKVNamespace(open_())
    another.put("k", "w")
    assert sync_kv.get("k") == another.get("k") == "w"
    sync_kv.put("k", "x")
    assert another.get("k") == "x"
    assert counts()[0] == 1


def test_its_files_are_this_users_alone(shelf, sync_kv):
    sync_kv.put("k", "v")
    assert {path.stat().st_mode & 0o777 for path in shelf.iterdir()} == {0o600}


def test_a_process_forked_from_one_that_has_it_open_goes_without(sync_kv, start, impatient):
    def child(say):
        say(sync_kv.get("k"))
        sync_kv.put("k", "child")
        say(sync_kv.get("k"))

    sync_kv.put("k", "parent")
    forked = start(child)
    assert forked.end() == ["parent", "child"]
    assert forked.status == 0
    assert [sync_kv.get("k"), sync_kv.get("k")] == ["child", "child"]


def test_generations_go_by_within_the_budget(directory, shelf, open_):
    kv = SyncKVNamespace(store := open_(cache_bytes=1 << 20))
    for number in range(100):
        kv.put(f"k{number}", "x" * 20_000)
    assert all(kv.get(f"k{number}") == "x" * 20_000 for number in range(100))
    assert store.statistics().generations > 3
    assert (shelf / f"kv-{FORMAT}").stat().st_size <= 1 << 20


def test_that_a_key_is_absent_is_told_without_reading_its_entry(store, sync_kv, monkeypatch):
    assert sync_kv.get("k") is None
    monkeypatch.setattr(store, "read", None)
    assert sync_kv.get("k") is None
