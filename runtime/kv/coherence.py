"""The steps that keep the shared cache true, each inside of one LMDB transaction.

The invariant: *a cached value is never older than the last commit to its key*. A commit to disk, under
the namespace's write lock, stands between two steps. `hold` takes the keys out of the cache and enters
them, HELD, in the namespace's journal; `settle` puts the new values in and takes the marks away. A
reader that finds nothing does `note` in the transaction it looked in, reads the disk, and then may
`fill`: only if the key was not held when it looked, and is not in the journal since. So a reader that
was slower than a writer never puts back what the writer replaced.

A journal is one record, so that 256 keys cost a hold three changes of the cache's trees fewer each: a
count of all keys ever entered, how many of the last of them are held, and the checksums of the last
ones. Whoever has read for so long that more were entered since does not fill. A writer that dies
leaves marks: its keys are read from disk until the next writer settles, which clears all marks of the
namespace, for under the lock they can only be of the dead.

The values are in two generations. When the young one is full it becomes the old one, and what was old
is dropped at once; what is read from the old one moves to the young. A key is in one of them at most.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PREFIX_BYTES = 8
"""How much of a name says of which namespace it is."""

JOURNAL = 480
"""Keys that a journal has at least, of those last written. Its record fits into a page of LMDB."""

_HEAD = Struct("=QI")  # how many keys were entered, how many of the last are held; their checksums
_COUNT_BITS = 24
_YOUNG = b"young"
_ROTATIONS = b"rotations"


@dataclass(frozen=True, slots=True)
class Tables:
    """The databases in the LMDB environment."""

    meta: Any
    generations: tuple[Any, Any]
    journals: Any
    room: int
    """Bytes that a generation may take."""

    def young(self, txn: Any) -> int:
        """Return which generation is the young one."""
        return 1 if txn.get(_YOUNG, db=self.meta) else 0

    def rotations(self, txn: Any) -> int:
        """Return how many generations were dropped so far."""
        return int.from_bytes(txn.get(_ROTATIONS, b"", db=self.meta), "little")


def note(txn: Any, tables: Tables, name: bytes) -> int | None:
    """Return what `fill` asks for, after a name was not found; None while it is held."""
    journal = txn.get(name[:PREFIX_BYTES], db=tables.journals)
    if journal is not None:
        _, held = _HEAD.unpack_from(journal)
        if held and _is_among(journal, held, name):
            return None
    return _count(txn, tables, journal)


def fill(txn: Any, tables: Tables, name: bytes, noted: int, record: bytes) -> bool:
    """Put in what was read from disk; returns whether it was.

    Not if it may have been replaced, and not if another reader was faster: a rotation may have come
    since, and the name would be in both generations.
    """
    journal = txn.get(name[:PREFIX_BYTES], db=tables.journals)
    count = _count(txn, tables, journal)
    if count != noted and (journal is None or _is_among(journal, count - noted, name)):
        return False
    if any(txn.get(name, db=generation) is not None for generation in tables.generations):
        return False
    _put(txn, tables, ((name, record),))
    return True


def _count(txn: Any, tables: Tables, journal: bytes | None) -> int:
    """Return how many keys were entered. Without a journal: a number for each time it may be dropped."""
    if journal is None:
        return -1 - tables.rotations(txn)
    count: int
    count, _ = _HEAD.unpack_from(journal)
    return count


def _is_among(journal: bytes, last: int, name: bytes) -> bool:
    """Whether a name may be among the last so many that were entered."""
    checksums = memoryview(journal)[_HEAD.size :].cast("I")
    return last > len(checksums) or crc32(name) in checksums[-last:]


def promote(txn: Any, tables: Tables, name: bytes) -> None:
    """Move what was found in the old generation to the young one."""
    old = tables.generations[1 - tables.young(txn)]
    record = txn.get(name, db=old)
    if record is not None:
        txn.delete(name, db=old)
        _put(txn, tables, ((name, bytes(record)),))


def hold(txn: Any, tables: Tables, prefix: bytes, names: Collection[bytes]) -> None:
    """Let nobody find these names of a namespace, nor fill them, until they are settled."""
    for generation in tables.generations:
        if txn.stat(generation)["entries"]:
            for name in names:
                txn.delete(name, b"", generation)
    entered = array("I", map(crc32, names))
    record = txn.get(prefix, db=tables.journals)
    if record is None:
        # More than any count that a journal of this namespace had before it was dropped.
        count, past = txn.id() << _COUNT_BITS, array("I")
    else:
        count, held = _HEAD.unpack_from(record)
        past = array("I", record[_HEAD.size :])
        if held:  # by writers that died or failed
            entered = array("I", {*past[-held:], *entered})
    past += entered
    head = _HEAD.pack(count + len(entered), len(entered))
    last = past[-max(JOURNAL, len(entered)) :]
    txn.put(prefix, head + last.tobytes(), db=tables.journals)


def settle(
    txn: Any, tables: Tables, prefix: bytes, records: Iterable[tuple[bytes, bytes | None]]
) -> None:
    """Put in what was committed, where it has a record, and take away all marks of a namespace."""
    journal = txn.get(prefix, db=tables.journals)
    if journal is not None:
        count, _ = _HEAD.unpack_from(journal)
        txn.put(prefix, _HEAD.pack(count, 0) + journal[_HEAD.size :], db=tables.journals)
    _put(txn, tables, ((name, record) for name, record in records if record is not None))


def _put(txn: Any, tables: Tables, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Put records of names that are in no generation into the young one.

    Leaves out what is more than half a generation in all: pages that a transaction drops are free
    for the next one only.
    """
    left = tables.room // 2
    young = tables.young(txn)
    stat = txn.stat(tables.generations[young])
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    page = stat["psize"]
    taken = pages * page
    fitting: list[tuple[bytes, bytes]] = []  # put in together: twice as fast as one by one
    for name, record in records:
        size = len(record) + len(name) + 16
        if len(record) > page // 2 - 64:  # has pages of its own
            size = -(-size // page) * page
        left -= size
        if left < 0:
            break
        taken += size
        if taken > tables.room:
            taken = size
            _put_all(txn, tables.generations[young], fitting)
            fitting = []
            young = 1 - young
            txn.drop(tables.generations[young], delete=False)
            txn.put(_YOUNG, b"1", db=tables.meta) if young else txn.delete(_YOUNG, db=tables.meta)
            count = tables.rotations(txn) + 1
            txn.put(_ROTATIONS, count.to_bytes(8, "little"), db=tables.meta)
            _drop_journals(txn, tables)
        fitting.append((name, record))
    _put_all(txn, tables.generations[young], fitting)


def _put_all(txn: Any, generation: Any, records: list[tuple[bytes, bytes]]) -> None:
    with txn.cursor(db=generation) as cursor:
        cursor.putmulti(records)


def _drop_journals(txn: Any, tables: Tables) -> None:
    """Drop journals without marks: some are of namespaces that are gone, or have another prefix."""
    with txn.cursor(db=tables.journals) as cursor:
        there = cursor.first()
        while there and cursor.key():
            _, held = _HEAD.unpack_from(cursor.value())
            there = cursor.next() if held else cursor.delete()
