"""The SQLite file of one object: its SQL tables, and beside them its entries.

An object of a SQLite class has such a file from its first use of `storage.sql` on; until then, and
if it never uses it, its entries are in the slot file. `found()` moves them, in the transaction that
makes the file: as soon as that is committed, and not before, the file is the entries' home and what
the slot file has is void. So a kill at any moment leaves one place that has everything.

One transaction is open from the first statement of a turn that writes to the turn's commit; the
entries join it just before. The script reaches the connection only through `run()`, under sql_guard's authorizer.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import apsw

from runtime.storage.history import NEW
from runtime.storage.large import APART, is_large
from runtime.storage.past import ALL, HISTORY, RESTORING, Past, and_ended, bookmark, ended, place_of
from runtime.storage.rebuild import Place
from runtime.storage.sql_guard import Guard
from runtime.storage.wal_file import WalFile
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from runtime.config import Limits
    from runtime.config.settings import Durability
    from runtime.storage.sql import Cursor
    from runtime.storage.sql_guard import Rows
    from runtime.storage.write_set import Change

__all__ = ["TABLES", "ObjectFile", "quoted", "remove_parts"]

_log = logging.getLogger("roost.storage")

_MIGRATIONS: Final = (
    """
CREATE TABLE _cf_KV(
    key BLOB PRIMARY KEY NOT NULL,  -- UTF-8: compared by bytes, which is the order of list()
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE _cf_METADATA(key INTEGER PRIMARY KEY, value);
""",
    """
-- Values may be in _cf_LARGE, which is made with the first: two pages that few objects need.
""",
)
_LARGE: Final = """
CREATE TABLE IF NOT EXISTS _cf_LARGE(
    key BLOB PRIMARY KEY NOT NULL,
    value BLOB NOT NULL  -- of an entry that has none
)
"""

_READ: Final = "SELECT value FROM _cf_KV WHERE key = ?"
_CONTAINS: Final = "SELECT 1 FROM _cf_KV WHERE key = ?"
_SCAN_UP: Final = "SELECT * FROM _cf_KV WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_SCAN_DOWN: Final = "SELECT * FROM _cf_KV WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
_PUT: Final = (
    "INSERT INTO _cf_KV VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value"
)
_DELETE: Final = "DELETE FROM _cf_KV WHERE key = ?"
_WIPE: Final = "DELETE FROM _cf_KV WHERE key < x'ff'"  # records stay
_HAS_ENTRIES: Final = "SELECT 1 FROM _cf_KV WHERE key < x'ff' LIMIT 1"
_HAS_RECORDS: Final = "SELECT 1 FROM _cf_KV WHERE key >= x'ff' LIMIT 1"
_HAS_LARGE: Final = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = '_cf_LARGE')"
_READ_LARGE: Final = "SELECT value FROM _cf_LARGE WHERE key = ?"
_PUT_LARGE, _DELETE_LARGE, _WIPE_LARGE = (
    sql.replace("_cf_KV", "_cf_LARGE", 1) for sql in (_PUT, _DELETE, _WIPE)
)
_GET_FACT: Final = "SELECT value FROM _cf_METADATA WHERE key = ?"
_SET_FACT: Final = "INSERT OR REPLACE INTO _cf_METADATA VALUES(?, ?)"
# Triggers first, since the rows of a dropped table take others with them, which may have some. Virtual
# tables take their shadow tables with them.
_DROPPABLE: Final = """
SELECT type, name FROM sqlite_schema
WHERE type IN ('table', 'trigger', 'view') AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
ORDER BY type = 'trigger' DESC, type = 'view' DESC, sql LIKE 'create virtual%' DESC
"""
_HAS_TABLES: Final = """
SELECT 1 FROM sqlite_schema
WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT 1
"""

_ALARM: Final = 1
"""The fact that is the time of the object's alarm."""
_ORDER: Final = 2
"""The fact that is the bookmark to go back to when the object's next session begins."""
_ERA: Final = 3
"""The fact that tells this file's history from others of the same object: bookmarks have it."""
_RESTORES: Final = 4
"""The fact that lists the segments of the history that begin with a restore: numbers, as text."""
_ENDED: Final = 5
"""The fact that lists the eras that have ended with a backup, each with its last place: text."""
_COPIED: Final = 0x436F7079
"""The `application_id` of a copy that has a history, until its first opening: nothing of a page may change but
the header, lest the history does not fit."""
_DROP_FACT: Final = "DELETE FROM _cf_METADATA WHERE key = ?"

_LEFT: Final = f"{HISTORY}{NEW}", RESTORING
"""What a kill may leave beside a file that means nothing: what was about to replace its history, and a restore's copy."""

TABLES: Final = """
SELECT name FROM pragma_table_list
WHERE schema = 'main' AND type IN ('table', 'virtual')
    AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
ORDER BY name
"""
"""Names the tables of the script, without those that a virtual table keeps beside it."""
_MEASURE: Final = (
    "SELECT count(*), ifnull(sum(length(key) + length(value)), 0) FROM _cf_KV WHERE key < x'ff'"
)
_MEASURE_LARGE: Final = "SELECT ifnull(sum(length(value)), 0) FROM _cf_LARGE WHERE key < x'ff'"


def remove_parts(path: Path) -> None:
    """Delete an object file that nobody has open, and all that belongs to it, if it is there."""
    # The log last: without its main file it means nothing, and the main file without it is old.
    _remove(path, "", HISTORY, *_LEFT, "-wal")


def _remove(path: Path, *added: str) -> None:
    for text in added:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{text}")  # noqa: PTH108  (no Path is made)


def _new_era() -> int:
    return int.from_bytes(os.urandom(4), "big")


def quoted(name: str) -> str:
    """Return a table's name as it stands in SQL."""
    return '"{}"'.format(name.replace('"', '""'))


class ObjectFile(WalFile):
    """See the module's text."""

    KIND = "object file"
    MIGRATIONS = _MIGRATIONS
    CHECKPOINT_PAGES = 1000

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability,
        limits: Limits,
        fdatasync: Callable[[int], None] = os.fdatasync,
        vfs: str | None = None,
    ) -> None:
        """Open the file, and make it if there is none."""
        self._guard = Guard(limits.value_bytes)
        self.cursors: WeakSet[Cursor] = WeakSet()
        """The script's cursors that have not been read to their end."""
        self.rounds = 0
        """How many group commits and copies this file is part of, that have not ended."""
        self.is_home = False
        """Whether the object's entries are here, or will be once the transaction is committed."""
        self._savepoints = 0
        self._large = False  # whether values may be apart from their entries
        self._days = limits.history_days
        self._past: Past | None = None
        self._archive_at = self.CHECKPOINT_PAGES
        self._is_strict = durability == "strict"
        super().__init__(path, durability=durability, fdatasync=fdatasync, vfs=vfs)

    def _bring_in(self, connection: apsw.Connection) -> None:
        _remove(self.path, *_LEFT)
        if self._days:
            # From here on, nothing but `_checkpoint` brings the log in.
            self._past = Past(
                self.path,
                connection,
                self._days,
                self._fdatasync,
                lambda: connection.execute(_GET_FACT, (_ORDER,)).get,
            )
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            try:
                if connection.execute("PRAGMA user_version").get:
                    self._begin_era(connection, self._past)
                self._past.record()
            except OSError as cause:
                raise StorageError(
                    f"{self.KIND} {self.path} cannot be opened: its history cannot be written: {cause}"
                ) from cause
        else:
            # One that is not gone on with has a gap, over which nothing goes back.
            _remove(self.path, HISTORY)
        super()._bring_in(connection)
        if self._past is not None:
            self._past.brought_in()

    def _begin_era(self, connection: apsw.Connection, past: Past) -> None:
        """Begin a new era when the history is lost, or goes on beside that of the file it was copied from."""
        if past.is_lost:
            # Before a history begins, lest a kill in between leaves one that takes older bookmarks.
            dropped: tuple[int, ...] = (_RESTORES, _ENDED)
            kept: dict[int, str] = {}
        elif connection.execute("PRAGMA application_id").get == _COPIED:
            text, era = (connection.execute(_GET_FACT, (fact,)).get for fact in (_ENDED, _ERA))
            dropped, kept = (), {_ENDED: and_ended(text or "", era or 0, Place(past.upcoming, 0))}
        else:
            return
        connection.execute("BEGIN IMMEDIATE; PRAGMA application_id = 0").fetchall()
        connection.executemany(_DROP_FACT, [(fact,) for fact in dropped])
        connection.executemany(_SET_FACT, [*kept.items(), (_ERA, _new_era())])
        connection.execute("COMMIT").fetchall()

    def _bring_in_log(self, mode: str) -> None:
        busy, _, _ = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]
        if self._past is not None and not busy:
            self._past.brought_in()
            self._archive_at = self.CHECKPOINT_PAGES

    def _closing(self) -> None:
        self._checkpoint("TRUNCATE")

    def _checkpoint(self, mode: str) -> None:
        """Archive the log, and bring it in; a log for which that fails is left for the next time."""
        try:
            if self._past is not None and self._connection.in_transaction is False:
                self._past.record()
                self._bring_in_log(mode)
        except (OSError, ValueError, apsw.Error) as error:
            _log.warning("the log of object file %s cannot be archived yet: %s", self.path, error)

    def _opened(self, connection: apsw.Connection, version: int) -> None:
        if version > 0:  # a new one has no tables before it is the entries' home
            self._migrate(connection, version)
        self._guard.keep(connection)
        self._guard.make_room(connection, self.path.stat().st_size)
        self.is_home = version > 0
        self._large = bool(connection.execute(_HAS_LARGE).get)

    @property
    def resting(self) -> bool:
        """Whether nothing is under way, so that the file may be closed."""
        return not (self.rounds or self.in_transaction or len(self.cursors))

    @property
    def in_transaction(self) -> bool:
        """Whether something was written that is not committed."""
        return self._connection.in_transaction

    # --- entries ---------------------------------------------------------------------------------

    def read(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None when there is none."""
        self._sound()
        try:
            value: bytes | None = self._cursor.execute(_READ, (key,)).get
            if value == APART and self._large:
                value = self._apart(key)
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        return value

    def _apart(self, key: bytes) -> bytes:
        """Return the value of an entry that has none. Raises apsw.Error as it comes."""
        value: bytes | None = self._connection.execute(_READ_LARGE, (key,)).get
        return APART if value is None else value

    def contains(self, key: bytes) -> bool:
        """Return whether there is a key, without reading the value."""
        self._sound()
        try:
            return self._cursor.execute(_CONTAINS, (key,)).get is not None
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    def scan(
        self, start: bytes, end: bytes, reverse: bool, limit: int | None
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield (key, value) in byte order of the keys; see `SlotFile.scan`."""
        self._sound()
        bindings = (start, end, -1 if limit is None else min(limit, 1 << 62))
        try:
            with closing(self._connection.cursor()) as cursor:
                rows: Any = cursor.execute(_SCAN_DOWN if reverse else _SCAN_UP, bindings)
                for key, value in rows:
                    yield key, self._apart(key) if value == APART and self._large else value
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    @property
    def alarm(self) -> int | None:
        """The time of the object's alarm: what the slot file says of it may be older."""
        self._sound()
        time = self._fact(_ALARM)
        assert time is None or isinstance(time, int)
        return time

    def _fact(self, key: int) -> int | str | None:
        try:
            value: int | str | None = self._cursor.execute(_GET_FACT, (key,)).get
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        return value

    # --- the transaction -------------------------------------------------------------------------

    def found(self, entries: Iterable[tuple[bytes, bytes]], alarm: int | None) -> None:
        """Begin a transaction that makes this file the home of the object's entries and records."""
        self._sound()
        try:
            self._cursor.execute("BEGIN IMMEDIATE; " + self._migration(0))
            self._put(entries)
            self._cursor.execute(_SET_FACT, (_ALARM, alarm))
            self._cursor.execute(_SET_FACT, (_ERA, _new_era()))
        except BaseException as cause:
            self.roll_back()
            if not isinstance(cause, apsw.Error):
                raise
            raise self._unwritable(cause) from cause
        self.is_home = True
        self.needs_sync = True  # however relaxed: what moved, and may be old, is deleted after that

    def sync(self) -> None:
        """Make every commit made before this call durable, if it must be. For another thread."""
        super().sync()
        self.needs_sync = self._is_strict

    def begin(self, depth: int = 0) -> None:
        """Begin a transaction with so many savepoints in it, as far as they are not open."""
        self._sound()
        try:
            if not self._connection.in_transaction:
                self._cursor.execute("BEGIN IMMEDIATE")
                self._savepoints = 0
            while self._savepoints < depth:
                self._cursor.execute(f"SAVEPOINT s{self._savepoints}")
                self._savepoints += 1
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def end(self, depth: int, *, keep: bool) -> None:
        """Close the savepoints above a depth, and keep or undo what was done since."""
        if not self.in_transaction or self._savepoints <= depth:
            return
        self._savepoints = depth
        try:
            if not keep:
                self.drop_cursors()
                self._cursor.execute(f"ROLLBACK TO s{depth}")
            self._cursor.execute(f"RELEASE s{depth}")
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def apply(self, change: Change) -> None:
        """Put the changes of the object's entries and records into the transaction."""
        self.begin()
        try:
            if change.wipe:
                self._cursor.execute(_WIPE)
                if self._large:
                    self._cursor.execute(_WIPE_LARGE)
            puts = [row[1:] for row in sorted(change.puts)]
            puts += [(key, value) for _, key, value in change.records if value is not None]
            deletes = [(key,) for _, key in change.deletes]
            deletes += [(key,) for _, key, value in change.records if value is None]
            if self._large:
                self._cursor.executemany(_DELETE_LARGE, [*deletes, *((key,) for key, _ in puts)])
            if deletes:
                self._cursor.executemany(_DELETE, deletes)
            if puts:
                self._put(puts)
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def _put(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Put entries, large values apart. Raises apsw.Error as it comes."""

        def within() -> Iterator[tuple[bytes, bytes]]:
            for row in entries:
                if not is_large(row):
                    yield row
                    continue
                if not self._large:
                    self._connection.execute(_LARGE).fetchall()
                    self._large = True
                self._guard.make_room(self._connection, len(row[-1]))
                self._connection.execute(_PUT_LARGE, row).fetchall()
                yield row[0], APART

        self._cursor.executemany(_PUT, within())

    def set_alarm(self, time: int | None) -> None:
        """Put the time of the alarm into the transaction."""
        self.begin()
        self._set_fact(_ALARM, time)

    def _set_fact(self, key: int, value: int | str | None) -> None:
        try:
            self._cursor.execute(_SET_FACT, (key, value))
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def clear(self) -> None:
        """Drop, within the transaction, everything that the script has made with SQL."""
        self.drop_cursors()
        try:
            # Without its foreign keys, so that no order of tables is asked for.
            self._cursor.execute("PRAGMA defer_foreign_keys = ON")
            while row := self._cursor.execute(_DROPPABLE + " LIMIT 1").get:
                kind, name = row
                self._cursor.execute(f"DROP {kind} {quoted(name)}")
        except apsw.Error as cause:
            raise self._unwritable(cause) from cause

    def commit(self, _changes: Iterable[Change] = ()) -> None:
        """Commit the transaction, which has the changes already.

        It survives the process's death at once, and a power cut after the next `sync()`.
        """
        try:
            if self.in_transaction:
                self._cursor.execute("COMMIT")
                if self._past is not None and self._past.frames >= self._archive_at:
                    self._archive_at += self.CHECKPOINT_PAGES  # unless it goes well now
                    if not self.cursors:
                        self._checkpoint("RESTART")
        except BaseException as cause:
            self.roll_back()
            if not isinstance(cause, apsw.Error):
                raise
            raise self._unwritable(cause) from cause

    def roll_back(self) -> None:
        """End the transaction; nothing of it stays."""
        self._savepoints = 0
        self.drop_cursors()
        self._roll_back()
        with suppress(apsw.Error):
            self.is_home = self._connection.execute("PRAGMA user_version").get > 0
            self._large = bool(self._connection.execute(_HAS_LARGE).get)

    # --- what was before -------------------------------------------------------------------------

    def now(self, raw: bytes) -> str:
        """Return the bookmark of what is committed."""
        past = self._recorded()
        return bookmark(raw, self._era(), past.now())

    def bookmark_at(self, raw: bytes, ms: int) -> str:
        """Return the bookmark of what was committed at a time. Raises ValueError."""
        past = self._recorded()
        try:
            return bookmark(raw, self._era(), past.at(ms))
        except (OSError, apsw.Error) as cause:
            raise self._unreadable(cause) from cause

    def order(self, raw: bytes, text: str) -> str:
        """Put it into the transaction that the next session begins at a bookmark. Raises ValueError.

        Returns the bookmark of what there will be right before that.
        """
        past = self._recorded()
        try:
            past.check(self._place(past, raw, text))
        except OSError as cause:
            raise self._unreadable(cause) from cause
        self.begin()
        self._set_fact(_ORDER, text)
        return bookmark(raw, self._era(), past.eve())

    def begin_session(self, raw: bytes) -> None:
        """Go back to a bookmark, if that was ordered. Not within a transaction.

        The alarm stays as it is: the slot file has it too, and may never be late.
        """
        self._sound()
        text = self._fact(_ORDER)
        if text is None:
            return
        self.drop_cursors()
        try:
            past = self._recorded()
            past.record()
            self._bring_in_log("TRUNCATE")
            oldest, this = past.oldest, past.upcoming
            restores = [*(number for number in self._restores() if number >= oldest), this]
            kept = {
                _ALARM: self.alarm,
                _ERA: self._era(),
                _RESTORES: " ".join(map(str, restores)),
                _ENDED: self._fact(_ENDED),
            }

            def amend(copy: apsw.Connection) -> None:
                copy.execute(_DROP_FACT, (_ORDER,))
                copy.execute("PRAGMA application_id = 0")  # a copy's history has it as `_COPIED`
                copy.executemany(_SET_FACT, kept.items())

            past.go_back(self._place(past, raw, text), amend)
            self._guard.make_room(self._connection, self.size)
            self._large = bool(self._connection.execute(_HAS_LARGE).get)
        except ValueError as error:  # its history has gone meanwhile
            _log.error("object %s does not go back to %s: %s", raw.hex(), text, error)
            self.begin()
            self._cursor.execute(_DROP_FACT, (_ORDER,))
            self.commit()
        except (OSError, apsw.Error) as cause:
            raise self._unwritable(cause) from cause

    def _place(self, past: Past, raw: bytes, text: object) -> Place:
        eras = {**ended(str(self._fact(_ENDED) or "")), self._era(): ALL}
        return past.settled(place_of(raw, eras, text), self._restores())

    def _restores(self) -> list[int]:
        return [int(number) for number in str(self._fact(_RESTORES) or "").split()]

    def copy_history_to(self, target: Path) -> Generator[float, None, None]:
        """Give a copy its history. To be begun at the moment of `copy_to`'s end; yields like it.

        A copy whose history cannot be had has none: it takes no older bookmarks. Raises StorageError.
        """
        if self._past is None:
            return
        try:
            self._past.record()
        except (OSError, ValueError, apsw.Error) as error:
            _log.warning("a copy of object file %s gets no history: %s", self.path, error)
            return
        try:
            with closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
                copy.execute(
                    f"PRAGMA synchronous = OFF; PRAGMA application_id = {_COPIED}"
                ).fetchall()
            yield from self._past.copy_to(target)
        except (OSError, apsw.Error) as cause:
            raise StorageError(
                f"the history of {self.KIND} {self.path} cannot be copied: {cause}"
            ) from cause

    def _recorded(self) -> Past:
        self._sound()
        if self._past is None:
            raise ValueError("no history is kept here: `history_days` is 0")
        return self._past

    def _era(self) -> int:
        found = self._fact(_ERA)
        return found if isinstance(found, int) else 0

    # --- SQL -------------------------------------------------------------------------------------

    def run(self, sql: str, bindings: Sequence[Any], *, reads: bool = False) -> Rows:
        """Run one statement of the script. Raises apsw.Error as it comes."""
        self._sound()
        return self._guard.run(self._connection, sql, bindings, reads=reads)

    @property
    def written(self) -> int:
        """How many rows statements have written on this connection."""
        return self._connection.total_changes()

    @property
    def size(self) -> int:
        """Bytes in use."""
        self._sound()
        pages, free, page = (
            self._cursor.execute(f"PRAGMA {name}").get
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page)

    def refuse(self, error: apsw.Error) -> Exception:
        """Return what the script gets for an error of its statement."""
        return self._guard.explain(error)

    def drop_cursors(self) -> None:
        """End the script's cursors."""
        for cursor in list(self.cursors):
            cursor.end()

    # --- the end ---------------------------------------------------------------------------------

    @property
    def hollow(self) -> bool:
        """Whether the script keeps nothing here: no entries, no tables."""
        self._sound()
        try:
            return (
                self._cursor.execute(_HAS_TABLES).get is None
                and self._cursor.execute(_HAS_ENTRIES).get is None
            )
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    @property
    def has_records(self) -> bool:
        """Whether the engine keeps something here, which outlives what the script keeps."""
        self._sound()
        try:
            return self._cursor.execute(_HAS_RECORDS).get is not None
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    def measure(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes. Reads all rows."""
        self._sound()
        try:
            entries, size = self._cursor.execute(_MEASURE).get
            if self._large:
                size += self._cursor.execute(_MEASURE_LARGE).get
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause
        return entries, size

    def tables(self) -> list[tuple[str, int]]:
        """Return the script's tables, each with how many rows it has. Reads all rows."""
        self._sound()
        try:
            names = [name for (name,) in self._cursor.execute(TABLES)]
            return [
                (name, self._cursor.execute(f"SELECT count(*) FROM {quoted(name)}").get)  # noqa: S608
                for name in names
            ]
        except apsw.Error as cause:
            raise self._unreadable(cause) from cause

    def shrink(self) -> None:
        """Give the disk back what was deleted. Not within a transaction."""
        self._sound()
        try:
            self.drop_cursors()
            self._cursor.execute("VACUUM")
            if self._past is not None:
                self._past.end()
            self._bring_in_log("TRUNCATE")
        except (OSError, apsw.Error) as cause:
            raise self._unwritable(cause) from cause

    def close(self) -> None:
        """Checkpoint and close the file; what is not committed is void."""
        self.drop_cursors()
        self._roll_back()
        super().close()

    def remove(self) -> None:
        """Close the file and delete it."""
        self.drop_cursors()
        with suppress(apsw.ConnectionClosedError):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()
        self.is_home = False
        remove_parts(self.path)
