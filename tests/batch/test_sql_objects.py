"""Maps over objects that use SQL: each item is applied once, wherever its host is killed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runtime import Runtime
from runtime.storage.object_file import ObjectFile
from workers import DurableObject

BEFORE, AFTER = "commit", "sync"
"""What of an object's own file kills the host: before it has the turn's writes, and after."""


def die_once(point, marker):
    """Have this process killed at the next call of a method of ObjectFile, but once in all."""

    def die(*_):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if not Path(marker).exists():
        setattr(ObjectFile, point, die)


class Till(DurableObject):
    """Keeps what it was given as entries, and from its fourth item on in a table too."""

    async def take(self, item):
        number, point, marker = item
        storage = self.ctx.storage
        taken = [*(await storage.get("taken") or []), number]
        await storage.put("taken", taken)
        if len(taken) > 3:
            storage.sql.exec("CREATE TABLE IF NOT EXISTS later(number)")
            storage.sql.exec("INSERT INTO later VALUES (?)", number)
        if point:
            die_once(point, marker)
        return number

    async def take_by_sql(self, number):
        storage = self.ctx.storage
        storage.sql.exec("CREATE TABLE IF NOT EXISTS later(number)")
        storage.sql.exec("INSERT INTO later VALUES (?)", number)
        return storage.sql.exec("SELECT count(*) AS n FROM later").one().n

    def take_or_undo(self, number):
        storage = self.ctx.storage
        storage.sql.exec("CREATE TABLE IF NOT EXISTS later(number)")

        def both():
            storage.sql.exec("INSERT INTO later VALUES (?)", number)
            if number % 2:
                raise ValueError("odd")

        try:
            storage.transactionSync(both)
        except ValueError:
            return "undone"
        return "taken"

    async def outlive(self, number):
        """Go on before a transaction has ended, if the gate let it; the transaction is undone."""

        async def body(txn):
            waiting.cancel()
            await txn.put("taken", [-1])
            for _ in range(10):
                await asyncio.sleep(0)
            raise ValueError("undone")

        waiting = self.ctx.storage.transaction(body)
        try:
            await waiting
        except asyncio.CancelledError:
            taken = await self.ctx.storage.get("taken") or []
            await self.ctx.storage.put("taken", [*taken, number])
            return "went on"

    async def empty(self, _):
        await self.ctx.storage.deleteAll()
        return "empty"

    async def taken(self):
        return await self.ctx.storage.get("taken")

    def later(self):
        return [n for (n,) in self.ctx.storage.sql.exec("SELECT * FROM later").raw()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with Runtime(objects={"TILLS": Till}, data_dir=data, hosts=2, log_level="critical") as rt:
        yield rt


@pytest.fixture(scope="module")
def tills(run):
    return run.env.TILLS


@pytest.mark.parametrize("deadly", [3, 4, 11])  # the one that moves the entries, and later ones
@pytest.mark.parametrize("point", [BEFORE, AFTER])
def test_an_item_is_applied_once_when_its_host_dies_around_its_commit(
    tills, tmp_path, point, deadly
):
    name, marker = f"{point} {deadly}", tmp_path / "died"
    items = [(n, point if n == deadly else None, str(marker)) for n in range(20)]
    results = tills.map(
        "take", items, key=lambda _: name, item_id=lambda item: f"id {item[0]}", retries=20
    )
    assert list(results) == [(name, n) for n in range(20)]
    assert marker.exists()
    till = tills.getByName(name)
    assert till.taken() == [*range(20)]
    assert till.later() == [*range(3, 20)]
    assert till.take.once("id 3", items[3]) == 3
    assert till.taken() == [*range(20)]


def test_what_was_written_with_sql_alone_is_noted(tills, run, kill):
    till = tills.getByName("sql alone")
    assert till.take_by_sql.once("a", 1) == 1
    assert till.take_by_sql.once("b", 2) == 2
    for host in range(2):
        kill(run, host)
    again = tills.map("take_by_sql", [1, 2], key=lambda _: "sql alone", item_id="?ab".__getitem__)
    assert list(again) == [("sql alone", 1), ("sql alone", 2)]
    assert till.later() == [1, 2]


def test_a_transaction_that_is_undone_within_an_item_undoes_no_note(tills):
    till = tills.getByName("undone")
    for _ in range(2):
        results = tills.map("take_or_undo", range(4), key=lambda _: "undone", item_id=str)
        assert [result for _, result in results] == ["taken", "undone", "taken", "undone"]
    assert till.later() == [0, 2]


def test_no_note_is_written_while_a_transaction_is_open(tills):
    till = tills.getByName("outlived")
    for _ in range(2):
        results = tills.map("outlive", range(3), key=lambda _: "outlived", item_id=str)
        assert [result for _, result in results] == ["went on"] * 3
    assert till.taken() == [0, 1, 2]


@pytest.mark.parametrize("method", ["take", "take_by_sql"])
def test_notes_outlive_delete_all(tills, run, kill, method):
    """Of an object whose entries are in the slot file, and of one with a file of its own."""
    item = (7, None, "") if method == "take" else 7
    till = tills.getByName(f"emptied {method}")
    first = getattr(till, method).once("taken", item)
    assert till.empty.once("emptied", 0) == "empty"
    for host in range(2):
        kill(run, host)
    again = tills.map(method, [item], key=lambda _: f"emptied {method}", item_id=lambda _: "taken")
    assert [result for _, result in again] == [first]
    assert till.taken() is None
    getattr(till, method)(item)
    assert till.empty.once("emptied", 0) == "empty"
    assert (till.taken() == [7]) if method == "take" else (till.later() == [7])
