"""What one object has written and read, in memory: its write set and its read cache in one.

Every key is in one of three states: *pending* (written, no commit has taken it), *flying* (taken by
a commit that is not yet durable), or *clean* (as in the file). The newest state of each key that is
in memory is in `known`, so one look-up answers a read whatever is under way. Pending and flying
keys never leave memory; clean ones do, the oldest first, when there are too many of them.

Changes are taken, and committed to the file, in order; several may be under way at once. Inside a
savepoint each write leaves behind what it replaced, so that a transaction can be undone. Plain
synchronous code without I/O, owned by its ObjectStorage.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtime.storage.values import Packed, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from runtime.ids import ObjectId
    from runtime.storage.alarm import Alarm
    from runtime.storage.arguments import KeyRange
    from runtime.storage.journal import Rows
    from runtime.storage.object_file import ObjectFile

__all__ = [
    "ABSENT",
    "CACHE_BYTES",
    "KEEP",
    "RECORDS",
    "RECORDS_END",
    "UNKNOWN",
    "Change",
    "Mark",
    "WriteSet",
    "merge",
]

CACHE_BYTES: Final = 1 << 20
"""How much memory the clean keys of one object may take, about."""

_ENTRY_BYTES: Final = 200
"""What an entry takes beside its value: the key, and its place in the dict."""


LARGE_CHANGE: Final = 256 << 10
"""Bytes of a change that goes past the journal, since it is longer to write than to sync."""


class Mark:
    """A state that is not a value."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


RECORDS: Final = b"\xff"
"""Begins the keys of records: entries that the engine keeps for an object, beside its own.

No script sees them, because UTF-8 text has no such byte and `list()` ends before it; deleteAll()
leaves them. They commit with the object's writes, in one transaction,
so they are always where its entries are.
"""
RECORDS_END: Final = b"\xff\xff"
"""Comes after the keys of all records: none goes on with such a byte again."""

ABSENT: Final = Mark("ABSENT")
"""The key is known not to exist."""
UNKNOWN: Final = Mark("UNKNOWN")
"""Memory does not know: the file must be asked."""
KEEP: Final = Mark("KEEP")
"""The change leaves the alarm as it is."""


class Change(NamedTuple):
    """The writes of one object that belong in one transaction; bytes only, nothing can fail later.

    The wipe comes first, then the deletes and the puts, which have no key in common. (A NamedTuple:
    one is made per object and commit, and a frozen dataclass takes three times as long.)
    """

    object_id: bytes
    class_name: str
    name: str | None
    register: bool
    """Whether the object may not be in the register yet."""
    wipe: bool
    """Whether all entries the object had go first."""
    puts: Collection[tuple[bytes, bytes, bytes]]
    """(object id, key, value)."""
    deletes: Collection[tuple[bytes, bytes]]
    """(object id, key)."""
    sequence: int = 0
    """The change's number among those of its activation."""
    records: Collection[tuple[bytes, bytes, bytes | None]] = ()
    """(object id, record's key, value, or None to delete it): the engine's own; see RECORDS."""
    forget: bool = False
    """Whether nothing of the object is left, so that it leaves the register."""
    alarm: Alarm | Mark | None = KEEP
    """The object's alarm from now on, None for none, or KEEP."""
    home: ObjectFile | None = None
    """The object's own file, if its entries are there: it commits after the slot file."""
    moved: bool = False
    """Whether what the slot file has of the entries goes, records too: the own file has all."""

    @classmethod
    def gone(cls, object_id: bytes, class_name: str) -> Change:
        """Return the change after which the slot file has nothing of an object."""
        return cls(
            object_id,
            class_name,
            None,
            register=False,
            wipe=False,
            puts=(),
            deletes=(),
            forget=True,
            alarm=None,
            moved=True,
        )


class WriteSet:
    """See the module's text. `known` and `pending` map keys to held values or ABSENT."""

    __slots__ = (
        "_class_name",
        "_entered",
        "_flying",
        "_hollow",
        "_name",
        "_raw",
        "_registered",
        "_trim_at",
        "alarm",
        "alarm_set",
        "known",
        "pending",
        "records",
        "sequence",
        "undo",
        "wiped",
    )

    known: dict[str, Any]
    """The newest state of each key in memory."""
    pending: dict[str, Any]
    """What was written since the last change was taken."""
    records: dict[bytes, Callable[[], bytes] | None]
    """Records to be written with it; their values are asked for when the change is taken."""
    sequence: int
    """How many changes were taken."""
    wiped: bool
    """Whether the change that is gathering begins with a wipe."""
    alarm: Alarm | Mark | None
    """The newest state of the alarm, or UNKNOWN."""
    alarm_set: bool
    """Whether the alarm was set or deleted since the last change was taken."""
    undo: list[list[tuple[Any, Any, Any]]]
    """For each open savepoint, what its writes replaced: (key, known, pending), in order."""

    def __init__(self, object_id: ObjectId, class_name: str) -> None:
        self._raw = object_id.raw
        self._name = object_id.name
        self._class_name = class_name
        self.known = {}
        self.pending = {}
        self.records = {}
        self.wiped = False
        self.alarm = UNKNOWN
        self.alarm_set = False
        self.undo = []
        self._flying: list[Collection[str]] = []  # for each change under way its keys, in order
        self._hollow: int | None = None  # the last change with a wipe that the file may lack
        self.sequence = 0
        self._registered = False
        self._entered = 0  # an upper bound of the bytes in `known`, without what is pending
        self._trim_at = CACHE_BYTES

    @property
    def hollow(self) -> bool:
        """Whether what the file has for this object is void: a wipe is on its way there."""
        return self._hollow is not None

    @property
    def dirty(self) -> bool:
        """Whether there is something to commit."""
        return bool(self.pending or self.records) or self.wiped or self.alarm_set

    @property
    def unclean(self) -> int:
        """How many keys the file may lack, at most."""
        return len(self.pending) + sum(map(len, self._flying))

    def find(self, key: str) -> Any:
        """Return the held value, ABSENT or UNKNOWN."""
        return self.known.get(key, UNKNOWN if self._hollow is None else ABSENT)

    def put(self, key: str, held: Any) -> None:
        """Write a held value, or ABSENT to delete the key."""
        if self.undo:
            was = self.known.get(key, UNKNOWN), self.pending.get(key, UNKNOWN)
            self.undo[-1].append((key, *was))
        self.known[key] = self.pending[key] = held

    def set_alarm(self, alarm: Alarm | None) -> None:
        """Set the alarm, or delete it."""
        if self.undo:
            self.undo[-1].append((None, self.alarm, self.alarm_set))
        self.alarm = alarm
        self.alarm_set = True

    def wipe(self) -> None:
        """Delete everything, also what earlier changes under way will have written."""
        self.known.clear()
        self.pending.clear()
        self._flying = [()] * len(self._flying)
        self._entered = 0
        self.wiped = True
        self._hollow = self.sequence
        self.alarm = None
        self.alarm_set = True

    def begin(self) -> None:
        """Open a savepoint. They nest; nothing is taken, and nothing wiped, while one is open."""
        self.undo.append([])

    def release(self) -> None:
        """Close the newest savepoint and keep what was written since."""
        writes = self.undo.pop()
        if self.undo:
            self.undo[-1] += writes

    def undo_all(self) -> None:
        """Close the newest savepoint and undo what was written since."""
        for key, known, pending in reversed(self.undo.pop()):
            if key is None:
                self.alarm, self.alarm_set = known, pending
                continue
            _restore(self.known, key, known)
            _restore(self.pending, key, pending)

    def learn(self, key: str, held: Any) -> None:
        """Remember what the file has for a key that was UNKNOWN."""
        size = _size(held)
        if size <= CACHE_BYTES // 4:
            self.known[key] = held
            self._entered += size
            if self._entered > self._trim_at:
                self._trim()

    def take_rows(self, rows: Rows, clock: Callable[[], float]) -> int:
        """Append what is pending to rows of a commit, and return how many bytes it has, about.

        0, and nothing is done, when it is more than puts and deletes, or is large. Or when it fails: then
        `take` does so too, and says why. Nearly all that is written is taken here, in a third of the time.
        """
        pending, records = self.pending, self.records
        if self.wiped or self.alarm_set or not (pending or records):
            return 0
        puts, deletes, registers = rows
        raw, size = self._raw, (len(pending) + len(records)) * _ENTRY_BYTES
        were = len(puts), len(deletes)
        try:
            for key, held in pending.items():
                if held is ABSENT:
                    deletes.append((raw, key.encode()))
                else:
                    data = pack(held)
                    puts.append((raw, key.encode(), data))
                    size += len(data)
            made = len(puts) > were[0]  # records alone make no object, nor does what is deleted
            for record, value in records.items():
                if value is None:
                    deletes.append((raw, record))
                else:
                    puts.append((raw, record, value()))
        except Exception:
            size, made = LARGE_CHANGE + 1, False
        if size > LARGE_CHANGE:
            del puts[were[0] :], deletes[were[1] :]
            return 0
        if made and not self._registered:
            registers.append((raw, self._class_name, self._name, clock()))
            self._registered = True
        self._entered += size
        if records:
            records.clear()
        self._flying.append(pending)
        self.pending = {}
        self.sequence += 1
        return size

    def take(self, *, more: bool = False) -> Change | None:
        """Hand over what is pending, for a commit; None if there is nothing. Reads do not notice.

        `more` says that the object has written something beside its entries.
        """
        if not (more or self.dirty):
            return None
        raw, pending = self._raw, self.pending
        puts: list[tuple[bytes, bytes, bytes]] = []
        deletes: list[tuple[bytes, bytes]] = []
        entered = len(pending) * _ENTRY_BYTES
        for key, held in pending.items():
            if held is ABSENT:
                deletes.append((raw, key.encode()))
            else:
                data = pack(held)
                puts.append((raw, key.encode(), data))
                entered += len(data)
        self._entered += entered
        # An object that was wiped and has nothing since is forgotten; its next write is a new first.
        # Records alone make no object: they may be of one that was forgotten. Nor does what is deleted.
        alarm = self.alarm if self.alarm_set else KEEP
        made = bool(puts) or more or alarm not in (None, KEEP)
        exists = made or not self.wiped
        change = Change(
            raw,
            self._class_name,
            self._name,
            made and not self._registered,
            self.wiped,
            puts,
            deletes,
            self.sequence,
            [(raw, key, None if value is None else value()) for key, value in self.records.items()]
            if self.records
            else (),
            not exists,
            alarm,
        )
        self._registered = made or (exists and self._registered)
        self._flying.append(pending)
        self.pending = {}
        self.sequence += 1
        self.wiped = self.alarm_set = False
        self.records.clear()
        return change

    def forgotten(self) -> None:
        """Take note that the object leaves the register: its next write is a new first."""
        self._registered = False

    def committed(self, change: Change | None) -> None:
        """Take note that a change, or rows, are durable; their keys are clean, unless rewritten."""
        if self._flying:  # not if the object was reset meanwhile
            del self._flying[0]
        if (
            self._hollow is not None
            and change is not None  # rows have no wipe
            and change.sequence >= self._hollow
        ):
            self._hollow = None
        if self._entered > CACHE_BYTES:
            self._trim()

    def overlay(self, wanted: KeyRange) -> list[tuple[bytes, Any]]:
        """Return what the file may lack in a range, in its order: (key, held value or ABSENT)."""
        found = [
            (raw, self.known[key]) for key in self._pinned() if (raw := key.encode()) in wanted
        ]
        found.sort(key=_first, reverse=wanted.reverse)
        return found

    def drop(self) -> None:
        """Forget everything: the object was reset."""
        self.known.clear()
        self.pending.clear()
        self.records.clear()
        self._flying.clear()
        for writes in self.undo:
            writes.clear()
        self.alarm = UNKNOWN
        self.wiped = self.alarm_set = False
        self._hollow = None

    def _pinned(self) -> set[str]:
        """Return the keys that may not leave memory: the file may lack what they are."""
        return set(self.pending).union(*self._flying)

    def _trim(self) -> None:
        known, pinned = self.known, self._pinned()
        total = sum(map(_size, known.values()))
        if total > CACHE_BYTES:
            # Half, so that the walk is made once in a while and not at every read.
            for key in [key for key in known if key not in pinned]:
                total -= _size(known.pop(key))
                if total <= CACHE_BYTES // 2:
                    break
        self._entered = total
        self._trim_at = max(CACHE_BYTES, total + CACHE_BYTES // 2)


def merge(
    rows: Iterable[tuple[bytes, bytes]], overlay: list[tuple[bytes, Any]], *, reverse: bool
) -> Iterator[tuple[bytes, Any]]:
    """Yield (key, held value) of the file's rows with the overlay laid over them, in order."""
    upcoming = iter(overlay)
    above = next(upcoming, None)
    for key, data in rows:
        while above is not None and (above[0] > key if reverse else above[0] < key):
            if above[1] is not ABSENT:
                yield above
            above = next(upcoming, None)
        if above is None or above[0] != key:
            yield key, Packed(data)
    while above is not None:
        if above[1] is not ABSENT:
            yield above
        above = next(upcoming, None)


def _restore(states: dict[str, Any], key: str, state: Any) -> None:
    if state is UNKNOWN:
        states.pop(key, None)
    else:
        states[key] = state


def _first(entry: tuple[bytes, Any]) -> bytes:
    return entry[0]


def _size(held: Any) -> int:
    return _ENTRY_BYTES + getsizeof(held.data if type(held) is Packed else held)
