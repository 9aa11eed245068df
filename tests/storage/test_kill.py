"""What was acknowledged survives SIGKILL at any moment; what is there is whole transactions."""

import os
import random
import signal

import pytest

from runtime.ids import NamespaceKey
from runtime.storage import CommitGroup, SlotFile

NAMES = ("a", "b", "c")
ROUNDS = 20


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


def write_for_ever(path, open_storage, acks):
    """Write number after number to all objects in one transaction; say each when it is durable."""
    file = SlotFile(path)
    file._connection.execute(
        "PRAGMA wal_autocheckpoint = 50"
    ).fetchall()  # kills meet checkpoints too
    group = CommitGroup()
    storages = [open_storage(file, name) for name in NAMES]
    number = run(storages[0].get("last")) or 0
    while True:
        number += 1
        for storage in storages:
            run(storage.put({"last": number, f"n{number:06}": [number] * (number % 700)}))
            run(storage.delete(f"n{number - 50:06}"))
            group.mark(storage)
        round_ = group.start_round()
        round_.sync()
        assert group.end_round(round_) == {}
        os.write(acks, number.to_bytes(8, "big"))


def test_every_acknowledged_write_is_there_after_a_kill(tmp_path, open_storage):
    path, chance, last = tmp_path / "0.sqlite", random.Random(7), 0
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
        states = [run(open_storage(file, name).list()) for name in NAMES]
        assert states[0] == states[1] == states[2]
        there = states[0].pop("last")
        assert there in (last, last + 1)  # a commit may have been made and not yet acknowledged
        assert states[0] == {
            f"n{n:06}": [n] * (n % 700) for n in range(max(1, there - 49), there + 1)
        }
        assert {record.id for record in file.objects("Room")} == {
            NamespaceKey("w-Room").from_name(name) for name in NAMES
        }
        assert file._connection.execute("PRAGMA integrity_check").get == "ok"
        file.close()
        last = there
