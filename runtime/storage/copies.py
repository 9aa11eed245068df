"""Copies of objects, made by whoever owns their files while it goes on using them.

A copy of a slot has the same layout as a data directory. Each object in it is as it was at one
moment, between two turns: one that has only entries, when the copy of the slot file ended; one with
a file of its own, when the copy of that ended, with its rows of the slot file, and its history, from
the same moment. That is what a kill at that moment would have left, so it is whole.

The copying functions are generators that yield how many seconds others may have before they go on.
What belongs to an object's own file is copied and deleted by `object_file`, and known to nobody else.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apsw

from runtime.config import Limits
from runtime.storage.layout import own_file, own_files, slot_path
from runtime.storage.object_file import ObjectFile
from runtime.storage.write_set import RECORDS, Change
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from runtime.storage.object_files import ObjectFiles
    from runtime.storage.slot_file import ObjectRecord, SlotFile

__all__ = ["Facts", "copy_object", "copy_slot", "delete_object", "facts_of"]

PAGE: Final = 1000
"""Entries that are copied at a time."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an object has stored."""

    record: ObjectRecord
    slot: int
    alarm: int | None
    """When it rings, in milliseconds since 1970."""
    entries: int
    entry_bytes: int
    """Of keys and stored values."""
    tables: tuple[tuple[str, int], ...]
    """Its SQL tables, each with how many rows it has."""
    file_bytes: int | None
    """In use in the object's own file; None without one."""


def facts_of(slot: int, file: SlotFile, files: ObjectFiles, raw: bytes) -> Facts | None:
    """Return what an object has stored, None when it has nothing. Raises StorageError."""
    record = file.record(raw)
    if record is None:
        return None
    home = files.find(slot, raw)
    if home is None:
        alarm = file.alarm(raw)
        at = None if alarm is None else alarm.scheduled
        return Facts(record, slot, at, *file.measure(raw), (), None)
    return Facts(record, slot, home.alarm, *home.measure(), tuple(home.tables()), home.size)


def delete_object(slot: int, file: SlotFile, files: ObjectFiles, raw: bytes) -> None:
    """Delete all that an object has stored. Durable after the slot file's next sync.

    Its own file goes first: what is killed in between still has a place in the register.
    """
    files.delete(slot, raw)
    file.commit([Change.gone(raw, "")])


def copy_slot(
    data: Path, slot: int, file: SlotFile, files: ObjectFiles, target: Path, *, history: bool = True
) -> Generator[float, None, None]:
    """Copy a slot's file and its objects' own files to another directory. Raises StorageError.

    With `history` an own file's copy has its history up to the same moment.
    """
    path = slot_path(target, slot)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield from file.copy_to(path)
    own = [raw for raw, _ in own_files(data, slot)]
    if not own:
        return
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
        copy.execute("PRAGMA synchronous = OFF; BEGIN").fetchall()
        for raw in own:
            its = own_file(target, slot, raw)
            its.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            home = yield from _copy_own(slot, files, raw, its)
            file.copy_rows(raw, copy, entries=home is None)
            if home is not None and history:
                yield from home.copy_history_to(its)
            yield 0.0
        copy.execute("COMMIT")


def copy_object(
    slot: int, file: SlotFile, files: ObjectFiles, raw: bytes, target: Path
) -> Generator[float, None, None]:
    """Copy an object as an own file. One that has none may not write meanwhile."""
    if (yield from _copy_own(slot, files, raw, target)) is not None:
        return
    alarm = file.alarm(raw)
    with closing(ObjectFile(target, durability="relaxed", limits=Limits())) as copy:
        copy.found((), None if alarm is None else alarm.scheduled)
        start = b""
        while page := [*file.scan(raw, start, RECORDS, limit=PAGE)]:
            puts = [(raw, key, value) for key, value in page]
            copy.apply(Change.gone(raw, "")._replace(puts=puts))
            start = page[-1][0] + b"\0"
            yield 0.0
        copy.commit()
    with closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as alone:
        alone.execute("PRAGMA journal_mode = DELETE").fetchall()


def _copy_own(
    slot: int, files: ObjectFiles, raw: bytes, target: Path
) -> Generator[float, None, ObjectFile | None]:
    """Copy an object's own file; returns that, if it has one."""
    while (home := files.find(slot, raw)) is not None:
        home.rounds += 1  # so that it is not closed
        try:
            yield from home.copy_to(target)
        except StorageError:
            with suppress(FileNotFoundError):
                target.unlink()
            if files.peek(slot, raw) is home:
                raise
            continue  # deleteAll() has removed it
        finally:
            home.rounds -= 1
        return home
    return None
