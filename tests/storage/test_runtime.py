"""Storage as objects meet it in a running instance: gates, transactions, alarms, restarts."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import pytest

from runtime import AsyncRuntime
from workers import DurableObject
from workers.errors import HostLost, ObjectReset, SqlError


class Ledger(DurableObject):
    """An object of a SQLite class that does what it is told."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.rang = asyncio.Event()
        self.infos = []
        self.again = 0
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS entries(amount)")

    async def add(self, amount):
        self.ctx.storage.sql.exec("INSERT INTO entries VALUES (?)", amount)
        total = (await self.ctx.storage.get("total") or 0) + amount
        self.ctx.storage.put("total", total)  # like the original, also without an await
        return total

    def rows(self):
        return self.ctx.storage.sql.exec("SELECT amount FROM entries ORDER BY rowid").toArray()

    async def total(self):
        return await self.ctx.storage.get("total")

    async def transfer(self, amount, *, fail):
        async def body(txn):
            await self.add(amount)
            await asyncio.sleep(0)
            if fail:
                raise ValueError("not enough")

        await self.ctx.storage.transaction(body)

    async def transfer_over(self, other):
        """Call another object inside a transaction that has written."""

        async def body(txn):
            await self.add(1)
            return await self.env.LEDGERS.getByName(other).add(5)

        return await self.ctx.storage.transaction(body)

    async def beside(self, *, fail):
        """Use storage in a Task that is no part of the transaction which is open meanwhile."""
        storage = self.ctx.storage
        opened, used = asyncio.Event(), asyncio.Event()

        async def body(txn):
            await txn.put("total", 100)
            await asyncio.gather(txn.put("one", 1), self.add(1))  # these are part of it
            opened.set()
            await used.wait()
            if fail:
                raise ValueError("not enough")

        async def other():
            await opened.wait()
            refused = []
            for use in (
                lambda: storage.kv.get("total"),
                lambda: storage.kv.put("total", 0),
                lambda: storage.kv.delete("total"),
                storage.kv.list,
                lambda: storage.sql.exec("SELECT 1"),
                lambda: storage.transactionSync(lambda: None),
            ):
                try:
                    use()
                except RuntimeError as error:
                    refused.append(str(error))
            value = [5]
            waiting = [
                storage.get("total"),
                storage.put("total", value),
                storage.list(),
                storage.delete("total"),
                storage.setAlarm(1 << 50),
                storage.getAlarm(),
                storage.deleteAlarm(),
                anext(storage.entries(), None),
                storage.getCurrentBookmark(),
                storage.deleteAll(),
            ]
            value.append(6)
            storage.put("last", 1)  # not awaited
            used.set()
            results = [await each for each in waiting]
            return refused, results, await storage.list()

        task = asyncio.create_task(other())
        with suppress(ValueError):
            await storage.transaction(body)
        return await task

    def broken(self):
        self.ctx.storage.sql.exec("INSERT INTO entries VALUES (1)")
        self.ctx.storage.sql.exec("SELECT * FROM nowhere")

    async def add_and_abort(self):
        await self.add(1000)
        self.ctx.abort("enough")

    async def fail(self, txn):
        await txn.put("total", -2)
        self.infos.append("fails")
        if self.infos.count("fails") > 1:
            txn.rollback()
            return
        raise ValueError("not yet")

    async def alarm_in(self, milliseconds, *, again=0, **what):
        self.again = again
        await self.ctx.storage.put(what)
        await self.ctx.storage.setAlarm(time.time() * 1000 + milliseconds)

    async def alarm(self, info):
        self.infos.append((info.retryCount, info.isRetry))
        assert time.time() * 1000 >= info.scheduledTime
        await self.add(100)
        if len(self.infos) <= self.again:
            await self.ctx.storage.setAlarm(1)
            return
        if await self.ctx.storage.get("die"):
            await self.ctx.storage.delete("die")
            await self.ctx.storage.sync()
            os.kill(os.getpid(), signal.SIGKILL)
        if await self.ctx.storage.get("fail"):
            await self.ctx.storage.put("total", -1)
            await self.ctx.storage.transaction(self.fail)
        if await self.ctx.storage.get("tell"):
            await self.env.PLAIN.getByName("log").count()
        self.rang.set()

    async def wait(self):
        await self.rang.wait()
        return self.infos, await self.ctx.storage.getAlarm()

    async def back_after_clearing(self):
        """Return what is said of a bookmark from before a deleteAll(); go back to one from after it."""
        storage = self.ctx.storage
        before = await storage.getCurrentBookmark()
        await storage.put("total", 1)
        await storage.deleteAll()
        try:
            await storage.onNextSessionRestoreBookmark(before)
        except ValueError as error:
            refused = str(error)
        after = await storage.getCurrentBookmark()
        await storage.put("total", 2)
        await storage.onNextSessionRestoreBookmark(after)
        return refused

    def abort(self):
        self.ctx.abort()

    async def clear(self):
        await self.ctx.storage.deleteAll()


class Plain(DurableObject):
    """An object of a class without SQL, and without alarm()."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.counted = asyncio.Event()

    def sql(self):
        return self.ctx.storage.sql

    async def set_alarm(self):
        await self.ctx.storage.setAlarm(1)

    async def count(self):
        number = (await self.ctx.storage.get("n") or 0) + 1
        await self.ctx.storage.put("n", number)
        self.counted.set()
        return number

    async def wait_for(self, number):
        while (await self.ctx.storage.get("n") or 0) < number:
            self.counted.clear()
            await self.counted.wait()


@pytest.fixture
def start(tmp_path):
    """Start an instance on the test's data directory."""

    def start_(**settings):
        return AsyncRuntime(
            objects={"LEDGERS": Ledger, "PLAIN": Plain},
            kv_classes=["Plain"],
            data_dir=tmp_path / "data",
            hosts=2,
            **settings,
        )

    return start_


async def test_sql_and_entries_commit_with_the_turn_and_survive_a_restart(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        assert await asyncio.gather(*(ledger.add(n) for n in range(1, 6))) == [1, 3, 6, 10, 15]
        with pytest.raises(SqlError, match="no such table"):
            await ledger.broken()
        with pytest.raises(ObjectReset, match="enough"):
            await ledger.add_and_abort()
        assert await ledger.total() == 15
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        assert [row.amount for row in await ledger.rows()] == [1, 2, 3, 4, 5, 1]
        assert await ledger.total() == 15
        await ledger.clear()
        assert await ledger.total() is None


async def test_a_transaction_that_fails_goes_to_its_caller_and_resets_nothing(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await ledger.add(1)
        calls = [ledger.transfer(n, fail=n % 2 == 1) for n in range(10, 20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), ValueError] * 5
        assert await ledger.total() == 1 + 10 + 12 + 14 + 16 + 18
        assert len(await ledger.rows()) == 6


async def test_a_transaction_may_call_another_object_before_it_is_committed(start):
    async with start() as rt:
        assert await rt.env.LEDGERS.getByName("a").transfer_over("b") == 5
        assert await rt.env.LEDGERS.getByName("a").total() == 1


@pytest.mark.parametrize("fail", [False, True])
async def test_what_is_not_part_of_a_transaction_waits_for_its_end(start, fail):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        refused, results, left = await ledger.beside(fail=fail)
        assert len(refused) == 6
        assert all("this Task is not part of it" in text for text in refused)
        before = {} if fail else {"one": 1}
        assert results[:3] == [None if fail else 101, None, {**before, "total": [5]}]
        assert results[3:7] == [True, None, 1 << 50, None]
        assert left == {"last": 1}
        assert await ledger.total() is None


async def test_a_hundred_transactions_may_be_called_at_once(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await asyncio.gather(*(ledger.transfer(1, fail=False) for _ in range(100)))
        assert await ledger.total() == 100


async def test_a_history_ends_with_delete_all_and_begins_anew(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        assert "of a time before all of it was deleted" in await ledger.back_after_clearing()
        assert await ledger.total() == 2
        with pytest.raises(ObjectReset):
            await ledger.abort()
        assert await ledger.total() is None


async def test_a_class_without_sql_or_alarm_is_told_so(start):
    async with start() as rt:
        plain = rt.env.PLAIN.getByName("a")
        with pytest.raises(SqlError, match="new_sqlite_classes"):
            await plain.sql()
        with pytest.raises(TypeError, match=r"must have an alarm\(\) handler"):
            await plain.set_alarm()


async def test_an_alarm_rings_at_its_time_and_what_it_writes_is_kept(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await ledger.alarm_in(20)
        assert await ledger.wait() == ([(0, False)], None)
        assert await ledger.total() == 100


async def test_an_alarm_may_set_the_next_one(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await ledger.alarm_in(1, again=5)
        assert await ledger.wait() == ([(0, False)] * 6, None)


async def test_alarms_ring_after_a_restart_though_nobody_calls_their_objects(start):
    async with start() as rt:
        for name in "abcd":
            await rt.env.LEDGERS.getByName(name).alarm_in(300, tell=True)
    async with start() as rt:
        await rt.env.PLAIN.getByName("log").wait_for(4)
        for name in "abcd":
            assert await rt.env.LEDGERS.getByName(name).total() == 100


async def test_an_alarm_that_fails_rings_again(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await ledger.alarm_in(1, fail=True)
        assert await ledger.wait() == ([(0, False), "fails", (1, True), "fails"], None)
        assert await ledger.total() == -1


async def test_an_alarm_that_rang_when_its_host_died_rings_again(start):
    async with start() as rt:
        ledger = rt.env.LEDGERS.getByName("a")
        await ledger.alarm_in(1, die=True)
        with suppress(HostLost):
            await ledger.wait()
        assert await ledger.wait() == ([(0, False)], None)
        assert await ledger.total() == 200
