"""The durable tier: one diskcache directory a namespace, used by many processes at once.

The rows are diskcache's, with two columns put to use: `tag` holds the metadata's JSON, so that a
listing tells it without touching a value, and `expire_time` the moment from which a key is absent.
Keys are blobs, so that diskcache's own index on them is in UTF-8 byte order and a listing is a range
of it. A partial index of ours names the values that are files.

Creation and commits happen under the namespace's write lock, so two writers never meet in SQLite
("database is locked"), nor in diskcache's constructor, which two processes must not run at once
(grantjenks/python-diskcache#85, #266). Reading has a connection of its own: in write-ahead mode it
waits for nobody.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import diskcache

from runtime.directories import sync_directory
from runtime.kv.bytes_disk import BINARY, FILE_BYTES, RAW, BytesDisk
from runtime.kv.forks import lock_for_forks
from runtime.kv.tiers import HELD_BYTES, Entry, Large, Listed, Staged
from runtime.kv.value_file import FOLDER, ValueFile, remove_orphan
from runtime.kv.write_lock import KeptLock
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

FORMAT = 1
"""Kept as the database's `user_version`, written last: a namespace half created counts as none."""

BUSY_SECONDS = 60.0
"""How long SQLite waits where it must although writers exclude each other: another process recovers
the log after a crash, or a program that knows nothing of the lock has the database open."""

_SETTINGS = {
    "eviction_policy": "none",  # diskcache evicts silently past 1 GiB unless told not to
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,  # would turn every read into a write
    "tag_index": 0,
    "disk_min_file_size": FILE_BYTES,
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 2,  # FULL: a commit is on disk when it returns
    "sqlite_auto_vacuum": 0,  # free pages are used again; moving pages at each commit costs more
    "sqlite_cache_size": 2048,  # 8 MiB, for each process and namespace
    "sqlite_wal_autocheckpoint": 4096,  # 16 MiB: pages written often are moved less often
    "sqlite_mmap_size": 0,  # an I/O error is an exception then, not a SIGBUS
}

_READ = "SELECT expire_time, tag, size, mode, filename, value FROM Cache WHERE key = ? AND raw = 1"
_SCAN = (
    "SELECT key, raw, tag, expire_time FROM Cache INDEXED BY Cache_key_raw"
    " WHERE key >= ? AND key < ? AND (expire_time IS NULL OR expire_time > ?)"
    " ORDER BY key LIMIT ?"
)
_PUT = (
    "INSERT INTO Cache (store_time, raw, key, expire_time, tag, size, mode, filename, value)"
    " VALUES {} ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time,"
    " expire_time = excluded.expire_time, tag = excluded.tag, size = excluded.size,"
    " mode = excluded.mode, filename = excluded.filename, value = excluded.value"
)
_PUT_ROW = "(?, 1, ?, ?, ?, ?, ?, ?, ?)"
_PUT_PLAIN_ROW = f"(?, 1, ?, NULL, NULL, 0, {RAW}, NULL, ?)"
"""Of a value with neither metadata, expiry nor file, as most are: a third less of SQLite's time."""
_DELETE = "DELETE FROM Cache WHERE raw = 1 AND key IN ({})"
_FILES_OF = (
    "SELECT filename FROM Cache INDEXED BY Cache_key_raw"
    " WHERE raw = 1 AND key IN ({}) AND filename IS NOT NULL"
)
_LEFT = (
    "SELECT EXISTS (SELECT 1 FROM Cache WHERE filename IS NOT NULL),"
    " EXISTS (SELECT 1 FROM Cache WHERE expire_time <= ?)"
)
"""Whether a commit may have anything to clear away."""
_FILES = "SELECT filename FROM Cache WHERE filename IS NOT NULL"
_IS_NAMED = "SELECT 1 FROM Cache WHERE filename = ?"
_EXPIRED = (
    "SELECT rowid, filename, key FROM Cache WHERE expire_time <= ? ORDER BY expire_time LIMIT ?"
)
_FIRST_EXPIRY = "SELECT min(expire_time) FROM Cache WHERE expire_time IS NOT NULL"
_DELETE_ROWS = "DELETE FROM Cache WHERE rowid IN ({})"

_SIZES = (
    ("Settings_size_insert", "INSERT", "NEW.size"),
    ("Settings_size_update", "UPDATE", "(NEW.size - OLD.size)"),
    ("Settings_size_delete", "DELETE", "(-OLD.size)"),
)
"""diskcache's triggers, which keep the bytes of all files, without their work for rows that have none."""

_ROWS_AT_ONCE = 64
"""Rows in one statement. Each statement hands the interpreter's lock over and back, which costs up
to 5 ms under a busy event loop: 256 puts take 4 statements instead of 512."""

_EXPIRED_AT_ONCE = 64

_ORPHANS_AT_ONCE = 64
"""Files that one step of tidying looks at."""


class _Cache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """The writing side of diskcache. Used by one thread, under the write lock."""

    undecided = False
    """Whether COMMIT was said and not answered: a failed sync may have written all, or nothing."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory), timeout=BUSY_SECONDS, disk=BytesDisk, **_SETTINGS)

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection."""
        connection: sqlite3.Connection = self._con
        return connection

    def finish_creation(self) -> None:
        """Add what is ours to diskcache's schema, and the mark that creation is complete."""
        self._sql(
            "CREATE INDEX IF NOT EXISTS Roost_filename ON Cache (filename)"
            " WHERE filename IS NOT NULL"
        )
        # diskcache's has all rows, and each put would write to it.
        self._sql("DROP INDEX Cache_expire_time")
        self._sql(
            "CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL"
        )
        for name, event, size in _SIZES:
            self._sql(f"DROP TRIGGER IF EXISTS {name}")
            self._sql(
                f"CREATE TRIGGER {name} AFTER {event} ON Cache FOR EACH ROW WHEN {size} != 0"  # noqa: S608
                f" BEGIN UPDATE Settings SET value = value + {size} WHERE key = 'size'; END"
            )
        self._sql(f"PRAGMA user_version = {FORMAT}")

    def write(self, writes: Collection[Staged], now: float) -> list[bytes]:
        """Commit writes to different keys, in one transaction; returns keys removed as expired.

        Not diskcache's own `transact`: that hides why a transaction could not begin, and leaves the
        connection inside of it when COMMIT fails.
        """
        sql = self._sql
        plain: list[tuple[object, ...]] = []
        others: list[tuple[object, ...]] = []
        deleted: list[bytes] = []
        for staged in writes:
            entry = staged.entry
            if entry is None:
                deleted.append(staged.key)
            elif staged.file is None and entry.expires is None and entry.metadata is None:
                plain.append((now, staged.key, entry.value))
            else:
                others.append((now, *_row(staged, entry)))
        if len(plain) == len(writes) <= _ROWS_AT_ONCE and not any(*sql(_LEFT, (now,)).fetchall()):
            sql(_text(_PUT, _PUT_PLAIN_ROW, len(plain)), [*chain.from_iterable(plain)])
            return []
        sql("BEGIN IMMEDIATE")
        left: list[str] = []
        if sql(_FILES + " LIMIT 1").fetchall():
            keys = [staged.key for staged in writes]
            left += [name for (name,) in _in_chunks(sql, _FILES_OF, "?", keys)]
        _in_chunks(sql, _PUT, _PUT_PLAIN_ROW, plain)
        _in_chunks(sql, _PUT, _PUT_ROW, others)
        _in_chunks(sql, _DELETE, "?", deleted)
        # Twice as many as are written, so that expired rows cannot become and stay more.
        expired = self._expire(now, max(_EXPIRED_AT_ONCE, 2 * len(writes)), left)
        self._finish(left)
        return expired

    def expire(self, now: float) -> list[bytes]:
        """Remove some expired rows in a transaction of their own; returns their keys."""
        self._sql("BEGIN IMMEDIATE")
        left: list[str] = []
        expired = self._expire(now, _EXPIRED_AT_ONCE, left)
        self._finish(left)
        return expired

    def _expire(self, now: float, limit: int, left: list[str]) -> list[bytes]:
        """Remove up to `limit` expired rows, and add their files to `left`; returns their keys."""
        expired = self._sql(_EXPIRED, (now, limit)).fetchall()
        _in_chunks(self._sql, _DELETE_ROWS, "?", [rowid for rowid, _, _ in expired])
        left += [name for _, name, _ in expired if name is not None]
        return [key for _, _, key in expired]

    def _finish(self, left: list[str]) -> None:
        """Commit, and remove the files that are named no more."""
        self.undecided = True
        self._sql("COMMIT")
        self.undecided = False
        for name in left:
            self.disk.remove(name)


def _row(staged: Staged, entry: Entry) -> tuple[object, ...]:
    file = staged.file
    columns = (0, RAW, None, entry.value) if file is None else (file.size, BINARY, file.name, None)
    return staged.key, entry.expires, entry.metadata, *columns


def _in_chunks(
    sql: Callable[..., sqlite3.Cursor],
    statement: str,
    row: str,
    values: Sequence[Any],
) -> list[Any]:
    """Run a statement for all values, in chunks of few different sizes: each is compiled once."""
    rows: list[Any] = []
    for chunk in _chunks(values):
        given = chunk if row == "?" else [*chain.from_iterable(chunk)]
        rows += sql(_text(statement, row, len(chunk)), given).fetchall()
    return rows


@cache
def _text(statement: str, row: str, count: int) -> str:
    return statement.format(", ".join([row] * count))


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    at = 0
    size = _ROWS_AT_ONCE
    while at < len(values):
        while size > len(values) - at:
            size //= 2
        yield values[at : at + size]
        at += size


class DiskTier:
    """A namespace on disk; see the module's text and `DurableTier`."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.directory = directory
        self._clock = clock
        self._database = directory / "cache.db"
        self._disk = BytesDisk(str(directory), min_file_size=FILE_BYTES)
        self._reading = lock_for_forks()
        self._writing = lock_for_forks()
        self._turn = KeptLock(directory / "turn.lock")
        self._write = KeptLock(directory / "write.lock")
        self._reader: sqlite3.Connection | None = None
        self._cache: _Cache | None = None
        self._connections: list[sqlite3.Connection] = []  # kept, so that a fork cannot close them
        self._suspects: Iterator[os.DirEntry[str]] | None = None  # files, until all were looked at

    def ensure(self) -> None:
        """Create the namespace unless it exists. Raises KVError when a newer Roost made it."""
        path = str(self.directory)
        if os.path.expandvars(os.path.expanduser(path)) != path:  # noqa: PTH111
            raise KVError(f"diskcache would expand {path}: choose a path without ~ and $")
        if self._is_complete():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        with self.lock():
            if self._is_complete():
                return
            (self.directory / FOLDER).mkdir(mode=0o700, exist_ok=True)
            cache = _Cache(self.directory)
            try:
                cache.finish_creation()
            finally:
                cache.close()
            sync_directory(self.directory)
            sync_directory(self.directory.parent)

    def _is_complete(self) -> bool:
        if not self._database.exists():
            return False
        with closing(self._connect()) as connection:
            ((found,),) = connection.execute("PRAGMA user_version").fetchall()
        if found > FORMAT:
            raise KVError(f"{self.directory} was made by a newer Roost (format {found})")
        return bool(found == FORMAT)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._database.absolute().as_uri() + "?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    # --- reading: any thread, one at a time ------------------------------------------------------

    def _select(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        # All rows at once: a statement left open would keep the log from being checkpointed.
        with self._reading:
            if self._reader is None:
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only = 1")
                self._reader.execute(f"PRAGMA cache_size = {_SETTINGS['sqlite_cache_size']}")
            return self._reader.execute(statement, values).fetchall()

    def read(self, key: bytes) -> Entry | None:
        """Return the last committed entry of a key, expired or not."""
        return self._found(key, self._entry)

    def open(self, key: bytes) -> Entry | Large | None:
        """As `read`, but a value larger than `HELD_BYTES` comes as a file."""
        return self._found(key, self._opened)

    def _entry(self, row: Sequence[Any]) -> Entry:
        expires, metadata, _, mode, filename, value = row
        return Entry(self._disk.fetch(mode, filename, value, read=False), metadata, expires)

    def _opened(self, row: Sequence[Any]) -> Entry | Large:
        expires, metadata, size, mode, filename, _ = row
        if mode != BINARY or size <= HELD_BYTES:
            return self._entry(row)
        return Large(self._disk.open(filename), metadata, expires)

    def _found(self, key: bytes, made_of: Callable[[Sequence[Any]], T]) -> T | None:
        missing = None
        while rows := self._select(_READ, (key,)):
            *_, filename, _ = rows[0]
            try:
                return made_of(rows[0])
            except FileNotFoundError:
                # Replaced after the row was read: the next row says by what. The same row again
                # means that the file is gone although a committed row names it.
                if filename == missing:
                    raise
                missing = filename
        return None

    def scan(self, lower: bytes, upper: bytes, limit: int, now: float) -> list[Listed]:
        """Return the first `limit` keys of `lower <= key < upper` that have not expired."""
        rows = self._select(_SCAN, (lower, upper, now, limit))
        return [
            Listed(self._disk.get(key, raw), metadata, expires)
            for key, raw, metadata, expires in rows
        ]

    def first_expiry(self) -> float | None:
        """Return when the first of all entries expires, or has."""
        ((moment,),) = self._select(_FIRST_EXPIRY, ())
        return None if moment is None else float(moment)

    def close(self) -> None:
        """Close the reading connection, and the files of the lock, which nobody holds."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self._turn.close()
        self._write.close()

    # --- writing: one thread ---------------------------------------------------------------------

    def new_file(self) -> ValueFile:
        """Begin the file of a value that arrives as a stream."""
        return ValueFile(self.directory)

    def stage(self, write: Staged) -> None:
        """Finish a large value's file. Nothing names it yet."""
        entry, file = write.entry, write.file
        if file is None and (entry is None or len(entry.value) < FILE_BYTES):
            return
        whole, file = file is None, file or ValueFile(self.directory)
        try:
            if whole:
                assert entry is not None
                file.write(entry.value)
            file.sync()
        except BaseException:
            file.discard()
            raise
        write.file = file

    def unstage(self, staged: Staged) -> None:
        """Remove the file of a write that will not be committed."""
        if staged.file is not None:
            staged.file.discard()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the namespace's write lock, in turn with all who commit.

        The kernel wakes who is first in line, but a busy process takes the lock again before that one
        runs. So who waits for the lock holds the turn, which the others wait for, in line.
        """
        self._turn.take()
        try:
            self._write.take()
        finally:
            self._turn.free()
        try:
            yield
        finally:
            self._write.free()

    def commit(self, writes: Collection[Staged], now: float) -> list[bytes]:
        """Commit in one transaction; it is on disk when this returns. Under the lock.

        Returns the keys that it removed because they had expired. When it raises, what was staged is gone, except where a row may name it after all.
        """
        try:
            with self._writing:
                expired = self._writer().write(writes, now)
        except BaseException:
            undecided = self._cache is not None and self._cache.undecided
            self.close_writer()  # rolls back; the next commit opens afresh
            if not undecided:  # else the files stay locked, so that nobody takes them for orphans
                for staged in writes:
                    self.unstage(staged)
            raise
        for staged in writes:
            if staged.file is not None:
                staged.file.keep()
        return expired

    def _writer(self) -> _Cache:
        if self._cache is None:
            self._cache = _Cache(self.directory)
            self._connections = [self._cache.connection]
        return self._cache

    def expire(self, now: float) -> list[bytes]:
        """Remove some of what expired; returns its keys. Under the lock."""
        try:
            with self._writing:
                return self._writer().expire(now)
        except BaseException:
            self.close_writer()
            raise

    def tidy(self) -> bool:
        """Remove some of what crashes left; whether there is more to look at."""
        if self._suspects is None:
            self._suspects = os.scandir(self.directory / FOLDER)
        some = list(islice(self._suspects, _ORPHANS_AT_ONCE))
        for found in some:
            remove_orphan(self.directory, f"{FOLDER}/{found.name}", self._is_named)
        return bool(some)

    def _is_named(self, name: str) -> bool:
        return bool(self._select(_IS_NAMED, (name,)))

    def close_writer(self) -> None:
        """Close the writing connection. On the thread that committed."""
        with self._writing:
            cache, self._cache, self._connections = self._cache, None, []
            if cache is not None:
                cache.close()
