"""Slot files: whole transactions, one owner, durable when `sync()` says so."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from runtime.ids import NamespaceKey
from runtime.storage import Change, ObjectRecord, SlotFile
from workers.errors import StorageError

NEWER = len(SlotFile.MIGRATIONS) + 1
A, B = (NamespaceKey("w-Room").from_name(name) for name in "ab")


def change(object_id, puts=(), deletes=(), *, wipe=False, class_name="Room", name=None):
    raw = object_id.raw
    return Change(
        raw,
        class_name,
        name or object_id.name,
        register=True,
        wipe=wipe,
        puts=[(raw, key, value) for key, value in puts],
        deletes=[(raw, key) for key in deletes],
    )


def rows(file, object_id=A, **options):
    return list(file.scan(object_id.raw, **options))


def test_what_was_committed_is_read_back_also_after_reopening(open_file):
    file = open_file()
    file.commit([change(A, [(b"k", b"1"), (b"l", b"2")]), change(B, [(b"k", b"3")])])
    file.commit([change(A, [(b"k", b"4")], [b"l"])])
    for _ in range(2):
        assert file.read(A.raw, b"k") == b"4"
        assert file.read(A.raw, b"l") is None
        assert file.contains(A.raw, b"k")
        assert not file.contains(A.raw, b"l")
        assert rows(file, B) == [(b"k", b"3")]
        file.close()
        file = open_file()


def test_a_scan_is_in_byte_order_and_within_its_range(open_file):
    file = open_file()
    keys = [b"", b"10", b"9", b"Z", b"a", b"a\0", b"ab", "é".encode(), "😀".encode()]
    file.commit([change(A, [(key, key) for key in reversed(keys)]), change(B, [(b"a", b"")])])
    assert [key for key, _ in rows(file)] == keys
    assert [key for key, _ in rows(file, reverse=True)] == keys[::-1]
    assert [key for key, _ in rows(file, start=b"9", end=b"a\0")] == [b"9", b"Z", b"a"]
    assert [key for key, _ in rows(file, start=b"9", reverse=True, limit=1)] == [keys[-1]]
    assert rows(file, start=b"b", end=b"a") == []


def test_a_scan_reads_row_by_row(open_file):
    file = open_file()
    file.commit([change(A, [(b"%04d" % n, b"x" * 100_000) for n in range(200)])])
    before = apsw.memory_used()
    scan = file.scan(A.raw)
    for _ in range(100):
        next(scan)
    assert apsw.memory_used() - before < 4_000_000  # SQLite's page cache holds 2 MB
    scan.close()


def test_a_wipe_removes_what_the_object_had_before_the_same_change(open_file):
    file = open_file()
    file.commit([change(A, [(b"old", b"1")]), change(B, [(b"old", b"1")])])
    file.commit([change(A, [(b"new", b"2")], wipe=True)])
    assert rows(file) == [(b"new", b"2")]
    assert rows(file, B) == [(b"old", b"1")]


def test_the_register_has_each_object_from_its_first_commit_on(open_file):
    times = iter([10.0, 20.0, 30.0, 40.0])
    file = open_file(clock=lambda: next(times))
    nameless = change(A, [(b"k", b"1")])._replace(name=None)
    file.commit([nameless, change(B, [(b"k", b"1")], class_name="Other")])
    assert {record.name for record in file.objects("Room")} == {None}
    file.commit([change(A, [(b"k", b"2")])])
    assert list(file.objects("Room")) == [ObjectRecord(A, "Room", "a", 10.0)]
    assert {record.id for record in file.objects()} == {A, B}
    assert file.counts() == {"Other": 1, "Room": 1}
    file.commit([change(A, wipe=True)._replace(register=False, forget=True)])
    assert file.counts() == {"Other": 1}


def test_a_commit_that_fails_half_way_leaves_the_file_as_it_was(open_file):
    file = open_file()
    file.commit([change(A, [(b"k", b"1")])])
    broken = change(B, [(b"k", b"2"), (b"l", object())])
    with pytest.raises(StorageError) as raised:
        file.commit([change(A, [(b"k", b"9"), (b"m", b"9")]), broken])
    assert isinstance(raised.value.__cause__, TypeError)
    assert rows(file) == [(b"k", b"1")]
    assert rows(file, B) == []
    assert file.counts() == {"Room": 1}
    file.commit([change(A, [(b"k", b"2")])])
    assert file.read(A.raw, b"k") == b"2"


def test_a_full_disk_fails_the_commit_and_the_file_goes_on(open_file):
    file = open_file()
    file.commit([change(A, [(b"k", b"1")])])
    pages = file._connection.execute("PRAGMA page_count").get
    file._connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    with pytest.raises(StorageError) as raised:
        file.commit([change(A, [(b"k", b"2"), (b"big", b"x" * 100_000)])])
    assert isinstance(raised.value.__cause__, apsw.FullError)
    assert rows(file) == [(b"k", b"1")]
    file.commit([change(A, [(b"k", b"3")])])
    assert file.read(A.raw, b"k") == b"3"


def test_sync_makes_one_fdatasync_of_the_log_on_any_thread(open_file, tmp_path):
    synced = []
    file = open_file(
        fdatasync=lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    file.commit([change(A, [(b"k", b"1")])])
    file.commit([change(A, [(b"k", b"2")])])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(file.sync).result()
    assert synced == [f"{tmp_path}/0.sqlite-wal"]


def test_sync_follows_a_log_that_was_made_anew(open_file, tmp_path):
    synced = []
    file = open_file(fdatasync=lambda fd: synced.append(os.fstat(fd).st_ino))
    file.commit([change(A, [(b"k", b"1")])])
    file.sync()
    log = tmp_path / "0.sqlite-wal"
    copy = log.with_suffix(".copy")
    copy.write_bytes(log.read_bytes())
    copy.rename(log)
    file.sync()
    assert synced[0] != synced[1] == log.stat().st_ino


def test_a_relaxed_file_never_syncs(open_file):
    file = open_file(durability="relaxed", fdatasync=lambda fd: pytest.fail("synced"))
    file.commit([change(A, [(b"k", b"1")])])
    file.sync()
    assert not file.needs_sync


def test_after_a_failed_sync_nothing_is_durable_until_the_file_was_opened_anew(open_file):
    outcomes = iter([OSError(5, "Input/output error"), None])

    def fdatasync(fd):
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        os.fdatasync(fd)

    file = open_file(fdatasync=fdatasync)
    file.commit([change(A, [(b"k", b"1")])])
    with pytest.raises(StorageError, match="Input/output error"):
        file.sync()
    with pytest.raises(StorageError, match="earlier sync failed"):
        file.sync()  # the kernel would report success now
    before = file._connection
    assert file.read(A.raw, b"k") == b"1"
    assert file._connection is not before
    assert Path(f"{file.path}-wal").stat().st_size == 0  # all of it is in the main file, synced
    file.commit([change(A, [(b"k", b"2")])])
    file.sync()
    assert file.read(A.raw, b"k") == b"2"


def test_the_log_stays_bounded(open_file):
    file = open_file(durability="relaxed")
    for n in range(100):
        file.commit([change(A, [(b"%d" % (n % 7), os.urandom(600_000))])])
    assert Path(f"{file.path}-wal").stat().st_size < 20_000_000


def test_room_that_was_freed_is_used_again(open_file, tmp_path):
    file = open_file(durability="relaxed")
    sizes = []
    for round_ in range(6):
        for number in range(20):
            file.commit([change(A, [(f"{round_}-{number}".encode(), b"x" * 100_000)])])
        file.commit([change(A, wipe=True)])
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sizes.append((tmp_path / "0.sqlite").stat().st_size)
    assert max(sizes) < 1.2 * sizes[0]
    file.shrink()
    file.close()
    assert (tmp_path / "0.sqlite").stat().st_size < 0.1 * sizes[0]


def test_a_file_has_one_owner_at_a_time(open_file):
    file = open_file()
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
        open_file()
    file.close()
    open_file()


def test_a_full_disk_leaves_no_lock_that_nobody_holds(open_file, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = open_file()
    file.commit([change(A, [(b"k", b"1")])])
    file.close()
    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        file = open_file()
    assert file.read(A.raw, b"k") == b"1"
    with pytest.raises(StorageError, match="in use by process unknown"):
        open_file()
    file.close()
    open_file()


def test_files_are_private_to_their_user(open_file, tmp_path):
    file = open_file()
    file.commit([change(A, [(b"k", b"1")])])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("0.sqlite", "0.sqlite-wal", "0.sqlite.lock"), 0o600)


def test_a_file_of_a_newer_version_is_refused_and_left_alone(open_file, tmp_path):
    open_file().close()
    with apsw.Connection(str(tmp_path / "0.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {NEWER}").fetchall()
    connection.close()
    before = (tmp_path / "0.sqlite").read_bytes()
    with pytest.raises(StorageError, match=f"format {NEWER}.*newer"):
        open_file()
    assert (tmp_path / "0.sqlite").read_bytes() == before


def test_a_file_that_is_no_slot_file_is_refused(open_file, tmp_path):
    with apsw.Connection(str(tmp_path / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE t(x)").fetchall()
    connection.close()
    with pytest.raises(StorageError, match="no slot file"):
        open_file("other.sqlite")
    (tmp_path / "text.sqlite").write_bytes(b"not a database, though long enough" * 100)
    with pytest.raises(StorageError, match="cannot be opened") as raised:
        open_file("text.sqlite")
    assert isinstance(raised.value.__cause__, apsw.NotADBError)
    with pytest.raises(StorageError, match="cannot be locked"):
        open_file("missing/0.sqlite")


def test_a_closed_file_refuses_use_and_may_be_closed_again(open_file):
    file = open_file()
    file.close()
    file.close()
    for use in (
        lambda: file.read(A.raw, b"k"),
        lambda: rows(file),
        lambda: file.commit([change(A, [(b"k", b"1")])]),
    ):
        with pytest.raises(StorageError):
            use()
