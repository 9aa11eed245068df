"""Group commit: what gathers goes together, in order, and each write is answered for itself."""

import asyncio
import sqlite3
import threading
from concurrent.futures import Future

import pytest

from runtime.kv import Entry, KVNamespace, Write, durable
from runtime.kv.write_lock import write_lock
from workers.errors import KVError


@pytest.fixture
def commits(store, monkeypatch):
    """The keys of each transaction made."""
    made = []
    commit = store._durable.commit

    def counted(writes, now):
        made.append([staged.key for staged in writes])
        commit(writes, now)

    monkeypatch.setattr(store._durable, "commit", counted)
    return made


async def test_writes_made_together_share_transactions(kv, commits):
    await asyncio.gather(*(kv.put(f"k{number}", "v") for number in range(500)))
    assert sum(map(len, commits)) == 500
    assert len(commits) <= 3


async def test_of_writes_to_one_key_the_last_stays_and_all_are_answered(kv, commits, directory):
    with write_lock(directory / "write.lock"):
        first = asyncio.ensure_future(kv.put("first", "v"))
        await asyncio.sleep(0)
        puts = [kv.put("k", str(number)) for number in range(50)]
        rest = asyncio.gather(*puts, kv.delete("l"), kv.put("l", "x"), kv.delete("k"))
        await asyncio.sleep(0)
    await asyncio.gather(first, rest)
    assert await kv.get("k") is None
    assert await kv.get("l") == "x"
    assert len(commits) <= 2


async def test_a_loop_that_ended_keeps_nobody_waiting(store, sync_kv):
    future = Future()
    loop = asyncio.new_event_loop()
    gone = loop.create_future()
    loop.close()
    store.submit(
        Write(b"k", Entry(b"v", None, None), future=gone, loop=loop),
        Write(b"l", None, future=future),
    )
    await asyncio.wrap_future(future)
    assert sync_kv.get("k") == "v"


async def test_a_cancelled_caller_hinders_nobody(kv, directory):
    with write_lock(directory / "write.lock"):
        task = asyncio.ensure_future(kv.put("k", "v"))
        await asyncio.sleep(0)
        task.cancel()
        other = asyncio.ensure_future(kv.put("l", "w"))
        await asyncio.sleep(0)
    await other
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kv.get("l") == "w"


async def test_close_waits_for_the_writes_under_way(open_, directory):
    store = open_()
    kv = KVNamespace(store)
    with write_lock(directory / "write.lock"):
        task = asyncio.ensure_future(kv.put("k", "v"))
        await asyncio.sleep(0)
        closer = threading.Thread(target=store.close)
        closer.start()
    await asyncio.to_thread(closer.join)
    await task
    assert await KVNamespace(open_()).get("k") == "v"


class Gate:
    """An output gate that is opened by hand."""

    def __init__(self):
        self.held = []

    def say(self, said):
        self.held.append(said)


async def test_a_write_in_an_objects_name_leaves_when_its_gate_lets_it_out(store, sync_kv, commits):
    gate = Gate()
    kv = KVNamespace(store, say=gate.say)
    first = asyncio.ensure_future(kv.put("k", "1"))
    second = asyncio.ensure_future(kv.put("k", "2"))
    await asyncio.sleep(0)
    store.drain()
    assert commits == []
    for said in gate.held:
        said.leave()
    await asyncio.gather(first, second)
    assert sync_kv.get("k") == "2"


async def test_a_write_whose_gate_breaks_is_never_made(store, sync_kv):
    gate = Gate()
    kv = KVNamespace(store, say=gate.say)
    lost = asyncio.ensure_future(kv.put("k", "1"))
    kept = asyncio.ensure_future(kv.put("l", "1"))
    await asyncio.sleep(0)
    gate.held[0].fail(RuntimeError("reset"))
    gate.held[1].leave()
    with pytest.raises(RuntimeError, match="reset"):
        await lost
    await kept
    assert [item.name for item in sync_kv.list()["keys"]] == ["l"]


async def test_a_write_whose_caller_is_gone_when_its_gate_opens_is_never_made(store, sync_kv):
    gate = Gate()
    put = asyncio.ensure_future(KVNamespace(store, say=gate.say).put("k", "1"))
    await asyncio.sleep(0)
    put.cancel()
    await asyncio.sleep(0)
    gate.held[0].leave()
    store.drain()
    assert sync_kv.get("k") is None


async def test_a_write_that_leaves_for_a_closed_store_fails(store):
    gate = Gate()
    put = asyncio.ensure_future(KVNamespace(store, say=gate.say).put("k", "1"))
    await asyncio.sleep(0)
    store.close()
    gate.held[0].leave()
    with pytest.raises(KVError, match="closed"):
        await put


async def test_plain_puts_are_one_statement_and_a_look_for_what_is_to_be_cleared_away(
    kv, monkeypatch
):
    await kv.put("k", "v")
    begun = []

    def sql(cache):
        def execute(statement, *values):
            begun.append(statement.split()[0])
            return cache._con.execute(statement, *values)

        return execute

    monkeypatch.setattr(durable._Cache, "_sql", property(sql))
    await kv.put("k", "w")
    assert begun == ["SELECT", "INSERT"]
    await kv.put("large", "x" * durable.FILE_BYTES)
    begun.clear()
    await kv.put("large", "small")  # replaces a file, which is removed
    assert begun[:2] == ["SELECT", "BEGIN"]


async def test_a_commit_that_fails_fails_its_writes_and_no_others(kv, store, monkeypatch):
    await kv.put("k", "old")
    broken = store._durable._cache
    monkeypatch.setattr(broken, "write", fail)
    with pytest.raises(KVError, match="KV PUT failed: disk I/O error") as refusal:
        await kv.put("k", "new")
    assert isinstance(refusal.value.__cause__, sqlite3.OperationalError)
    with monkeypatch.context() as patch:
        patch.setattr("runtime.kv.durable._Cache._finish", fail)
        with pytest.raises(KVError, match="KV DELETE failed: disk I/O error"):
            await kv.delete("k")
    assert await kv.get("k") == "old"
    await kv.put("k", "newer")
    assert await kv.get("k") == "newer"


def fail(*arguments):
    raise sqlite3.OperationalError("disk I/O error")
