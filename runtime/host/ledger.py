"""What one object remembers of items, so that none is applied twice.

A note of an item (its id and its result) commits in one transaction with what the item wrote: both
are durable, or neither. The notes of one run are one record beside the object's entries.

Nothing is kept for ever. Notes of a job that counts its items go when the job says that those items
will not come again. Of ids that callers chose, the last 1,024 of an object are kept. An object
remembers 8 jobs; one more, and the one without a checkpoint goes that wrote longest ago, or if all
have checkpoints, of those. deleteAll() leaves the notes.
"""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runtime.storage import RECORDS
from runtime.storage.values import hold, reveal
from runtime.wire.runs import GIVEN, PASSING
from workers.errors import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from runtime.storage import ObjectStorage
    from runtime.wire.runs import ItemId

GIVEN_IDS: Final = 1024
"""How many chosen ids an object remembers."""

JOBS: Final = 8
"""How many jobs that count their items an object remembers."""

_NO_LIMIT: Final = 1 << 62
_NUMBER_BYTES: Final = 8


class Note:
    """One call that was applied: the ids of its items and what it returned."""

    __slots__ = ("held", "ids")

    def __init__(self, ids: tuple[ItemId, ...], held: Any) -> None:
        self.ids = ids
        self.held = held

    def value(self) -> Any:
        """Return what the call returned, as a copy."""
        return reveal("the reply", self.held)


@dataclass(slots=True)
class Record:
    """The notes of one run."""

    key: bytes
    written: float
    notes: list[Note] = field(default_factory=list)
    forgotten: bool = False

    def pack(self) -> bytes:
        """Return what is stored."""
        return pickle.dumps((self.written, [(note.ids, note.held) for note in self.notes]), 5)


class Ledger:
    """See the module's text. Belongs to one activation."""

    __slots__ = ("_clock", "_jobs", "_notes", "_numbers", "_storage", "_under_way")

    def __init__(self, storage: ObjectStorage, clock: Callable[[], float] = time.time) -> None:
        """Read what the object remembers. Raises StorageError."""
        self._storage = storage
        self._clock = clock
        self._jobs: dict[str, list[Record]] = {}
        self._numbers: dict[str, int] = {}
        self._notes: dict[tuple[str, ItemId], Note] = {}
        self._under_way: dict[tuple[str, ItemId], None] = {}
        for key, data in storage.records():
            written, notes = pickle.loads(data)
            job = key[len(RECORDS) : -_NUMBER_BYTES].decode()
            record = Record(key, written, [Note(*note) for note in notes])
            self._jobs.setdefault(job, []).append(record)
            self._numbers[job] = int.from_bytes(key[-_NUMBER_BYTES:], "big")
            for note in record.notes:
                for item in note.ids:
                    self._notes[job, item] = note

    def begin(self, job: str, answered: int) -> None:
        """Begin a run: forget what need not be remembered any more."""
        records = self._jobs.get(job)
        if not records:
            return
        if job == GIVEN:
            kept = sum(len(note.ids) for record in records for note in record.notes)
            while (
                kept > GIVEN_IDS and len(records) > 1
            ):  # the last may be of the run that comes again
                kept -= self._forget(job, records.pop(0))
        else:
            while records and max(records[0].notes[-1].ids) < answered:  # type: ignore[operator]
                self._forget(job, records.pop(0))

    def find(self, job: str, item: ItemId) -> Note | None:
        """Return the note of an item that was applied."""
        return self._notes.get((job, item))

    def refuse_under_way(self, job: str, items: Collection[ItemId]) -> None:
        """Raise RoostError, retryable, when an item is being applied for another caller.

        That one may have been killed, and its successor sends the item again.
        """
        if self._under_way:
            for item in items:
                if (job, item) in self._under_way:
                    raise RoostError(
                        f"item {item!r} is being applied for another caller; call again for its "
                        "result",
                        retryable=True,
                    )

    def start(self, job: str, items: Collection[ItemId]) -> None:
        """Take items as being applied, until `end`."""
        for item in items:
            self._under_way[job, item] = None

    def end(self, job: str, items: Collection[ItemId]) -> None:
        """Take note that items are not being applied any more."""
        for item in items:
            self._under_way.pop((job, item), None)

    def note(self, record: Record | None, job: str, ids: tuple[ItemId, ...], value: Any) -> Record:
        """Remember a call with what it wrote in this turn, in the record of its run.

        The first call of a run has none. Raises TypeError when the value cannot be stored.
        """
        note = Note(ids, hold("the reply", value, _NO_LIMIT))
        if record is None or record.forgotten:
            record = self._new_record(job)
        record.notes.append(note)
        for item in ids:
            self._notes[job, item] = note
        self._storage.record(record.key, record.pack)
        return record

    def _new_record(self, job: str) -> Record:
        records = self._jobs.get(job)
        if records is None:
            counted = [name for name in self._jobs if name != GIVEN]
            if job != GIVEN and len(counted) >= JOBS:
                oldest = min(counted, key=self._worth)
                for record in self._jobs.pop(oldest):
                    self._forget(oldest, record)
            records = self._jobs[job] = []
        number = self._numbers[job] = self._numbers.get(job, 0) + 1
        key = RECORDS + job.encode() + number.to_bytes(_NUMBER_BYTES, "big")
        record = Record(key, self._clock())
        records.append(record)
        return record

    def _worth(self, job: str) -> tuple[bool, float]:
        """Order jobs by how little it matters to forget them."""
        records = self._jobs[job]
        return not job.startswith(PASSING), records[-1].written if records else 0.0

    def _forget(self, job: str, record: Record) -> int:
        self._storage.record(record.key, None)
        record.forgotten = True
        forgotten = 0
        for note in record.notes:
            for item in note.ids:
                forgotten += 1
                if self._notes.get((job, item)) is note:
                    del self._notes[job, item]
        return forgotten
