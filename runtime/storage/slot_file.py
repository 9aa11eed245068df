"""One slot's file: the entries of all key-value objects of a slot, and the register of objects.

Durability. A commit is one SQLite transaction, appended to the write-ahead log without a sync
(`synchronous=NORMAL`), so it costs no disk wait and is whole or absent, also after a kill: the log
is in the kernel's memory. Nothing may be acknowledged before `sync()`, one fdatasync of the log,
which another thread makes: then every commit made before it is on disk, as with `synchronous=FULL`,
for one disk wait however many commits there were. A power cut before it cuts the log's end off at a
transaction's border (frames carry checksums). Checkpoints copy the log into the main file, and
SQLite syncs both around that. Opening makes one, so that what a dead owner left unsynced is durable
before anybody reads it. "relaxed" leaves the fdatasync out: a power cut may then take the last
commits, and never the file's integrity.

The file has one owner, the host (a lock file, and SQLite's exclusive lock); all methods belong to
its loop's thread, except `sync`. No other descriptor of the main file is ever opened in the
process, because closing it would drop SQLite's locks; logs carry none.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import apsw

from runtime.ids import ObjectId
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from runtime.storage.write_set import Change

__all__ = ["FORMAT", "ObjectRecord", "SlotFile"]

FORMAT: Final = 1
"""The version of the tables below, kept in the file's user_version."""

CHECKPOINT_PAGES: Final = 4000
"""The log is checkpointed when it has so many pages (of 4 KiB), so that it stays near 16 MiB.

A checkpoint runs on the loop, within a commit, and takes 5 to 15 ms on a local SSD; in between lie
16 MiB of log, thousands of small commits. With SQLite's 1,000 pages it takes less, but comes four
times as often and in total costs 25 % more, because pages that change often are copied more often.
"""

LOG_KEPT_BYTES: Final = 64 << 20
"""A log that one large transaction made longer than this is cut back when it starts anew."""

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
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
PRAGMA user_version = {FORMAT};
COMMIT;
"""

_READ: Final = "SELECT value FROM entries WHERE object_id = ? AND key = ?"
_CONTAINS: Final = "SELECT 1 FROM entries WHERE object_id = ? AND key = ?"
_SCAN: Final = (
    "SELECT key, value FROM entries WHERE object_id = ? AND key >= ? AND key < ? ORDER BY key {} "
    "LIMIT ?"
)
_SCAN_UP: Final = _SCAN.format("ASC")
_SCAN_DOWN: Final = _SCAN.format("DESC")
# An upsert changes a row in place; REPLACE deletes and inserts: 3.2 µs a row, not 4.2. In key order
# it is 2.4 µs, because neighbours share pages.
_PUT: Final = (
    "INSERT INTO entries VALUES(?, ?, ?) "
    "ON CONFLICT(object_id, key) DO UPDATE SET value = excluded.value"
)
_DELETE: Final = "DELETE FROM entries WHERE object_id = ? AND key = ?"
_WIPE: Final = "DELETE FROM entries WHERE object_id = ? AND key < x'ff'"  # records stay
_REGISTER: Final = (
    "INSERT INTO objects VALUES(?, ?, ?, ?) ON CONFLICT(object_id) "
    "DO UPDATE SET name = excluded.name WHERE name IS NULL AND excluded.name IS NOT NULL"
)
_FORGET: Final = "DELETE FROM objects WHERE object_id = ?"


class ObjectRecord(NamedTuple):
    """An object that has stored something."""

    id: ObjectId
    class_name: str
    name: str | None
    """The name that the id was made from, where it is known."""
    created: float
    """When its first commit was, in seconds since 1970."""


class SlotFile:
    """See the module's text. Every method raises StorageError, with SQLite's error as its cause."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["strict", "relaxed"] = "strict",
        clock: Callable[[], float] = time.time,
        fdatasync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        """Open the file of a slot, and make it if there is none (mode 0600).

        Raises StorageError when another process owns it, when it is no slot file, and when a newer
        version of Roost wrote it. `clock` and `fdatasync` are replaced by tests only.
        """
        self.path = path
        self.needs_sync = durability == "strict"
        """Whether `sync()` does anything."""
        self._clock = clock
        self._fdatasync = fdatasync
        self._log = f"{path}-wal"
        self._log_fd: int | None = None
        self._syncing = Lock()  # guards _log_fd, which sync() uses and close() closes
        self._unsound = False  # a sync failed: what the log has on disk is unknown
        self._owned = _own(path)
        try:
            self._connection = self._connect()
        except BaseException:
            os.close(self._owned)
            raise
        self._cursor = self._connection.cursor()

    # --- opening ---------------------------------------------------------------------------------

    def _connect(self) -> apsw.Connection:
        try:
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        except (OSError, apsw.Error) as cause:
            raise StorageError(f"slot file {self.path} cannot be opened: {cause}") from cause
        try:
            # Exclusive first: the log's index is then in memory, and no -shm file exists.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").get  # noqa: B018
            version = connection.execute("PRAGMA user_version").get
            if version > FORMAT:
                raise StorageError(
                    f"slot file {self.path} has format {version}, and this version of Roost reads "
                    f"formats up to {FORMAT}: it was written by a newer one"
                )
            if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get:
                raise StorageError(f"{self.path} is an SQLite file, but no slot file of Roost")
            connection.execute(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
                f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; "
                f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}"
            ).fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if version == 0:
                connection.execute(_SCHEMA).fetchall()
        except apsw.Error as cause:
            connection.close(True)
            raise StorageError(f"slot file {self.path} cannot be opened: {cause}") from cause
        except StorageError:
            connection.close(True)
            raise
        return connection

    # --- reading ---------------------------------------------------------------------------------

    def read(self, object_id: bytes, key: bytes) -> bytes | None:
        """Return the value of a key of an object, or None when it has none."""
        if self._unsound:
            self._mend()
        try:
            value: bytes | None = self._cursor.execute(_READ, (object_id, key)).get
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        return value

    def contains(self, object_id: bytes, key: bytes) -> bool:
        """Return whether an object has a key, without reading the value."""
        if self._unsound:
            self._mend()
        try:
            return self._cursor.execute(_CONTAINS, (object_id, key)).get is not None
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

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
        bindings = (object_id, start, end, -1 if limit is None else min(limit, 1 << 62))
        yield from self._rows(_SCAN_DOWN if reverse else _SCAN_UP, bindings)

    def objects(self, class_name: str | None = None) -> Iterator[ObjectRecord]:
        """Yield the register in the order of ids: all objects, or those of a class."""
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
        return dict(
            self._rows("SELECT class_name, count(*) FROM objects GROUP BY 1 ORDER BY 1", ())
        )

    def _rows(self, sql: str, bindings: tuple[apsw.SQLiteValue, ...]) -> Iterator[tuple[Any, ...]]:
        if self._unsound:
            self._mend()
        try:
            with closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(sql, bindings)
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    def _unreadable(self, cause: Exception) -> StorageError:
        return StorageError(f"slot file {self.path} cannot be read: {cause}")

    # --- writing ---------------------------------------------------------------------------------

    def commit(self, changes: Iterable[Change]) -> None:
        """Write the changes of several objects, at most one of each, in one transaction.

        They survive the process's death at once, and a power cut after the next `sync()`. Any
        failure leaves the file as it was, and raises StorageError.
        """
        if self._unsound:
            self._mend()
        cursor = self._cursor
        try:
            statements = _statements(changes, self._clock())
            cursor.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                cursor.executemany(sql, rows)
            cursor.execute("COMMIT")
        except BaseException as cause:
            with suppress(apsw.Error):
                if self._connection.in_transaction:  # SQLite itself rolls back for a full disk
                    cursor.execute("ROLLBACK")
            if not isinstance(cause, Exception):
                raise
            raise StorageError(f"slot file {self.path} cannot be written: {cause}") from cause

    def sync(self) -> None:
        """Make every commit made before this call durable. The one method for another thread.

        Does nothing when the durability is relaxed.
        """
        if not self.needs_sync:
            return
        with self._syncing:
            # After a failure, the kernel reports success for pages that it has dropped.
            if self._unsound:
                raise StorageError(f"slot file {self.path} is not durable: an earlier sync failed")
            try:
                self._fdatasync(self._log_descriptor())
            except OSError as cause:
                self._unsound = True
                raise StorageError(f"slot file {self.path} is not durable: {cause}") from cause

    def _log_descriptor(self) -> int:
        """Return a descriptor of the log, which SQLite may have made anew since."""
        found = os.stat(self._log)  # noqa: PTH116 - 1 µs, and a Path costs 4
        if self._log_fd is not None:
            have = os.fstat(self._log_fd)
            if (have.st_ino, have.st_dev) == (found.st_ino, found.st_dev):
                return self._log_fd
            os.close(self._log_fd)
            self._log_fd = None
        self._log_fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        # The names of the new files must be on disk too.
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return self._log_fd

    def _mend(self) -> None:
        """Make the file sound after a failed sync; StorageError, and no use of it, until it is.

        The log's tail may be on disk or lost, and a later fdatasync would not tell. So the file is
        opened anew: SQLite reads the log up to its last whole transaction, and the checkpoint
        brings all of that, synced, into the main file.
        """
        self._disconnect()
        self._connection = self._connect()
        self._cursor = self._connection.cursor()
        self._unsound = False

    def _disconnect(self) -> None:
        """Close the connection; an unsound log is left as it is, for the next opening."""
        try:
            if self._unsound:
                with suppress(apsw.ConnectionClosedError):
                    self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(True)
        except apsw.Error as cause:
            raise StorageError(f"slot file {self.path} cannot be closed: {cause}") from cause

    def close(self) -> None:
        """Checkpoint and close the file, and give up its ownership. May be called again."""
        if self._owned < 0:
            return
        try:
            self._disconnect()
        finally:
            with self._syncing:
                if self._log_fd is not None:
                    os.close(self._log_fd)
                    self._log_fd = None
            os.close(self._owned)
            self._owned = -1
            self._unsound = False  # a closed file is not mended, but refuses use


def _statements(changes: Iterable[Change], now: float) -> list[tuple[str, list[Any]]]:
    """Return the statements that make the changes, in order, each with its rows."""
    wipes: list[tuple[bytes]] = []
    forgets: list[tuple[bytes]] = []
    registers: list[tuple[bytes, str, str | None, float]] = []
    deletes: list[tuple[bytes, bytes]] = []
    puts: list[tuple[bytes, bytes, bytes]] = []
    for change in changes:
        if change.wipe:
            wipes.append((change.object_id,))
            if not change.puts:
                forgets.append((change.object_id,))
        if change.register:
            registers.append((change.object_id, change.class_name, change.name, now))
        deletes += change.deletes
        puts += change.puts
        for raw, key, value in change.records:
            if value is None:
                deletes.append((raw, key))
            else:
                puts.append((raw, key, value))
    puts.sort()
    statements: list[tuple[str, list[Any]]] = [
        (_WIPE, wipes),
        (_FORGET, forgets),
        (_REGISTER, registers),
        (_DELETE, deletes),
        (_PUT, puts),
    ]
    return [(sql, rows) for sql, rows in statements if rows]


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
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
