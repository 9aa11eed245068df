"""Transactions: kept whole or undone whole, entries, alarm and SQL together."""

import asyncio
from contextvars import ContextVar

import pytest

from workers.errors import ObjectReset


class BoomError(Exception):
    pass


@pytest.fixture
def inside():
    """Whether the running code is within a section."""
    return ContextVar("inside", default=False)


@pytest.fixture
def alone(inside):
    """Run one section after the other, but the inner ones at once, as the host does."""
    lock = asyncio.Lock()

    async def in_turn(body):
        async with lock:
            inside.set(True)
            return await body()

    return lambda body: asyncio.ensure_future(body() if inside.get() else in_turn(body))


@pytest.fixture
def make_room(open_file, open_storage, object_files, alone, inside):
    """Make the storage of an object that may use transactions."""

    def make(on_write):
        return open_storage(
            open_file(durability="relaxed"),
            files=object_files,
            alone=alone,
            depth=lambda: int(inside.get()),
            on_write=on_write,
        )

    return make


@pytest.fixture
def room(make_room, commit):
    """Such a storage whose writes are committed after each turn, as the host does it."""
    storage = make_room(lambda: asyncio.get_running_loop().call_soon(commit, storage))
    return storage


def table(storage):
    return [row[0] for row in storage.sql.exec("SELECT x FROM t ORDER BY x").raw()]


async def test_a_closure_that_returns_keeps_its_writes_and_one_that_raises_leaves_none(
    room, commit
):
    storage = room
    await storage.put({"a": 1, "b": 2})
    storage.sql.exec("CREATE TABLE t(x)")
    commit(storage)

    async def write(txn):
        await txn.put("a", "new")
        await storage.put("c", 3)
        assert await txn.delete("b") is True
        await txn.setAlarm(1 << 50)
        storage.sql.exec("INSERT INTO t VALUES (1)")
        assert await txn.list() == {"a": "new", "c": 3}
        return "result"

    async def fail(txn):
        await write(txn)
        raise BoomError

    with pytest.raises(BoomError):
        await storage.transaction(fail)
    assert await storage.list() == {"a": 1, "b": 2}
    assert await storage.getAlarm() is None
    assert table(storage) == []
    assert await storage.transaction(write) == "result"
    assert await storage.list() == {"a": "new", "c": 3}
    assert await storage.getAlarm() == 1 << 50
    assert table(storage) == [1]


async def test_txn_rollback_undoes_and_ends_the_transaction(room):
    storage = room

    async def closure(txn):
        await txn.put("a", 1)
        txn.rollback()
        assert await storage.get("a") is None
        with pytest.raises(RuntimeError, match=r"Cannot get\(\) on rolled back transaction"):
            await txn.get("a")
        await storage.put("after", 1)
        return txn

    txn = await storage.transaction(closure)
    assert await storage.list() == {"after": 1}
    with pytest.raises(RuntimeError, match=r"Cannot call put\(\) on transaction that has already"):
        await txn.put("a", 1)
    with pytest.raises(AttributeError, match="a transaction has no sql"):
        txn.sql  # noqa: B018


async def test_transactions_nest_and_each_is_undone_alone(room):
    storage = room
    storage.sql.exec("CREATE TABLE t(x)")

    async def inner(txn):
        await txn.put("inner", 1)
        storage.sql.exec("INSERT INTO t VALUES (2)")
        raise BoomError

    async def outer(txn):
        await txn.put("outer", 1)
        storage.sql.exec("INSERT INTO t VALUES (1)")
        with pytest.raises(BoomError):
            await storage.transaction(inner)
        assert await txn.list() == {"outer": 1}
        assert table(storage) == [1]

        def deeper():
            storage.kv.put("deeper", 1)
            storage.sql.exec("INSERT INTO t VALUES (3)")

        storage.transactionSync(deeper)

    await storage.transaction(outer)
    assert await storage.list() == {"deeper": 1, "outer": 1}
    assert table(storage) == [1, 3]


@pytest.mark.parametrize("fails", ["inner", "outer"])
async def test_one_that_nobody_awaits_ends_before_the_one_around_it(room, fails):
    storage, begun, nested = room, asyncio.Event(), []

    async def inner(txn):
        await txn.put("inner", 1)
        begun.set()
        for _ in range(5):
            await asyncio.sleep(0)
        if fails == "inner":
            raise BoomError

    async def outer(txn):
        await txn.put("outer", 1)
        nested.append(storage.transaction(inner))
        await begun.wait()
        if fails == "outer":
            raise BoomError

    results = [(await asyncio.gather(storage.transaction(outer), return_exceptions=True))[0]]
    kept = await storage.list()
    results += await asyncio.gather(*nested, return_exceptions=True)
    assert kept == await storage.list() == ({} if fails == "outer" else {"outer": 1})
    assert [type(result) for result in results] == (
        [BoomError, type(None)] if fails == "outer" else [type(None), BoomError]
    )


async def test_an_outer_one_is_not_rolled_back_from_within_another(room):
    storage = room

    async def outer(txn):
        async def inner(_):
            txn.rollback()

        await txn.put("outer", 1)
        with pytest.raises(RuntimeError, match="while a nested transaction is still running"):
            await storage.transaction(inner)
        with pytest.raises(RuntimeError, match="while a nested transaction is still running"):
            storage.transactionSync(txn.rollback)
        assert await txn.list() == {"outer": 1}
        txn.rollback()

    await storage.transaction(outer)
    assert await storage.list() == {}


def test_a_synchronous_transaction_is_undone_to_its_beginning_and_nests(sqlite):
    sqlite.kv.put("a", 1)
    sqlite.sql.exec("CREATE TABLE t(x)")

    def inner():
        sqlite.kv.put("a", 3)
        sqlite.kv.delete("b")
        sqlite.sql.exec("INSERT INTO t VALUES (2)")
        raise BoomError

    def outer(*, fail):
        sqlite.kv.put("a", 2)
        sqlite.kv.put("b", 2)
        sqlite.sql.exec("INSERT INTO t VALUES (1)")
        with pytest.raises(BoomError):
            sqlite.transactionSync(inner)
        assert (sqlite.kv.get("a"), sqlite.kv.get("b"), table(sqlite)) == (2, 2, [1])
        if fail:
            raise BoomError
        return 7

    with pytest.raises(BoomError):
        sqlite.transaction_sync(lambda: outer(fail=True))
    assert (sqlite.kv.get("a"), sqlite.kv.get("b"), table(sqlite)) == (1, None, [])
    assert sqlite.transactionSync(lambda: outer(fail=False)) == 7
    assert (sqlite.kv.get("a"), sqlite.kv.get("b"), table(sqlite)) == (2, 2, [1])


async def test_the_first_sql_of_an_object_may_stand_in_a_transaction_that_fails(
    room, commit, open_storage, object_files
):
    storage = room
    await storage.put("k", 1)
    commit(storage)

    async def closure(txn):
        await txn.put("k", 2)
        storage.sql.exec("CREATE TABLE t(x)")
        raise BoomError

    with pytest.raises(BoomError):
        await storage.transaction(closure)
    assert await storage.get("k") == 1
    assert storage.sql.exec("SELECT name FROM sqlite_schema WHERE name = 't'").toArray() == []
    commit(storage)
    again = open_storage(storage.file, files=object_files)
    assert await again.list() == {"k": 1}


async def test_no_commit_has_a_part_of_an_open_transaction(
    make_room, commit, open_storage, object_files
):
    heard = []
    storage = make_room(lambda: heard.append(1))
    await storage.put("before", 1)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def closure(txn):
        began.set()
        await txn.put("a", 1)
        await go_on.wait()
        await txn.put("b", 1)

    running = storage.transaction(closure)
    await asyncio.sleep(0)
    assert not began.is_set()  # what was written before is still to be taken
    commit(storage)
    await began.wait()
    assert heard == [1]
    go_on.set()
    await running
    assert heard == [1, 1]
    assert await open_storage(storage.file, files=object_files).list() == {"before": 1}
    commit(storage)
    assert await open_storage(storage.file, files=object_files).list() == {
        "a": 1,
        "b": 1,
        "before": 1,
    }


async def test_transactions_of_one_object_run_one_after_the_other(room):
    storage = room
    order = []

    async def closure(name):
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        await storage.put("last", name)
        order.append(f"{name} ends")
        if name == "b":
            raise BoomError

    results = await asyncio.gather(
        *(storage.transaction(lambda _, name=name: closure(name)) for name in "abc"),
        return_exceptions=True,
    )
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert [type(result) for result in results] == [type(None), BoomError, type(None)]
    assert await storage.get("last") == "c"


async def test_a_closure_need_not_be_asynchronous(room):
    assert await room.transaction(lambda txn: txn.put("a", 1) and 5) == 5
    with pytest.raises(ZeroDivisionError):
        await room.transaction(lambda txn: txn.put("a", 2) and 1 / 0)
    assert await room.transaction(lambda txn: txn.get("a")) == 1


async def test_an_alarm_that_ends_beside_a_transaction_is_not_undone_with_it(room, commit):
    await room.setAlarm(1)
    commit(room)
    due = room.alarm()
    assert room.ring(due)

    opened, told = asyncio.Event(), asyncio.Event()

    async def closure(txn):
        opened.set()
        await told.wait()
        raise BoomError

    transaction = asyncio.ensure_future(room.transaction(closure))
    await opened.wait()
    room.rang(due, None)  # as the engine tells it, which is in no section
    told.set()
    with pytest.raises(BoomError):
        await transaction
    assert await room.transaction(lambda txn: txn.getAlarm()) is None
    assert room.ring(due) is False


async def test_delete_all_is_refused_within_a_transaction(room):
    storage = room

    async def closure(txn):
        with pytest.raises(RuntimeError, match=r"Cannot call deleteAll\(\) within a transaction"):
            await storage.deleteAll()
        with pytest.raises(RuntimeError, match=r"Cannot call deleteAll\(\) within a transaction"):
            txn.deleteAll()

    await storage.transaction(closure)
    with pytest.raises(RuntimeError, match="within a transaction"):
        storage.transactionSync(storage.deleteAll)


async def test_an_object_that_is_reset_in_a_transaction_ends_it(make_room):
    heard = []
    storage = make_room(lambda: heard.append(1))

    async def closure(txn):
        await txn.put("a", 1)
        storage.failed()
        await txn.put("b", 1)

    with pytest.raises(ObjectReset):
        await storage.transaction(closure)
    assert heard == []
    assert storage.take_changes() is None


async def test_a_listing_goes_on_after_a_rollback_and_a_cursor_does_not(sqlite):
    sqlite.sql.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)")
    before = sqlite.sql.exec("SELECT x FROM t ORDER BY x")
    assert next(before).x == 1

    def closure():
        sqlite.sql.exec("INSERT INTO t VALUES (3)")
        raise BoomError

    with pytest.raises(BoomError):
        sqlite.transactionSync(closure)
    with pytest.raises(Exception, match="its transaction was rolled back"):
        next(before)
    assert table(sqlite) == [1, 2]
