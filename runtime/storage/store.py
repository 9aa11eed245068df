"""What one object keeps: its write set over the slot file or a file of its own. Nothing waits here.

The entries of an object of a SQLite class move from the slot file to a file of its own when it first
uses SQL. From then on a commit has two parts. First the slot file: the object's place in the
register and, if it comes no later than the one there, its alarm. Then the own file: entries, tables,
the engine's records and the alarm's true time, in one transaction. What the slot file has too much
after that (what moved, a later alarm, a deleted object) is *owed*, and paid by a later commit. So
whatever a kill cuts off, no entry is lost, none is there twice, and no alarm is missed: an early
one is compared with the own file before it rings.

The engine's side: `on_write()` is called before the first write of each change, `take_rows()` or
`take_changes()` hands a change over for commit, `committed()` or `failed()` tells how it ended.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from runtime.storage.alarm import Alarm
from runtime.storage.sql import FATAL
from runtime.storage.values import reveal, unpack
from runtime.storage.write_set import (
    ABSENT,
    KEEP,
    RECORDS,
    RECORDS_END,
    UNKNOWN,
    WriteSet,
    merge,
)
from workers.errors import ObjectReset, SqlError, StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence

    import apsw

    from runtime.config import Limits
    from runtime.ids import ObjectId
    from runtime.storage.arguments import KeyRange
    from runtime.storage.journal import Rows
    from runtime.storage.object_file import ObjectFile
    from runtime.storage.object_files import ObjectFiles
    from runtime.storage.slot_file import SlotFile
    from runtime.storage.write_set import Change, Mark

__all__ = ["Store"]

_log = logging.getLogger("roost.storage")

PAGE_ROWS: Final = 1000
PAGE_BYTES: Final = 4 << 20
"""How much of a long listing is read at a time."""

_LEFT: Final = "left memory when it had nothing to do (ctx.waitUntil() keeps it there)"

_NO_SQL: Final = (
    "This Durable Object is not backed by SQLite storage, so the SQL API is not available. SQL can "
    "be enabled on a new Durable Object class by using the `new_sqlite_classes` instead of "
    "`new_classes` under `[[migrations]]` in your wrangler.toml, but an already-deployed class "
    "cannot be converted to SQLite (except by deleting the existing data)."
)


@dataclass(slots=True)
class _Debt:
    """What is to be undone or freed, once the own file's commit is durable."""

    moved: bool = False
    """The slot file's entries and records: they moved."""
    alarm: Alarm | Mark | None = KEEP
    """The slot file's alarm, which is earlier than the true one."""
    forget: bool = False
    """The object's place in the register: nothing is left of it."""
    shrink: bool = False
    """The own file's room: what was in it is deleted. Paid last."""


_NO_DEBT: Final = _Debt()


class Store:
    """See the module's text."""

    __slots__ = (
        "_announced",
        "_confirm",
        "_files",
        "_freeing",
        "_homed",
        "_id",
        "_incurred",
        "_known",
        "_moving",
        "_on_alarm",
        "_on_unconfirmed",
        "_on_write",
        "_owed",
        "_pending",
        "_slot",
        "_unconfirmed",
        "_value_bytes",
        "_waiting",
        "_writes",
        "cause",
        "file",
        "has_failed",
        "has_left",
        "innermost",
        "transactions",
    )

    file: SlotFile
    """Where the object's entries are, unless it has a file of its own."""
    cause: Exception | None
    """Why the object was reset, if its storage was the cause."""
    has_failed: bool
    """Whether the object was reset, or left memory: what it had not committed is void, and this has no use."""
    has_left: bool
    """Whether it left memory."""
    transactions: int
    """How many asynchronous transactions are open, one within the other."""
    innermost: int
    """How deep in critical sections the innermost of them is; see `Depth`."""

    def __init__(
        self,
        file: SlotFile,
        object_id: ObjectId,
        class_name: str,
        on_write: Callable[[], None],
        confirm: Callable[[], Awaitable[None] | None],
        limits: Limits,
        *,
        files: ObjectFiles | None = None,
        slot: int = 0,
        on_alarm: Callable[[Alarm | None], None] | None = None,
        on_unconfirmed: Callable[[], None] | None = None,
    ) -> None:
        """`files` is None for a class without SQL; `on_alarm` hears of alarms that are durable.

        `on_unconfirmed` is called instead of `on_write` for a write that nothing is to wait for.
        """
        self.file = file
        self.cause = None
        self.transactions = self.innermost = 0
        self._slot = slot
        self._files = files
        self._homed: bool | None = None if files is not None else False
        self._id = object_id
        self._on_write = on_write
        self._confirm = confirm
        self._on_alarm = on_alarm
        self._on_unconfirmed = on_write if on_unconfirmed is None else on_unconfirmed
        self._value_bytes = limits.value_bytes
        self._writes = WriteSet(object_id, class_name)
        self._known = self._writes.known  # the hot paths' shortcuts
        self._pending = self._writes.pending
        self._announced = False
        self._unconfirmed = False  # announced as such
        self.has_failed = self.has_left = False
        self._moving = False  # the entries' move to the own file is not committed
        self._incurred = _NO_DEBT  # by the change that is under way
        self._owed = _NO_DEBT
        self._freeing = False  # the change under way pays all but the room
        self._waiting: dict[asyncio.Future[None], None] = {}  # until everything written was taken

    # --- entries ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise ObjectReset when the object was reset."""
        if self.has_failed:
            what = _LEFT if self.has_left else "was reset"
            raise ObjectReset(
                f"this instance of the object {what} and can no longer use its storage",
                durable_object_id=str(self._id),
            )

    def begin_write(self, *, confirmed: bool = True) -> None:
        """Tell the engine of the first write since a change was taken, and of the first confirmed one.

        Not while an asynchronous transaction is open: nothing of it may be taken, and what leaves
        the object meanwhile does not depend on it.
        """
        if self.has_failed:
            self.check()
        if self._announced or self.transactions:
            return
        if confirmed:
            self._on_write()
            self._announced = True
        elif not self._unconfirmed:
            self._on_unconfirmed()
            self._unconfirmed = True

    def read(self, key: str) -> Any:
        """Return a value, from memory or from the file, or ABSENT."""
        held = self._writes.find(key)
        if held is not UNKNOWN:
            return reveal(key, held)
        self.check()
        home = self._home()
        raw = key.encode()
        data = self.file.read(self._id.raw, raw) if home is None else home.read(raw)
        if data is None:
            value = held = ABSENT
        else:
            value, held = unpack(key, data)
        self._writes.learn(key, held)
        return value

    def contains(self, key: str) -> bool:
        """Return whether there is a key."""
        held = self._writes.find(key)
        if held is UNKNOWN:
            self.check()
            home = self._home()
            raw = key.encode()
            return self.file.contains(self._id.raw, raw) if home is None else home.contains(raw)
        return held is not ABSENT

    def write(self, key: str, held: Any) -> None:
        """Write a held value."""
        self.begin_write()
        self._writes.put(key, held)

    def remove(self, keys: tuple[str, ...] | list[str], *, confirmed: bool = True) -> int:
        """Delete keys and return how many were there."""
        found = [key for key in keys if self.contains(key)]
        if found:
            self.begin_write(confirmed=confirmed)
            for key in found:
                self._writes.put(key, ABSENT)
        return len(found)

    def rows(self, wanted: KeyRange) -> Generator[tuple[str, Any], None, None]:
        """Yield keys and held values of a range; nothing may be written before it is closed."""
        self.check()
        overlay = self._writes.overlay(wanted)
        limit = None if overlay else wanted.limit  # the overlay may hide rows
        with closing(self._stored(wanted, limit)) as stored:
            for raw, held in islice(merge(stored, overlay, reverse=wanted.reverse), wanted.limit):
                yield raw.decode(), held

    def pages(self, wanted: KeyRange) -> Iterator[tuple[str, Any]]:
        """Yield keys and values of a range, read a page at a time; writes meanwhile do no harm."""
        start, end, reverse, left = wanted
        while left is None or left > 0:
            most = max(PAGE_ROWS, self._writes.unclean)
            page, size = [], 0
            with closing(self.rows(wanted._replace(start=start, end=end))) as rows:
                for key, held in islice(rows, most if left is None else min(left, most)):
                    page.append((key, held))
                    size += len(getattr(held, "data", b""))
                    if size > PAGE_BYTES:
                        break
            if not page:
                return
            taken = self.changes_taken
            for key, held in page:
                value = self._newest(key, held, taken)
                if value is ABSENT:
                    continue
                yield key, value
                if left is not None:
                    left -= 1
            last = page[-1][0].encode()
            if reverse:
                end = last
            else:
                start = last + b"\0"

    def _newest(self, key: str, held: Any, taken: int) -> Any:
        """Return the value of a key, or ABSENT, that was held when so many changes had been taken."""
        now = self._writes.find(key)
        if now is UNKNOWN and taken != self.changes_taken:
            return self.read(key)
        now = held if now is UNKNOWN else now
        return ABSENT if now is ABSENT else reveal(key, now)

    def _stored(
        self, wanted: KeyRange, limit: int | None
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield what the file has in a range, unless all of it is void."""
        if not self._writes.hollow:
            home = self._home()
            start, end, reverse, _ = wanted
            if home is None:
                yield from self.file.scan(self._id.raw, start, end, reverse, limit)
            else:
                yield from home.scan(start, end, reverse, limit)

    def wipe(self, *, confirmed: bool = True) -> None:
        """Delete everything that the object keeps: entries, tables, the alarm."""
        self.check()
        if self._writes.undo:
            raise RuntimeError("Cannot call deleteAll() within a transaction")
        self.begin_write(confirmed=confirmed)
        home = self._home()
        if home is not None:
            home.begin()
            home.clear()
        self._writes.wipe()

    # --- the alarm -------------------------------------------------------------------------------

    def alarm(self) -> Alarm | None:
        """Return the object's alarm."""
        writes = self._writes
        if writes.alarm is UNKNOWN:
            self.check()
            writes.alarm = self._stored_alarm()
        found = writes.alarm
        assert found is None or isinstance(found, Alarm)
        return found

    def _stored_alarm(self) -> Alarm | None:
        row = self.file.alarm(self._id.raw)
        home = self._home()
        if home is None:
            return row
        time = home.alarm
        if time is None or (row is not None and row.scheduled == time):
            return None if time is None else row
        return Alarm(time, time)

    def put_alarm(self, alarm: Alarm | None, *, confirmed: bool = True) -> None:
        """Set the alarm, or delete it."""
        self.begin_write(confirmed=confirmed)
        self._writes.set_alarm(alarm)

    # --- SQL and savepoints ----------------------------------------------------------------------

    def _home(self) -> ObjectFile | None:
        """Return the object's own file, if its entries are there."""
        if self._homed is False:
            return None
        assert self._files is not None
        home = self._files.find(self._slot, self._id.raw)
        if self._homed is None:
            if home is not None:
                home.begin_session(self._id.raw)
            self._homed = home is not None
            # A kill may have come between the move and the end of what was moved.
            if home is not None and self._left_behind():
                self._owed = _Debt(moved=True)
        elif home is None:
            raise StorageError(f"the file of object {self._id} has lost its transaction")
        return home

    def _left_behind(self) -> bool:
        """Whether the slot file has something of the object's entries or records."""
        with closing(self.file.scan(self._id.raw, end=RECORDS_END, limit=1)) as rows:
            return next(rows, None) is not None

    def database(self) -> ObjectFile:
        """Return the object's own file; from now on its entries are there.

        Raises SqlError for a class without SQL, StorageError when there can be no file.
        """
        self.check()
        self._sqlite_only()
        assert self._files is not None
        home = self._home()
        if home is None:
            self.begin_write()
            raw, empty = self._id.raw, self._writes.hollow
            home = self._files.make(self._slot, raw)
            alarm = None if empty else self.file.alarm(raw)
            start = RECORDS if empty else b""
            home.found(
                self.file.scan(raw, start, RECORDS_END), None if alarm is None else alarm.scheduled
            )
            self._homed = self._moving = True
        return home

    def _sqlite_only(self) -> None:
        if self._files is None:
            raise SqlError(_NO_SQL)

    def begin_sql(self, file: ObjectFile) -> None:
        """Begin the turn's SQL transaction, unless it is open."""
        self.begin_write()
        file.begin(len(self._writes.undo))

    def refused(self, file: ObjectFile, error: apsw.Error) -> Exception:
        """Return what the script gets for an error of its statement; some end the object."""
        if not isinstance(error, FATAL):
            return file.refuse(error)
        lost = StorageError(f"object file {file.path} failed: {error}")
        lost.__cause__ = error
        if not self._announced:
            self._on_write()
            self._announced = True
        self.failed(lost)
        return lost

    @property
    def savepoints(self) -> int:
        """How many savepoints are open."""
        return len(self._writes.undo)

    def savepoint(self) -> None:
        """Open a savepoint, within the one that is open."""
        self.check()
        self._writes.begin()

    def end_savepoint(self, *, keep: bool) -> None:
        """Close the newest savepoint, and keep or undo what was written since."""
        if self.has_failed:
            self._writes.undo.pop()
            return
        if keep:
            self._writes.release()
        else:
            self._writes.undo_all()
        home = self._home() if self._homed else None
        if home is not None:
            home.end(len(self._writes.undo), keep=keep)

    def announce(self) -> None:
        """Tell the engine of what was written while it was not to know."""
        home = self._home() if self._homed else None
        if (
            self._writes.dirty
            or self._owed is not _NO_DEBT
            or (home is not None and home.in_transaction)
        ):
            self.begin_write()

    # --- for the engine --------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether something was written that no change has taken: entries, the alarm, or SQL."""
        if self._writes.dirty or not self._homed:
            return self._writes.dirty
        assert self._files is not None
        home = self._files.peek(self._slot, self._id.raw)  # a closed one is in no transaction
        return home is not None and home.in_transaction

    @property
    def changes_taken(self) -> int:
        """How many changes were taken. If neither this nor `is_dirty` changes, nothing was written."""
        return self._writes.sequence

    def records(self) -> Sequence[tuple[bytes, bytes]]:
        """Return the engine's records of this object, from its file: (key, value), in key order.

        Those that were written and not yet committed are not among them.
        """
        self.check()
        home = self._home()
        if home is None:
            return self.file.records(self._id.raw)
        return [*home.scan(RECORDS, RECORDS_END, reverse=False, limit=None)]

    def record(self, key: bytes, value: Callable[[], bytes] | None) -> None:
        """Write a record with this turn's writes, or delete it; `key` begins with RECORDS.

        `value` is called when the change is taken, so that a record that grows is made once.
        Raises RuntimeError within a transaction, which would not undo it. Events never are within
        one: they go on through the input gate, which `transaction()` keeps closed to its end.
        """
        if self._writes.undo:
            raise RuntimeError("a record cannot be written within a transaction")
        self.begin_write()
        self._writes.records[key] = value

    def take_rows(self, rows: Rows, clock: Callable[[], float]) -> int:
        """Append what was written to rows, if that is all; see `WriteSet.take_rows`."""
        if self._homed is not False:
            try:
                home = self._home()
            except Exception:
                return 0  # `take_changes` says so
            if home is not None:
                return 0
        writes = self._writes
        size = writes.take_rows(rows, clock)
        if size:
            self._announced = self._unconfirmed = False
            self._pending = writes.pending  # a new one
            if self._waiting:
                self._wake()
        return size

    def take_changes(self) -> Change | None:
        """Hand over what was written since the last call, for commit; None if there is nothing.

        Reads see it as before. Changes must be committed to the file in the order they were taken.
        """
        self._announced = self._unconfirmed = False
        home = None if self._homed is False else self._home()
        change = self._writes.take() if home is None else self._take_home(home)
        self._pending = self._writes.pending  # a new one
        if self._waiting:
            self._wake()
        return change

    def _take_home(self, home: ObjectFile) -> Change | None:
        """Put the entries into the own file's transaction, and return the slot file's part."""
        paid, self._owed = self._owed, _NO_DEBT
        change = self._writes.take(more=home.in_transaction or paid is not _NO_DEBT)
        if change is None:
            return None
        due = _Debt(moved=self._moving)
        wrote = home.in_transaction or change.alarm is not KEEP
        if change.wipe or change.puts or change.deletes:
            wrote = True
        if wrote or change.records:
            home.apply(change)
        alarm = paid.alarm
        if change.alarm is not KEEP:
            wanted = change.alarm
            assert wanted is None or isinstance(wanted, Alarm)
            home.set_alarm(None if wanted is None else wanted.scheduled)
            row = self.file.alarm(self._id.raw)
            if wanted is not None and (row is None or wanted.due <= row.due):
                alarm = wanted
            else:
                alarm = KEEP
                due.alarm = wanted if row is not None else KEEP
        if change.wipe:
            due.shrink = True
            due.forget = change.alarm is None and home.hollow
        written = home.in_transaction
        forget = paid.forget and not wrote
        if forget:
            self._writes.forgotten()
        self._moving = False
        self._incurred = due
        self._freeing = paid.shrink
        return change._replace(
            register=change.register and wrote,
            wipe=False,
            puts=(),
            deletes=(),
            records=(),
            forget=forget,
            alarm=alarm,
            home=home if written else None,
            moved=paid.moved,
        )

    def committed(self, change: Change | None) -> None:
        """Take note that a change is durable; None for rows."""
        self._writes.committed(change)
        if change is not None and change.alarm is not KEEP and self._on_alarm is not None:
            assert change.alarm is None or isinstance(change.alarm, Alarm)
            self._on_alarm(change.alarm)
        if self._homed and not self.has_failed:
            self._settle()

    @property
    def ends_history(self) -> bool:
        """Whether a deleteAll() is under way, with which what the own file knows of the past ends."""
        debts = self._owed, self._incurred
        wiped = self._writes.wiped or self._writes.hollow
        return wiped or self._freeing or any(debt.shrink for debt in debts)

    def _settle(self) -> None:
        """Have paid what a durable change of the own file has made due."""
        due, self._incurred = self._incurred, _NO_DEBT
        if self._freeing:
            self._freeing = False
            self._free(due)
        if due != _NO_DEBT:
            self._owed = due
            self.begin_write()

    def _free(self, due: _Debt) -> None:
        """Give back the disk that the own file took before everything in it was deleted."""
        home = self._home()
        assert home is not None
        if home.in_transaction:
            due.shrink = True
            return
        try:
            if due == _NO_DEBT and home.hollow and not home.has_records and not self._writes.dirty:
                assert self._files is not None
                self._files.remove(self._slot, self._id.raw)
                self._homed = False
            else:
                home.shrink()
        except StorageError as error:  # the room is used again all the same
            _log.warning("deleteAll() of %s freed no disk: %s", self._id, error)

    def failed(self, cause: Exception | None = None) -> None:
        """Drop what is not committed and refuse all use from now on: the object was reset."""
        self.has_failed = True
        self._announced = self._unconfirmed = False  # the next write comes to `check()`
        self.cause = self.cause or cause
        self._writes.drop()
        self._wake()
        if self._homed:
            assert self._files is not None
            home = self._files.peek(self._slot, self._id.raw)
            if home is not None:
                home.roll_back()

    def retire(self) -> None:
        """Refuse all use from now on: the object has left memory, and may be there anew."""
        self.has_failed = self.has_left = True
        self._writes.drop()

    async def taken(self) -> None:
        """Wait until everything written so far was taken."""
        while self._announced or self._unconfirmed:
            future = asyncio.get_running_loop().create_future()
            self._waiting[future] = None
            await future
            self.check()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)
