"""A power cut takes what was not synced, a whole transaction at a time, and nothing else."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from runtime.ids import NamespaceKey
from runtime.storage import Change

OBJECT = NamespaceKey("w-Room").from_name("a")
RAW = OBJECT.raw


def change(number):
    """Every key gets the number: a torn transaction would leave two numbers behind."""
    value = b"%d" % number * 300
    puts = [(RAW, b"%d" % key, value) for key in range(40)]
    return Change(RAW, "Room", "a", register=True, wipe=False, puts=puts, deletes=())


def number_in(file):
    """Return the number that all keys have, 0 when there are none."""
    values = {value for _, value in file.scan(RAW)}
    assert len(values) <= 1
    assert file.counts() == ({"Room": 1} if values else {})
    assert file._connection.execute("PRAGMA integrity_check").get == "ok"
    return int(values.pop()[:1]) if values else 0


@pytest.fixture
def disk(tmp_path):
    """The disk's content: the main file as it was opened, the log as of its last sync."""
    return tmp_path / "disk"


@pytest.fixture
def written(open_file, disk):
    """Commit 1 to 3 with a sync each, then 4 without; no checkpoint happens meanwhile."""
    disk.mkdir()
    log = []

    def fdatasync(fd):
        log.append(os.pread(fd, 1 << 30, 0))

    file = open_file(fdatasync=fdatasync)
    # Not by hand: closing the main file would drop this process's locks on it.
    subprocess.run(["cp", str(file.path), str(disk / "0.sqlite")], check=True)
    for number in (1, 2, 3):
        file.commit([change(number)])
        file.sync()
    file.commit([change(4)])
    unsynced = Path(f"{file.path}-wal").read_bytes()
    assert len(unsynced) > len(log[-1])
    return log, unsynced


def test_after_a_power_cut_the_last_sync_is_there(open_file, disk, written):
    for number, log in enumerate(written[0], 1):
        (disk / "0.sqlite-wal").write_bytes(log)
        file = open_file("disk/0.sqlite")
        assert number_in(file) == number
        file.close()


def test_a_log_cut_off_anywhere_ends_at_a_whole_transaction(open_file, disk, written):
    syncs, log = written
    chance = random.Random(5)
    main = (disk / "0.sqlite").read_bytes()
    for _ in range(30):
        length = chance.randint(0, len(log))
        (disk / "0.sqlite").write_bytes(main)
        (disk / "0.sqlite-wal").write_bytes(log[:length] + os.urandom(chance.randint(0, 9000)))
        file = open_file("disk/0.sqlite")
        assert number_in(file) == sum(len(synced) <= length for synced in [*syncs, log])
        file.close()


def test_what_a_dead_owner_left_unsynced_is_durable_once_the_file_is_open(open_file, disk, written):
    (disk / "0.sqlite-wal").write_bytes(written[1])
    file = open_file("disk/0.sqlite")
    assert (disk / "0.sqlite-wal").stat().st_size == 0  # all in the main file, which SQLite synced
    assert number_in(file) == 4
