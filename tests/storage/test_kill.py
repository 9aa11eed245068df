"""What was acknowledged survives SIGKILL at any moment; what is there is whole transactions."""

import os
import random
import signal
from functools import partial

import pytest

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import RECORDS, CommitGroup, Journal, ObjectFiles, SlotFile, journal, large
from runtime.storage.layout import clear_journals

NAMES = ("a", "b", "c", "d")
USE_SQL = ("b", "c")
ROUNDS = int(os.environ.get("ROOST_KILL_ROUNDS", "20"))
LIMITS = Limits(value_bytes=1 << 20)
RECORD = RECORDS + b"number"


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


def write_for_ever(path, open_storage, acks):
    """Write number after number to all objects; say each when it is durable in all."""
    journal.JOURNAL_BYTES = 60_000  # it starts anew every few numbers
    large.LARGE_BYTES = 700  # of a third of the values
    kept = Journal(path.parent / f"0-{os.getpid()}.journal")
    file = SlotFile(path, journal=kept)
    file._connection.execute(
        "PRAGMA wal_autocheckpoint = 50"
    ).fetchall()  # kills meet checkpoints too
    files = ObjectFiles(path.parent / "objects", "strict", LIMITS, limit=1)
    group = CommitGroup(kept)
    storages = {name: open_storage(file, name, files=files) for name in NAMES}
    number = min(run(storage.get("last")) or 0 for storage in storages.values())
    while True:
        number += 1
        for name, storage in storages.items():
            if name in USE_SQL and number > 30:  # their entries move in the middle of it all
                storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n PRIMARY KEY)")
                storage.sql.exec("INSERT OR REPLACE INTO t VALUES (?)", number)
                storage.sql.exec("DELETE FROM t WHERE n <= ?", number - 50)
            run(storage.put({"last": number, f"n{number:06}": [number] * (number % 700)}))
            run(storage.delete(f"n{number - 50:06}"))
            storage.record(RECORD, partial(number.to_bytes, 8, "big"))
            group.mark(storage)
        for _ in range(2):  # the second pays what the first has made due
            round_ = group.start_round()
            round_.sync()
            assert group.end_round(round_) == {}
        os.write(acks, number.to_bytes(8, "big"))


def test_every_acknowledged_write_is_there_after_a_kill(memory_path, open_storage):
    path, chance, last = memory_path / "slots" / "00000.sqlite", random.Random(7), 0
    path.parent.mkdir()
    for _ in range(ROUNDS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                write_for_ever(path, open_storage, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as acks:
            for _ in range(chance.randint(1, 40)):
                last = int.from_bytes(acks.read(8), "big") or last
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            while ack := acks.read(8):
                last = int.from_bytes(ack, "big")
        file = SlotFile(path)
        files = ObjectFiles(path.parent / "objects", "strict", LIMITS)
        reached = []
        for name in NAMES:
            storage = open_storage(file, name, files=files)
            entries = run(storage.list())
            there = entries.pop("last")
            assert there in (last, last + 1)  # a commit may have been made and not acknowledged
            assert storage.records() == [(RECORD, there.to_bytes(8, "big"))]
            assert entries == {
                f"n{n:06}": [n] * (n % 700) for n in range(max(1, there - 49), there + 1)
            }
            home = files.find(0, storage._id.raw)
            if home is not None:
                numbers = [row[0] for row in storage.sql.exec("SELECT n FROM t ORDER BY n").raw()]
                assert numbers == [*range(max(31, there - 49), there + 1)]
                assert home._connection.execute("PRAGMA integrity_check").get == "ok"
            assert (home is not None) == (name in USE_SQL and there > 30)
            reached.append(there)
        there = min(reached)
        assert {record.id for record in file.objects("Room")} == {
            NamespaceKey("w-Room").from_name(name) for name in NAMES
        }
        assert file._connection.execute("PRAGMA integrity_check").get == "ok"
        file.close()
        files.close()
        clear_journals(memory_path)
        assert not [*path.parent.glob("*.journal")]
        last = there
