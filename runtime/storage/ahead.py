"""What the journal has of a slot file, and the file not yet: in memory, until the file catches up.

The newest state of each key counts, so that many writes to a key are one when the file catches up. Plain
code without I/O, owned by its SlotFile, whose reads look here first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.storage.journal import Registration, Rows

__all__ = ["MOST_AHEAD", "Ahead"]

MOST_AHEAD: Final = 1000
"""Keys that a file may lack before it catches up, which takes some 2 ms."""

_NOTHING: Mapping[bytes, bytes | None] = {}


class Ahead:
    """See the module's text. False when the file lacks nothing."""

    __slots__ = ("_by_object", "_count_at", "_registers", "_taken")

    def __init__(self) -> None:
        self._by_object: dict[bytes, dict[bytes, bytes | None]] = {}
        self._registers: dict[bytes, Registration] = {}  # of objects that have a key in the other
        self._taken = 0  # an upper bound of the keys
        self._count_at = MOST_AHEAD

    def __len__(self) -> int:
        """How many keys the file lacks."""
        return sum(map(len, self._by_object.values()))

    def __bool__(self) -> bool:
        return bool(self._by_object)

    def __contains__(self, object_id: bytes) -> bool:
        """Whether the file lacks anything of an object."""
        return object_id in self._by_object

    def of(self, object_id: bytes) -> Mapping[bytes, bytes | None]:
        """Return the keys of an object that the file lacks; None for one that is deleted."""
        return self._by_object.get(object_id, _NOTHING)

    def registers(self, object_id: bytes) -> bool:
        """Whether the register may lack an object, or its name."""
        return object_id in self._registers

    def add(self, rows: Rows) -> None:
        """Take in rows that the journal has."""
        puts, deletes, registers = rows
        by_object = self._by_object
        for raw, key, value in puts:
            its = by_object.get(raw)
            if its is None:
                by_object[raw] = {key: value}
            else:
                its[key] = value
        for raw, key in deletes:
            by_object.setdefault(raw, {})[key] = None
        for raw, class_name, name, since in registers:
            there = self._registers.get(raw)
            if there is None:
                self._registers[raw] = raw, class_name, name, since
            elif there[2] is None:
                self._registers[raw] = (*there[:2], name, there[3])
        self._taken += len(puts) + len(deletes)

    @property
    def is_long(self) -> bool:
        """Whether the file should catch up.

        The keys are seldom counted, for it takes a while: one that is written again is not one more.
        """
        if self._taken <= self._count_at:
            return False
        if len(self) > MOST_AHEAD:
            return True
        self._count_at = self._taken + MOST_AHEAD
        return False

    def rows(self) -> Rows:
        """Return what the file lacks."""
        puts: list[tuple[bytes, bytes, bytes]] = []
        deletes: list[tuple[bytes, bytes]] = []
        for raw, its in self._by_object.items():
            for key, value in its.items():
                if value is None:
                    deletes.append((raw, key))
                else:
                    puts.append((raw, key, value))
        return puts, deletes, [*self._registers.values()]
