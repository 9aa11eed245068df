"""The rival of the storage benchmark: SQLite through apsw by hand, one process, one connection.

Each "call" reads a number, adds and writes it back, in the transaction that it shares with so many
others; `synchronous=FULL` for strict, so that each commit waits for the disk.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def database(*, strict: bool) -> Iterator[apsw.Connection]:
    """Open a database in a folder of its own, with a table of totals."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(apsw.Connection(str(Path(folder, "raw.sqlite")))) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA synchronous = {'FULL' if strict else 'NORMAL'}").fetchall()
        connection.execute("CREATE TABLE totals(id INTEGER PRIMARY KEY, total INTEGER)").fetchall()
        yield connection


def increments(
    connection: apsw.Connection, calls: int, *, objects: int, in_transaction: int
) -> float:
    """Return the rate of calls, each for the next object."""
    began = time.perf_counter()
    for first in range(0, calls, in_transaction):
        connection.execute("BEGIN IMMEDIATE")
        for call in range(first, min(calls, first + in_transaction)):
            number = call % objects
            total = connection.execute("SELECT total FROM totals WHERE id = ?", (number,)).get
            connection.execute(
                "INSERT OR REPLACE INTO totals VALUES (?, ?)", (number, (total or 0) + 1)
            )
        connection.execute("COMMIT")
    return calls / (time.perf_counter() - began)


def opening(calls: int) -> list[float]:
    """Return how long it takes, in microseconds each, to open a database and read a value."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{number}.sqlite")) for number in range(calls)]
        for path in paths:
            with closing(apsw.Connection(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("CREATE TABLE t(k PRIMARY KEY, v)").fetchall()
                connection.execute("INSERT INTO t VALUES ('total', 1)").fetchall()
        taken = []
        for path in paths:
            began = time.perf_counter_ns()
            with closing(apsw.Connection(path)) as connection:
                assert connection.execute("SELECT v FROM t WHERE k = 'total'").get == 1
                taken.append((time.perf_counter_ns() - began) / 1e3)
    return taken
