"""One slot's file: the entries of the slot's objects, their alarms, and the register of objects.

All objects of a slot commit in one transaction, and one disk sync serves them all. Objects that
use SQL have files of their own for their entries; their alarms and their place in the register are
here all the same, so that one look tells which objects there are and which alarm is next.

The file has one owner, the host (a lock file); wal_file tells how it is made durable. Puts and deletes
may go to the host's journal before: what the file lacks is *ahead*, in memory, until it catches up.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from runtime.ids import ObjectId
from runtime.storage.ahead import Ahead
from runtime.storage.alarm import Alarm
from runtime.storage.journal import forget, rows_after
from runtime.storage.large import APART, LARGE_BYTES
from runtime.storage.slot_writes import PUT_LARGE, changing, registering, statements_of
from runtime.storage.wal_file import WalFile
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path
    from typing import Any, Literal

    from runtime.storage.journal import Journal, Rows
    from runtime.storage.write_set import Change

__all__ = ["DueAlarm", "ObjectRecord", "SlotFile"]

MOST_KNOWN: Final = 10_000
"""Ids that are kept in mind of a new file, 1 MB of them."""

CHECKPOINT_PAGES: Final = 4000
"""The log is checkpointed when it has so many pages (of 4 KiB), so that it stays near 16 MiB.

A checkpoint runs on the loop, within a commit, and takes 5 to 15 ms on a local SSD; in between lie
16 MiB of log, thousands of small commits. With SQLite's 1,000 pages it takes less, but comes four
times as often and in total costs 25 % more, because pages that change often are copied more often.
"""

_MIGRATIONS: Final = (
    """
CREATE TABLE entries(
    object_id BLOB NOT NULL,
    key BLOB NOT NULL,  -- UTF-8: compared by bytes, which is the order of list()
    value BLOB NOT NULL,
    PRIMARY KEY(object_id, key)
) WITHOUT ROWID;
CREATE TABLE objects(
    object_id BLOB PRIMARY KEY NOT NULL,
    class_name TEXT NOT NULL,
    name TEXT,
    created REAL NOT NULL  -- seconds since 1970
) WITHOUT ROWID;
""",
    """
CREATE TABLE alarms(
    object_id BLOB PRIMARY KEY NOT NULL,
    scheduled INTEGER NOT NULL,  -- milliseconds since 1970, as are the others
    due INTEGER NOT NULL,
    retries INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX alarms_by_time ON alarms(due, object_id);
""",
    """
CREATE TABLE journals(
    name TEXT PRIMARY KEY NOT NULL,  -- of the file
    id INTEGER NOT NULL,
    number INTEGER NOT NULL  -- how many of its records need not be brought in
) WITHOUT ROWID;
""",
    f"""
CREATE TABLE large(
    object_id BLOB NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,  -- of an entry that has none
    PRIMARY KEY(object_id, key)
);
INSERT INTO large SELECT * FROM entries WHERE length(value) > {LARGE_BYTES};
UPDATE entries SET value = x'' WHERE length(value) > {LARGE_BYTES};
""",  # noqa: S608
    # Who reads no new objects in a journal must not open the file, nor take the journal for brought in.
    "SELECT NULL;",
)

_READ: Final = "SELECT value FROM entries WHERE object_id = ? AND key = ?"
_READ_LARGE: Final = "SELECT value FROM large WHERE object_id = ? AND key = ?"
_HAS_LARGE: Final = "SELECT EXISTS(SELECT 1 FROM large)"
_CONTAINS: Final = "SELECT 1 FROM entries WHERE object_id = ? AND key = ?"
_RECORDS: Final = "SELECT key, value FROM entries WHERE object_id = ? AND key >= x'ff' ORDER BY key"
_SCAN: Final = (
    "SELECT key, value FROM entries WHERE object_id = ? AND key >= ? AND key < ? ORDER BY key {} "
    "LIMIT ?"
)
_SCAN_UP: Final = _SCAN.format("ASC")
_SCAN_DOWN: Final = _SCAN.format("DESC")
_ALARM: Final = "SELECT scheduled, due, retries FROM alarms WHERE object_id = ?"
_NEXT_ALARMS: Final = (
    "SELECT due, object_id FROM alarms WHERE (due, object_id) > (?, ?) ORDER BY 1, 2 LIMIT ?"
)
_RECORD: Final = "SELECT class_name, name, created FROM objects WHERE object_id = ?"
_MEASURE: Final = (
    "SELECT count(*), ifnull(sum(length(key) + length(value)), 0) FROM entries "
    "WHERE object_id = ? AND key < x'ff'"
)
_MEASURE_LARGE: Final = (
    "SELECT ifnull(sum(length(value)), 0) FROM large WHERE object_id = ? AND key < x'ff'"
)
_MARK: Final = (
    "INSERT INTO journals VALUES(?, ?, ?) "
    "ON CONFLICT(name) DO UPDATE SET id = excluded.id, number = excluded.number"
)
_UNMARK: Final = "DELETE FROM journals WHERE name <> ?"
_COPY: Final = (
    ("objects", "INSERT INTO objects VALUES(?, ?, ?, ?)"),
    ("alarms", "INSERT INTO alarms VALUES(?, ?, ?, ?)"),
    ("entries", "INSERT INTO entries VALUES(?, ?, ?)"),
    ("large", "INSERT INTO large VALUES(?, ?, ?)"),
)
_RENAME: Final = "UPDATE objects SET class_name = ? WHERE object_id = ?"
# Entries are skipped through from object to object: a scan would read every key.
_OWNERS: Final = """
WITH RECURSIVE owners(id) AS (
    SELECT min(object_id) FROM entries
    UNION ALL
    SELECT (SELECT min(object_id) FROM entries WHERE object_id > id) FROM owners WHERE id NOTNULL
)
SELECT id FROM owners WHERE id NOTNULL
UNION SELECT object_id FROM objects UNION SELECT object_id FROM alarms ORDER BY 1
"""
_DUE_ALARM: Final = (
    "SELECT class_name, name, scheduled, due, retries FROM alarms JOIN objects USING(object_id) "
    "WHERE object_id = ?"
)


class ObjectRecord(NamedTuple):
    """An object that has stored something."""

    id: ObjectId
    class_name: str
    name: str | None
    """The name that the id was made from, where it is known."""
    created: float
    """When its first commit was, in seconds since 1970."""


class DueAlarm(NamedTuple):
    """An alarm and whose it is."""

    class_name: str
    name: str | None
    alarm: Alarm


class SlotFile(WalFile):
    """See the module's text. Every method raises StorageError, with SQLite's error as its cause."""

    KIND = "slot file"
    MIGRATIONS = _MIGRATIONS
    CHECKPOINT_PAGES = CHECKPOINT_PAGES

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["strict", "relaxed"] = "strict",
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
        fdatasync: Callable[[int], None] = os.fdatasync,
        vfs: str | None = None,
    ) -> None:
        """Open the file of a slot, and make it if there is none (mode 0600).

        Raises StorageError when another process owns it, when it is no slot file, and when a newer
        version of Roost wrote it. Without a journal the file has everything at once. `clock`,
        `fdatasync` and `vfs` are replaced by tests only.
        """
        self.label = path.stem
        """What the journal calls the file."""
        self.in_journal: int | None = None
        """The id of the journal that may have rows of it: the file says so, and how many it has."""
        self.needs = 0
        """What the mark that the file has of the journal must say, if a later record is to be brought in."""
        self._journal = journal
        self._ahead = Ahead()
        self.clock = clock
        self._owned = _own(path)
        try:
            super().__init__(path, durability=durability, fdatasync=fdatasync, vfs=vfs)
        except BaseException:
            os.close(self._owned)
            raise

    def _opened(self, connection: apsw.Connection, version: int) -> None:
        self._migrate(connection, version)
        self._large = bool(connection.execute(_HAS_LARGE).get)
        """Whether values may be apart from their entries."""
        self._all: set[bytes] | None = None if version else set()
        """The ids of all objects of which a new file has anything; None when they are not known.

        A query for what is not there takes 50 µs, with the caches that the script has filled: a third
        of what a new object costs.
        """
        self._bring_in_journal(connection)

    def _bring_in_journal(self, connection: apsw.Connection) -> None:
        """Write what a journal has and this file lacks, durably; it is in none after that."""
        self._ahead = Ahead()
        found: Any = connection.execute("SELECT name, id, number FROM journals")
        marks = found.fetchall()
        if not marks:
            self.in_journal = None
            return
        for name, journal, number in marks:
            is_own = self._journal is not None and name == self._journal.path.name
            if is_own:
                forget()  # it has been written to since
            try:
                for rows in rows_after(self.path.parent / name, journal, number, self.label):
                    self._ahead.add(rows)
            except OSError as cause:
                raise StorageError(f"journal {name} cannot be read: {cause}") from cause
            if is_own:
                forget()
        connection.execute("BEGIN IMMEDIATE").fetchall()
        for sql, overdue in self._overdue():
            connection.executemany(sql, overdue).fetchall()
        connection.execute("DELETE FROM journals; COMMIT").fetchall()
        self._bring_in(connection)
        self._ahead = Ahead()
        self.in_journal = None  # not before: until then the journal must stay

    # --- the journal -----------------------------------------------------------------------------

    def _sound(self) -> None:
        """Make sure that the file may be used, and that what is read of it is durable."""
        super()._sound()
        journal = self._journal
        if journal is not None and journal.unsound and self in journal.members:
            self.catch_up()
            self.sync()
            journal.members.discard(self)

    def take_in(self, rows: Rows) -> None:
        """Take note of what the journal has, and this file not yet. Reads see it at once."""
        self._ahead.add(rows)
        self._know(raw for raw, _, _ in rows[0])
        if self._ahead.is_long:
            with suppress(StorageError):  # the journal has it
                self.catch_up()

    def catch_up(self) -> None:
        """Write what the file lacks, as a commit does. StorageError, and it lacks it still."""
        if self._ahead:
            self.commit(())

    def _overdue(self) -> list[tuple[str, list[Any]]]:
        """Return the statements that write what the file lacks."""
        puts, deletes, registers = self._ahead.rows()
        return [
            *registering(registers),
            *self._noted(changing(puts, deletes, large=self._large)),
        ]

    def _noted(self, statements: list[tuple[str, list[Any]]]) -> list[tuple[str, list[Any]]]:
        """Take note if statements, which it returns, put values apart."""
        self._large = self._large or any(sql is PUT_LARGE for sql, _ in statements)
        return statements

    # --- reading ---------------------------------------------------------------------------------

    def read(self, object_id: bytes, key: bytes) -> bytes | None:
        """Return the value of a key of an object, or None when it has none."""
        self._sound()
        if self._all is not None and object_id not in self._all:
            return None
        ahead = self._ahead.of(object_id)
        if key in ahead:
            return ahead[key]
        try:
            value: bytes | None = self._cursor.execute(_READ, (object_id, key)).get
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        return self._apart(object_id, key) if value == APART else value

    def _apart(self, object_id: bytes, key: bytes) -> bytes:
        """Return the value of an entry that has none."""
        value: bytes
        (value,) = next(self._rows(_READ_LARGE, (object_id, key)), (APART,))
        return value

    def contains(self, object_id: bytes, key: bytes) -> bool:
        """Return whether an object has a key, without reading the value."""
        self._sound()
        ahead = self._ahead.of(object_id)
        if key in ahead:
            return ahead[key] is not None
        try:
            return self._cursor.execute(_CONTAINS, (object_id, key)).get is not None
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    def records(self, object_id: bytes) -> list[tuple[bytes, bytes]]:
        """Return the records of an object, in key order."""
        self._sound()
        if self._all is not None and object_id not in self._all:
            return []
        self._whole(object_id)
        try:
            rows: Any = self._cursor.execute(_RECORDS, (object_id,))
            found: list[tuple[bytes, bytes]] = rows.fetchall()
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        if self._large:
            return [(key, value or self._apart(object_id, key)) for key, value in found]
        return found

    def scan(
        self,
        object_id: bytes,
        start: bytes = b"",
        end: bytes = b"\xff",
        reverse: bool = False,
        limit: int | None = None,
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield (key, value) of an object in byte order of the keys, a row at a time.

        From `start` up to, and without, `end`; the last first when `reverse`. Exhaust or close it
        before the next commit: an open scan keeps the log from being reused.
        """
        self._whole(object_id)
        bindings = (object_id, start, end, -1 if limit is None else min(limit, 1 << 62))
        rows = self._rows(_SCAN_DOWN if reverse else _SCAN_UP, bindings)
        if not self._large:
            yield from rows
            return
        with closing(rows):
            for key, value in rows:
                yield key, value or self._apart(object_id, key)

    def objects(self, class_name: str | None = None) -> Iterator[ObjectRecord]:
        """Yield the register in the order of ids: all objects, or those of a class."""
        self.catch_up()
        where, bindings = (
            ("", ()) if class_name is None else ("WHERE class_name = ?", (class_name,))
        )
        for raw, its_class, name, created in self._rows(
            f"SELECT object_id, class_name, name, created FROM objects {where} ORDER BY object_id",  # noqa: S608
            bindings,
        ):
            yield ObjectRecord(ObjectId(raw, name), its_class, name, created)

    def counts(self) -> dict[str, int]:
        """Return how many objects of each class have stored something. Reads the whole register."""
        self.catch_up()
        return dict(
            self._rows("SELECT class_name, count(*) FROM objects GROUP BY 1 ORDER BY 1", ())
        )

    def record(self, object_id: bytes) -> ObjectRecord | None:
        """Return an object's place in the register, if it has one."""
        self._enter(object_id)
        row = next(self._rows(_RECORD, (object_id,)), None)
        return None if row is None else ObjectRecord(ObjectId(object_id, row[1]), *row)

    def measure(self, object_id: bytes) -> tuple[int, int]:
        """Return how many entries an object has here, and their bytes. Reads all its rows."""
        self._whole(object_id)
        entries, size = next(self._rows(_MEASURE, (object_id,)))
        return entries, size + next(self._rows(_MEASURE_LARGE, (object_id,)))[0]

    def copy_rows(self, object_id: bytes, copy: apsw.Connection, *, entries: bool) -> None:
        """Make a copy of the file have of an object what this one has now, with its entries or none."""
        self._whole(object_id)
        for table, insert in _COPY:
            copy.execute(f"DELETE FROM {table} WHERE object_id = ?", (object_id,))  # noqa: S608
            if entries or table not in {"entries", "large"}:
                rows = self._rows(f"SELECT * FROM {table} WHERE object_id = ?", (object_id,))  # noqa: S608
                copy.executemany(insert, rows)

    def _whole(self, object_id: bytes) -> None:
        """Make sure that the file has all of an object."""
        self._sound()
        if object_id in self._ahead:
            self.catch_up()

    def _enter(self, object_id: bytes) -> None:
        """Make sure that the register has an object."""
        self._sound()
        if self._ahead.registers(object_id):
            self.catch_up()

    def owners(self) -> Iterator[bytes]:
        """Yield the ids of all objects of which the file has anything, also of unregistered ones."""
        self.catch_up()
        for (raw,) in self._rows(_OWNERS, ()):
            yield raw

    def _rows(
        self, sql: str, bindings: tuple[apsw.SQLiteValue, ...]
    ) -> Generator[tuple[Any, ...], None, None]:
        self._sound()
        try:
            with closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(sql, bindings)
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    # --- alarms ----------------------------------------------------------------------------------

    def alarm(self, object_id: bytes) -> Alarm | None:
        """Return the alarm of an object."""
        row = next(self._rows(_ALARM, (object_id,)), None)
        return None if row is None else Alarm(*row)

    def due_alarm(self, object_id: bytes) -> DueAlarm | None:
        """Return the alarm of an object, with what it takes to activate the object."""
        self._enter(object_id)
        row = next(self._rows(_DUE_ALARM, (object_id,)), None)
        return None if row is None else DueAlarm(row[0], row[1], Alarm(*row[2:]))

    def next_alarms(self, after: tuple[int, bytes], limit: int) -> list[tuple[int, bytes]]:
        """Return the first alarms after a (due, object id), in that order."""
        return list(self._rows(_NEXT_ALARMS, (*after, limit)))

    # --- writing ---------------------------------------------------------------------------------

    def commit(self, changes: Iterable[Change]) -> None:
        """Write the changes of several objects, at most one of each, in one transaction.

        They survive the process's death at once, and a power cut after the next `sync()`. The file
        catches up with them. Any failure leaves it as it was, and raises StorageError.
        """
        super()._sound()
        cursor = self._cursor
        changes = [*changes]
        self._know(change.object_id for change in changes)
        try:
            journal = self._journal
            statements = self._overdue() if self._ahead else []
            own = self._noted(statements_of(changes, self.clock(), large=self._large))
            is_in = journal is not None and self.in_journal == journal.id
            needs = self.needs if is_in else 0
            if journal is not None:
                if own and journal.relaxed:  # not for what an object's own file has alone
                    needs = journal.divide()
                if statements or not is_in or needs != self.needs:
                    statements.append((_MARK, [(journal.path.name, journal.id, journal.number)]))
                if not is_in:  # the file has all that others had, and must not get it again
                    statements.append((_UNMARK, [(journal.path.name,)]))
            statements += own
            cursor.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                cursor.executemany(sql, rows)
            cursor.execute("COMMIT")
        except BaseException as cause:
            self._roll_back()
            if not isinstance(cause, Exception):
                raise
            raise self._unwritable(cause) from cause
        if journal is not None:
            self.in_journal, self.needs = journal.id, needs
            if self._ahead:
                self._ahead = Ahead()

    def _know(self, ids: Iterable[bytes]) -> None:
        """Take note that a new file has something of objects."""
        if self._all is not None:
            self._all.update(ids)
            if len(self._all) > MOST_KNOWN:
                self._all = None

    def rename(self, ids: Iterable[bytes], class_name: str) -> None:
        """Enter objects in the register under another class, in one transaction."""
        self._sound()
        self.catch_up()
        cursor = self._cursor
        try:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(_RENAME, ((class_name, raw) for raw in ids))
            cursor.execute("COMMIT")
        except apsw.Error as cause:
            self._roll_back()
            raise self._unwritable(cause) from cause

    def shrink(self) -> None:
        """Give the disk back what was deleted, if that is most of the file. Takes its time."""
        self._sound()
        try:
            free, pages = (
                self._cursor.execute(f"PRAGMA {name}").get
                for name in ("freelist_count", "page_count")
            )
            if 2 * free > pages:
                self._cursor.execute("VACUUM")
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def _closing(self) -> None:
        if self.in_journal is None:
            return
        with suppress(StorageError, apsw.Error):  # the journal stays, and the next opening has it
            self.catch_up()
            self._cursor.execute("DELETE FROM journals")
            self.sync()  # the checkpoint of a closing does not tell when it fails
            self.in_journal = None

    def _copied(self, copy: apsw.Connection) -> None:
        copy.execute("DELETE FROM journals").fetchall()  # it has no part in what comes after

    def _copying(self) -> None:
        self.catch_up()

    def close(self) -> None:
        """Checkpoint and close the file, and give up its ownership. May be called again."""
        if self._owned < 0:
            return
        self._all = None
        try:
            super().close()
            if self._journal is not None:
                self._journal.leave(self, has_all=self.in_journal is None)
        finally:
            os.close(self._owned)
            self._owned = -1


def _own(path: Path) -> int:
    """Lock the file's side file for this process, until the descriptor that is returned is closed."""
    lock = f"{path}.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as cause:
        raise StorageError(f"slot file {path} cannot be locked: {cause}") from cause
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StorageError(f"slot file {path} is in use by process {owner}") from cause
    with suppress(OSError):  # a full disk: only what others are told is lost
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
