"""A host's journal: one disk sync for the puts of all its slot files.

A round of puts and deletes to many objects touches as many files as the host has slots. Instead of a
transaction and a sync in each, the rows are appended here, and synced once; the files *catch up* later,
in transactions that nobody waits for, in which many writes to a key are one. Until then each file
keeps what it lacks in memory, and its reads look there.

The journal starts anew when it is long: in one round all files of it catch up, their own logs are
synced, and then it gets a new id, which makes void what it has. Everything but puts and deletes
(alarms, deleteAll) is committed in the files themselves; a file catches up in the same transaction.

So that nothing is lost or done twice, a slot file writes down in each transaction in which it catches
up which journal it is in, the journal's id and how many of its records the file has. Whoever opens the
file next, after a kill or a power cut, brings in the records after these (`rows_after`). No other file
knows of a journal, and it is written by its host alone.

A record is its length, a checksum over the journal's id, the record's number and its content, and the
content: for each file its name, rows, deleted keys, what it needs, and new objects. Reading ends at the first
that is not whole.

Without syncs (durability "relaxed") a power cut may leave of each file another end. A record must not
be brought in then if a commit that the file made by itself before it is lost. So each such commit has a
mark with a number of its own, and later records need that mark. Such a number is no record's: the next
record follows one whose content is only the number that comes then (`divide`).
"""

from __future__ import annotations

import logging
import marshal
import os
import secrets
from contextlib import suppress
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias
from zlib import crc32

from runtime.directories import sync_directory
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Literal

    from runtime.storage.slot_file import SlotFile

__all__ = ["JOURNAL_BYTES", "Journal", "Registration", "Rows", "forget", "members_of", "rows_after"]

_log = logging.getLogger("roost.storage")

JOURNAL_BYTES: Final = 8 << 20
"""How long a journal gets before it starts anew. To bring in so much takes 0.1 s."""

Registration: TypeAlias = "tuple[bytes, str, str | None, float]"
"""What the register has of an object: id, class, name, and since when, in seconds since 1970."""

Rows: TypeAlias = (
    "tuple[list[tuple[bytes, bytes, bytes]], list[tuple[bytes, bytes]], list[Registration]]"
)
"""Puts, (object id, key, value), deletes, (object id, key), of different keys, and objects that may be new."""

_MAGIC: Final = b"roost-j1"
_HEAD: Final = Struct("<8sQI")  # magic, id, checksum
_RECORD: Final = Struct("<II")  # length, checksum
_PLAIN: Final = 2
"""The version of marshal's format: bytes, text and lists are the same in it for all of Python 3."""

_ROOM: Final = 256 << 10
"""The file grows by so many bytes, since a sync that need not tell of its size takes two thirds."""


class Journal:
    """See the module's text. Belongs to its host's loop, except `sync`, which another thread calls."""

    KIND: Final = "journal"

    id: int
    """Its name until it starts anew; no two are the same."""
    number: int
    """The number of its next record: how many it has, if nothing divides them."""
    relaxed: bool
    """Whether nothing is synced."""
    starting: bool
    """Whether it can take nothing before it has started, which the next round's `sync` does."""
    unsound: bool
    """Whether a sync failed: what it has on disk is unknown, until it starts anew."""
    members: set[SlotFile]
    """The files that have had records since it started: they must catch up before it starts anew."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["strict", "relaxed"] = "strict",
        fdatasync: Callable[[int], None] = os.fdatasync,
        pwrite: Callable[[int, memoryview, int], int] = os.pwrite,
    ) -> None:
        """The file is made by the first round; `fdatasync` and `pwrite` are replaced by tests only."""
        self.path = path
        self.members = set()
        self.relaxed = durability == "relaxed"
        self._fdatasync = fdatasync
        self._pwrite = pwrite
        self._fd: int | None = None
        self._room = 0  # the file's size
        self.unsound = False
        self._stranded = False  # a file was closed and lacks something that this one has
        self._restart()

    def _restart(self) -> None:
        if self._stranded:
            self._leave_behind()
        self.id = secrets.randbits(63)
        self.number = self._counted = 0
        self.starting = True
        self._end = _HEAD.size

    @property
    def needs_sync(self) -> bool:
        """Whether `sync()` does anything."""
        return self.starting or not self.relaxed

    def takes(self) -> bool:
        """Return whether the next round may append; otherwise it must make the journal start."""
        if self.starting or self.unsound or self._stranded or self._end > JOURNAL_BYTES:
            self._restart()  # once more if it could not start: a file may be stranded since
        return not self.starting

    def append(self, rows: Mapping[SlotFile, Rows]) -> None:
        """Append a record, durable after `sync()`. Raises StorageError, and has not done it then."""
        content = marshal.dumps(
            [(file.label, *its[:2], file.needs, *its[2:]) for file, its in rows.items()], _PLAIN
        )
        data = self._record(self.number, content)
        if self.number != self._counted:
            data = self._record(self._counted, marshal.dumps(self.number, _PLAIN)) + data
        end = room = self._end + len(data)
        if end > self._room:
            room += -end % _ROOM
            data += bytes(room - end)
        try:
            self._write(data, self._end)
        except OSError as cause:
            self._take_back()
            raise StorageError(f"journal {self.path} cannot be written: {cause}") from cause
        self._room = max(self._room, room)
        self._end = end
        self.number = self._counted = self.number + 1
        self.members.update(rows)

    def _record(self, number: int, content: bytes) -> bytes:
        return _RECORD.pack(len(content), _checksum(self.id, number, content)) + content

    def divide(self) -> int:
        """Return the number of a mark that tells a file's own commit from all that were made before."""
        self.number += 1
        return self.number

    def _take_back(self) -> None:
        """Make void what there may be of a record that failed, so that nobody brings it in."""
        self.unsound = True  # the record may be on disk, and this not
        with suppress(OSError):
            self._write(bytes(_RECORD.size), self._end)

    def _write(self, data: bytes, offset: int) -> None:
        assert self._fd is not None
        left = memoryview(data)
        while left:
            done = self._pwrite(self._fd, left, offset)
            left, offset = left[done:], offset + done

    def sync(self) -> None:
        """Make durable what was appended, or have the journal start. Raises StorageError.

        It may start only when all its members have caught up, durably.
        """
        try:
            if self.starting:
                self._start()
            else:
                self._make_durable()
        except OSError as cause:
            if self.starting and not self.unsound:
                _log.warning(
                    "every commit syncs its own file: %s cannot start: %s", self.path, cause
                )
            self.unsound = True
            raise StorageError(f"journal {self.path} is not durable: {cause}") from cause

    def _make_durable(self) -> None:
        assert self._fd is not None
        if not self.relaxed:
            self._fdatasync(self._fd)

    def _start(self) -> None:
        is_new = self._fd is None or self.unsound
        if is_new:
            # The kernel may have dropped pages of one that failed, and not tell of it again.
            self._discard()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
            self._room = 0
        head = _HEAD.pack(_MAGIC, self.id, _checksum(self.id, 0, _MAGIC))
        self._write(head, 0)
        self._room = max(self._room, len(head))
        self._make_durable()
        if is_new:
            sync_directory(self.path.parent)
        self.unsound = False
        self.members.clear()
        self.starting = False

    def _discard(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.path.unlink(missing_ok=True)

    def leave(self, file: SlotFile, *, has_all: bool) -> None:
        """Take note that a file is closed. Without having all, it is brought up by its next opening."""
        self._stranded = self._stranded or (not has_all and file in self.members)
        self.members.discard(file)

    def _leave_behind(self) -> None:
        """Go on in another file; the next start of the instance removes this one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        host = self.path.name.partition("-")[0]
        self.path = self.path.with_name(f"{host}-{secrets.token_hex(4)}{self.path.suffix}")
        self._stranded = self.unsound = False

    def close(self) -> None:
        """Close the journal, and remove it unless a file lacks something that it has."""
        if self._fd is None:
            return
        if self.members or self._stranded:
            os.close(self._fd)
            self._fd = None
        else:
            with suppress(OSError):  # the next start of the instance does it
                self._discard()


def rows_after(path: Path, journal: int, number: int, label: str) -> Iterator[Rows]:
    """Yield what a journal has of a file after its first `number` records, in order.

    Nothing if it is not there, or has started anew under another id since. Raises OSError.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    its, records = _read(path, found.st_ino, found.st_mtime_ns)
    if its == journal:
        for at, rows, needs in records.get(label, ()):
            if needs > number:
                return  # what the file lacks was committed before
            if at >= number:
                yield rows


def members_of(path: Path) -> list[str]:
    """Return the labels of the files that a journal has records of. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:  # its host has ended
        return []
    return [*_read(path, found.st_ino, found.st_mtime_ns)[1]]


def forget() -> None:
    """Forget what was read: a journal that is written to may not look like another one."""
    _read.cache_clear()


@lru_cache(maxsize=1)  # the files of a host are opened one after the other
def _read(
    path: Path, _inode: int, _changed: int
) -> tuple[int, dict[str, list[tuple[int, Rows, int]]]]:
    """Return a journal's id, and by file the numbers, rows and needs of its records."""
    data = path.read_bytes()
    records: dict[str, list[tuple[int, Rows, int]]] = {}
    if len(data) < _HEAD.size:
        return 0, records
    magic, journal, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC or checksum != _checksum(journal, 0, _MAGIC):
        return 0, records
    at, number = _HEAD.size, 0
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        content = data[at : at + length]
        if len(content) != length or checksum != _checksum(journal, number, content):
            break
        at += length
        its = marshal.loads(content)  # noqa: S302 - the checksum says it is ours
        if isinstance(its, int):
            number = its
            continue
        for label, puts, deletes, *more in its:
            needs = more[0] if more else 0  # older versions have written none, and no registers
            registers = more[1] if len(more) > 1 else []
            records.setdefault(label, []).append((number, (puts, deletes, registers), needs))
        number += 1
    return journal, records


def _checksum(journal: int, number: int, content: bytes) -> int:
    return crc32(content, crc32(b"%d %d" % (journal, number)))
