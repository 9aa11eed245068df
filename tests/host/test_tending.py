"""What commands do to objects happens between two turns, and leaves no activation behind."""

import asyncio
import sqlite3

import pytest

from runtime.ids import slot_of
from runtime.storage import wal_file
from tests.stepping import settle, soon, until
from workers import DurableObject
from workers.errors import ObjectReset, StorageError


class Room(DurableObject):
    constructed = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        Room.constructed += 1

    async def put(self, value):
        await self.ctx.storage.put("value", value)

    async def get(self):
        return await self.ctx.storage.get("value")

    async def transfer(self):
        async def body(txn):
            self.ctx.storage.sql.exec("CREATE TABLE t(a)")
            await self.go_on.wait()
            self.ctx.storage.sql.exec("INSERT INTO t VALUES (1)")

        self.go_on = asyncio.Event()
        await self.ctx.storage.transaction(body)

    def finish(self):
        self.go_on.set()


@pytest.fixture
async def room(house):
    opened = await house(ROOMS=Room)
    opened.stub = opened.env.ROOMS.getByName("a")
    slot = slot_of(opened.stub.id.raw, opened.caller.slots)
    opened.tend = lambda verb, *more: opened.caller.tend(slot, verb, *more)
    Room.constructed = 0
    return opened


async def test_an_object_that_is_not_in_memory_stays_out_of_it(room, tmp_path):
    await room.stub.put(1)
    raw = room.stub.id.raw
    room.host.catalog.drop(room.activation(room.stub))
    assert (await soon(room.tend("show", raw))).live is False
    assert await soon(room.tend("copy", raw, str(tmp_path / "copy"))) is not None
    assert room.activation(room.stub) is None
    assert Room.constructed == 1


async def test_an_object_without_storage_is_none_and_lives_on(room, tmp_path):
    assert await room.stub.get() is None
    raw = room.stub.id.raw
    assert await soon(room.tend("show", raw)) is None
    assert await soon(room.tend("copy", raw, str(tmp_path / "copy"))) is None
    assert await soon(room.tend("delete", raw)) is False
    assert await room.stub.get() is None
    assert Room.constructed == 1


async def test_it_is_shown_when_what_it_wrote_is_durable(room, disk):
    disk.hold()
    writing = room.stub.put(1)
    await disk.held()
    showing = room.tend("show", room.stub.id.raw)
    await settle()
    assert not showing.done()
    disk.release()
    assert (await soon(showing)).facts.entries == 1
    await soon(writing)


async def test_a_copy_has_whole_transactions(room, tmp_path):
    transfer = room.stub.transfer()
    await settle()
    copying = room.tend("copy", room.stub.id.raw, str(tmp_path / "early"))
    assert await soon(copying) is None  # nothing is committed
    room.activation(room.stub).instance.finish()
    await soon(transfer)
    room.activation(room.stub).storage.sql.exec("INSERT INTO t VALUES (2)")
    await soon(room.tend("copy", room.stub.id.raw, str(tmp_path / "copy")))
    with sqlite3.connect(tmp_path / "copy") as copy:
        assert copy.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    copy.close()


async def test_a_deletion_waits_for_the_transaction_that_is_open(room):
    await room.stub.put(1)
    transfer = room.stub.transfer()
    await settle()
    deleting = room.tend("delete", room.stub.id.raw)
    await settle()
    assert not deleting.done()
    room.activation(room.stub).instance.finish()
    assert await soon(deleting) is True
    await soon(asyncio.wait([transfer]))
    assert await soon(room.stub.get()) is None


async def test_who_waits_for_a_deleted_object_is_told(room):
    await room.stub.put(1)
    room.activation(room.stub).instance.get = asyncio.Future
    waiting = room.stub.get()
    assert await soon(room.tend("delete", room.stub.id.raw)) is True
    with pytest.raises(ObjectReset, match="was deleted"):
        await soon(waiting)
    assert room.host.idle


async def test_a_backup_whose_command_is_gone_ends(room, tmp_path, monkeypatch):
    monkeypatch.setattr(wal_file, "COPY_PAGES", 1)
    await room.stub.put("x" * 100_000)
    transfer = room.stub.transfer()
    await settle()
    room.activation(room.stub).instance.finish()
    await soon(transfer)
    backup = room.tend("backup", str(tmp_path / "first"), True)
    await settle()
    assert not room.host.idle
    backup.cancel()
    await until(lambda: room.host.idle)
    assert await soon(room.tend("backup", str(tmp_path / "second"), True)) is True
    assert room.activation(room.stub).storage._home().resting
    with pytest.raises(StorageError, match="File exists"):  # nothing is written over
        await soon(room.tend("backup", str(tmp_path / "second"), True))


async def test_a_leaving_host_ends_its_backup_first(room, tmp_path, monkeypatch):
    monkeypatch.setattr(wal_file, "COPY_PAGES", 1)
    await room.stub.put("x" * 100_000)
    backup = room.tend("backup", str(tmp_path / "first"), True)
    await settle()
    room.host.leaving = True
    assert not room.host.idle
    assert await soon(backup) is True
    assert room.host.idle
