"""The steps that keep the shared cache true, each inside of one LMDB transaction.

The invariant: *a cached value is never older than the last commit to its key*. A commit to disk, under
the namespace's write lock, stands between two steps. `hold` takes the keys out of the cache, marks them
HELD and counts up their buckets; `settle` puts the new values in and takes the marks away. A reader
that finds nothing does `note` in the transaction it looked in, reads the disk, and then may `fill`:
only if the key was not held when it looked, and no commit to its bucket has begun since. So a reader
that was slower than a writer never puts back what the writer replaced.

A writer that dies leaves marks: its keys are read from disk until the next writer settles, which
clears all marks of the namespace, for under the lock they can only be of the dead.

The values are in two generations. When the young one is full it becomes the old one, and what was old
is dropped at once; what is read from the old one moves to the young. A key is in one of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

BUCKETS = 4096
"""How many counters there are: of so many fills one is refused for another key's commit."""

_YOUNG = b"young"
_ROTATIONS = b"rotations"


@dataclass(frozen=True, slots=True)
class Tables:
    """The databases in the LMDB environment."""

    meta: Any
    generations: tuple[Any, Any]
    held: Any
    counters: Any
    room: int
    """Bytes that a generation may take."""

    def young(self, txn: Any) -> int:
        """Return which generation is the young one."""
        return 1 if txn.get(_YOUNG, db=self.meta) else 0

    def rotations(self, txn: Any) -> int:
        """Return how many generations were dropped so far."""
        return int.from_bytes(txn.get(_ROTATIONS, b"", db=self.meta), "little")


def note(txn: Any, tables: Tables, name: bytes) -> bytes | None:
    """Return what `fill` asks for, after a name was not found; None while it is held."""
    if txn.get(name, db=tables.held) is not None:
        return None
    count: bytes = txn.get(_bucket(name), b"", db=tables.counters)
    return count


def fill(txn: Any, tables: Tables, name: bytes, noted: bytes, record: bytes) -> bool:
    """Put in what was read from disk; returns whether it was.

    Not if it may have been replaced, and not if another reader was faster: a rotation may have come
    since, and the name would be in both generations.
    """
    if note(txn, tables, name) != noted:
        return False
    if any(txn.get(name, db=generation) is not None for generation in tables.generations):
        return False
    _put(txn, tables, ((name, record),))
    return True


def promote(txn: Any, tables: Tables, name: bytes) -> None:
    """Move what was found in the old generation to the young one."""
    old = tables.generations[1 - tables.young(txn)]
    record = txn.get(name, db=old)
    if record is not None:
        txn.delete(name, db=old)
        _put(txn, tables, ((name, bytes(record)),))


def hold(txn: Any, tables: Tables, names: Collection[bytes]) -> None:
    """Let nobody find these names, nor fill them, until they are settled."""
    for generation in tables.generations:
        if txn.stat(generation)["entries"]:
            for name in names:
                txn.delete(name, db=generation)
    with txn.cursor(db=tables.held) as cursor:
        cursor.putmulti([(name, b"") for name in names])
    buckets = {_bucket(name) for name in names}
    with txn.cursor(db=tables.counters) as cursor:
        counts = dict(cursor.getmulti(buckets))
        cursor.putmulti([(bucket, _after(counts.get(bucket, b""))) for bucket in buckets])


def settle(
    txn: Any, tables: Tables, prefix: bytes, records: Collection[tuple[bytes, bytes | None]]
) -> None:
    """Put in what was committed, where it has a record, and take away all marks of a namespace.

    There are records for all names that were held, one each.
    """
    if txn.stat(tables.held)["entries"] == len(records):  # there are no other marks
        txn.drop(tables.held, delete=False)
    else:
        with txn.cursor(db=tables.held) as cursor:
            there = cursor.set_range(prefix)
            while there and cursor.key().startswith(prefix):
                there = cursor.delete()
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
    taken = pages * stat["psize"]
    fitting: list[tuple[bytes, bytes]] = []  # put in together: twice as fast as one by one
    for name, record in records:
        size = len(record) + len(name) + 16
        if len(record) > stat["psize"] // 2 - 64:  # has pages of its own
            size = -(-size // stat["psize"]) * stat["psize"]
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
        fitting.append((name, record))
    _put_all(txn, tables.generations[young], fitting)


def _put_all(txn: Any, generation: Any, records: list[tuple[bytes, bytes]]) -> None:
    with txn.cursor(db=generation) as cursor:
        cursor.putmulti(records)


def _after(count: bytes) -> bytes:
    return (int.from_bytes(count, "little") + 1).to_bytes(8, "little")


def _bucket(name: bytes) -> bytes:
    return (crc32(name) % BUCKETS).to_bytes(2, "little")
