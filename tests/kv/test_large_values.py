"""Large values are files: durable before their row, gone with it, and never left behind."""

import asyncio
import errno
import os

import pytest

from runtime.kv import SyncKVNamespace, open_store
from runtime.kv.bytes_disk import FILE_BYTES
from workers.errors import KVError

LARGE = "x" * FILE_BYTES


@pytest.fixture
def files(directory):
    return lambda: sorted(path.name for path in (directory / "values").iterdir())


def test_a_large_value_is_a_private_file_that_goes_with_its_row(sync_kv, store, files, directory):
    sync_kv.put("k", LARGE)
    sync_kv.put("s", LARGE[1:])
    (name,) = files()
    assert (directory / "values" / name).stat().st_mode & 0o777 == 0o600
    assert sync_kv.get("k") == LARGE
    sync_kv.put("k", LARGE + "y")
    assert files() != [name]
    assert len(files()) == 1
    assert sync_kv.get("k") == LARGE + "y"
    sync_kv.put("k", "small")
    assert files() == []
    sync_kv.put("k", LARGE)
    sync_kv.delete("k")
    assert files() == []


def test_expired_values_are_removed_with_their_files(sync_kv, store, files, clock):
    for number in range(200):
        sync_kv.put(f"e{number}", LARGE if number < 5 else "v", expirationTtl=60)
    sync_kv.put("kept", LARGE, expirationTtl=61)
    clock.now += 60
    store.tidy()
    assert len(files()) == 1
    rows = store._durable._select("SELECT count(*) FROM Cache", ())
    assert rows == [(1,)]
    assert sync_kv.get("kept") == LARGE


def test_what_expired_goes_with_later_writes_too(sync_kv, store, files, clock):
    sync_kv.put("e", LARGE, expirationTtl=60)
    clock.now += 60
    sync_kv.put("k", "v")
    assert files() == []


def test_a_file_that_a_crash_left_is_swept_and_one_being_written_is_not(
    directory, start, open_, files
):
    def die(say):
        from runtime.kv.value_file import ValueFile

        file = ValueFile(directory)
        file.write(b"half")
        say(file.name)
        os.read(os.pipe()[0], 1)

    store = open_()
    SyncKVNamespace(store).put("k", LARGE)
    store.tidy()
    (kept,) = files()
    writer = start(die)
    name = writer.said.readline().strip().removeprefix("values/")
    tidied = open_()
    tidied.tidy()
    assert sorted((kept, name)) == files()
    writer.kill()
    again = open_()
    again.tidy()
    assert files() == [kept]
    assert SyncKVNamespace(again).get("k") == LARGE


async def test_of_large_values_overwritten_at_once_only_the_last_has_a_file(kv, files):
    await asyncio.gather(*(kv.put("k", LARGE + str(number)) for number in range(9)))
    assert await kv.get("k") == LARGE + "8"
    assert len(files()) == 1


@pytest.mark.parametrize("broken", ["os.fsync", "os.write"])
async def test_a_disk_that_is_full_fails_the_write_and_leaves_the_old_value(
    kv, files, monkeypatch, broken
):
    await kv.put("k", LARGE)
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        with pytest.raises(KVError, match=r"KV PUT failed: .*No space left on device"):
            await kv.put("k", LARGE + "new")
    assert files() == before
    assert await kv.get("k") == LARGE
    await kv.put("k", LARGE + "new")
    assert await kv.get("k") == LARGE + "new"


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_one_write_that_fails_fails_no_other_of_its_batch(kv, monkeypatch, files):
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        large, small = await asyncio.gather(
            kv.put("l", LARGE), kv.put("s", "v"), return_exceptions=True
        )
    assert isinstance(large, KVError)
    assert small is None
    assert await kv.get("s") == "v"
    assert files() == []


async def test_a_file_that_is_gone_is_an_error_and_not_an_absent_key(kv, files, directory):
    await kv.put("k", LARGE * 20)  # more than the cache takes
    (directory / "values" / files()[0]).unlink()
    with pytest.raises(KVError, match=r"KV GET failed: .*No such file"):
        await kv.get("k")


async def test_a_namespace_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KVError, match=r"cannot be opened: .*Not a directory"):
        open_store(tmp_path / "file" / "ns")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cache.db").write_bytes(b"no database" * 999)
    with pytest.raises(KVError, match="cannot be opened: file is not a database"):
        open_store(tmp_path / "broken")
    with pytest.raises(KVError, match="choose a path without ~"):
        open_store(tmp_path / "$HOME")


async def test_a_namespace_of_a_newer_roost_is_refused(open_, directory):
    import sqlite3

    open_().close()
    with sqlite3.connect(directory / "cache.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(KVError, match=r"made by a newer Roost \(format 99\)"):
        open_store(directory)
