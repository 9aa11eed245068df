"""The roster: the table, shared by all processes, of who the hosts are, how they fare, what they own.

A file in the run directory, mapped by everybody. Each row has two halves with one writer each.
The supervisor writes who the host is: pid, generation, state, and how those before it ended. It
then tells every peer to look again, so a reader never meets a half-written row. The host itself
writes how it fares: calls, activations, what waits, busy time, the start of the event it is
running. Those figures are for people and for choosing the least busy host; a torn one does no
harm.

Behind the rows is the slot table: the host that owns each slot, written by the supervisor alone, two
aligned bytes each. A count of its changes tells a reader whether to look through it again. Then comes
what each slot has taken of its owners' time, written by its owner; and the objects that take most.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEAD = struct.Struct("=8sIIII")  # magic, layout, hosts, slots, supervisor's pid
_IDENTITY = struct.Struct("=IIIII")  # pid, generation, state, before, left_from
_FIGURES = struct.Struct("=QQQQQQ")
_CHANGES = struct.Struct("=Q")  # of the slot table, since the instance started
_CHANGES_AT = 64
_HOT = struct.Struct("=d32s40s48s")  # part of a core, id, class name, name
HOT_OBJECTS = 5
"""How many of a host's objects are told of."""
_MAGIC = b"roost-r1"
_LAYOUT = 3
_ROW = 128
_FIGURES_AT = 64  # a cache line of its own: the halves have different writers
_EVENT = struct.Struct("=QQ")  # the last two of the figures
_EVENT_AT = _FIGURES_AT + _FIGURES.size - _EVENT.size


class State(IntEnum):
    """What a host is doing, as its supervisor sees it."""

    DOWN = 0
    STARTING = 1
    UP = 2
    LEAVING = 3


_UP = int(State.UP)


class End(IntEnum):
    """How a generation of a host ended."""

    DIED = 0
    LEFT = 1
    """It said goodbye to everybody."""
    OVERRAN = 2
    """An event of it ran over its CPU limit."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a host is: the supervisor's half of a row."""

    pid: int
    generation: int
    state: State
    before: End
    """How the generation before this one ended."""
    left_from: int = 0
    """If that was in order: so did all generations since this one."""

    def left_in_order(self, generation: int) -> bool:
        """Whether a former generation, and all after it, said goodbye to everybody."""
        return self.before is End.LEFT and self.left_from <= generation < self.generation


@dataclass(frozen=True, slots=True)
class Figures:
    """How a host fares: its own half of a row. Times in nanoseconds of the monotonic clock."""

    calls: int = 0
    activations: int = 0
    waiting: int = 0
    """Events that have started and not ended, and those that wait in mailboxes."""
    busy_ns: int = 0
    """Time spent running events and their messages."""
    event_started_ns: int = 0
    """When the batch of events that is running now began; 0 when idle."""
    beat_ns: int = 0
    """When the host last wrote this."""


@dataclass(frozen=True, slots=True)
class HotObject:
    """An object that takes much of its host's time. Long names are cut."""

    class_name: str
    id: str
    """Its id, 64 hex digits."""
    name: str | None
    """The name that it was called by, where it is known."""
    busy: float
    """What part of a core it has taken lately, about: 0 to 1."""


class Roster:
    """The mapped table. Hosts are numbered from 0; `slots` is that of the data directory."""

    __slots__ = ("_hot_at", "_map", "busy", "hosts", "owners", "slots", "supervisor")

    owners: memoryview[int]
    """The number of the host that owns each slot. Only the supervisor writes it: see `set_owner`."""
    busy: memoryview[int]
    """Nanoseconds that the objects of each slot have taken, in all hosts; its owner adds to it."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        if len(mapped) < _ROW:
            raise ValueError("this is not a roster: it is too short")
        magic, layout, self.hosts, self.slots, self.supervisor = _HEAD.unpack_from(mapped)
        if magic != _MAGIC or layout != _LAYOUT:
            raise ValueError("this is not the roster of this version of Roost")
        busy_at = _ROW * (self.hosts + 1)
        owners_at = busy_at + 8 * self.slots
        self._hot_at = owners_at + 2 * self.slots
        if len(mapped) != _size(self.hosts, self.slots):
            raise ValueError(f"this roster of {self.hosts} hosts is not whole")
        self.busy = memoryview(mapped)[busy_at:owners_at].cast("Q")
        self.owners = memoryview(mapped)[owners_at : self._hot_at].cast("H")

    @classmethod
    def create(cls, path: Path, hosts: int, slots: int, owners: Sequence[int] = ()) -> Roster:
        """Make the table of a new instance; only its supervisor does.

        Without `owners`, the host of each slot, slots are dealt out in turn.
        """
        size = _size(hosts, slots)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(handle, size)
            mapped = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        _HEAD.pack_into(mapped, 0, _MAGIC, _LAYOUT, hosts, slots, os.getpid())
        roster = cls(mapped)
        for slot in range(slots):
            roster.owners[slot] = owners[slot] if owners else slot % hosts
        return roster

    @classmethod
    def open(cls, path: Path) -> Roster:
        """Map the table of a running instance. Raises OSError or ValueError if there is none."""
        with path.open("r+b") as handle:
            return cls(mmap.mmap(handle.fileno(), 0))

    def identity(self, host: int) -> Identity:
        """Who host number `host` is now."""
        row = _IDENTITY.unpack_from(self._map, _ROW * (host + 1))
        pid, generation, state, before, left_from = row
        return Identity(pid, generation, State(state), End(before), left_from)

    def generation_up(self, host: int) -> int:
        """Return the generation of a host that takes calls, 0 while there is none.

        Asked before every blocking call: it takes a fifth of the time of `identity`.
        """
        _, generation, state, *_ = _IDENTITY.unpack_from(self._map, _ROW * (host + 1))
        return generation if state == _UP else 0

    def set_identity(self, host: int, identity: Identity) -> None:
        """Write who host number `host` is. Only the supervisor does."""
        _IDENTITY.pack_into(
            self._map,
            _ROW * (host + 1),
            identity.pid,
            identity.generation,
            identity.state,
            identity.before,
            identity.left_from,
        )

    @property
    def changes(self) -> int:
        """How often the slot table has changed."""
        count: int = _CHANGES.unpack_from(self._map, _CHANGES_AT)[0]
        return count

    def set_owner(self, slot: int, host: int) -> None:
        """Give a slot to a host. Only the supervisor does, when no host has it open."""
        self.owners[slot] = host
        _CHANGES.pack_into(self._map, _CHANGES_AT, self.changes + 1)

    def figures(self, host: int) -> Figures:
        """How host number `host` fares."""
        return Figures(*_FIGURES.unpack_from(self._map, _ROW * (host + 1) + _FIGURES_AT))

    def set_figures(
        self,
        host: int,
        calls: int,
        activations: int,
        waiting: int,
        busy: int,
        since: int,
        beat: int,
    ) -> None:
        """Write how host number `host` fares. Only that host does."""
        _FIGURES.pack_into(
            self._map,
            _ROW * (host + 1) + _FIGURES_AT,
            calls,
            activations,
            waiting,
            busy,
            since,
            beat,
        )

    def set_event(self, host: int, since: int, beat: int) -> None:
        """Write what `figures` has of the work under way. Only that host does."""
        _EVENT.pack_into(self._map, _ROW * (host + 1) + _EVENT_AT, since, beat)

    def hot(self, host: int) -> list[HotObject]:
        """Which objects take most of host number `host`'s time, the busiest first."""
        found = []
        for index in range(HOT_OBJECTS):
            share, raw, *texts = _HOT.unpack_from(self._map, self._hot_place(host, index))
            if share:
                kind, name = (text.rstrip(b"\0").decode(errors="replace") for text in texts)
                found.append(HotObject(kind, raw.hex(), name or None, share))
        return found

    def set_hot(self, host: int, objects: Sequence[HotObject]) -> None:
        """Write which objects take most of host number `host`'s time. Only that host does."""
        for index in range(HOT_OBJECTS):
            row = (0.0, b"", b"", b"")
            if index < len(objects):
                each = objects[index]
                name = "" if each.name is None else each.name
                row = (each.busy, bytes.fromhex(each.id), each.class_name.encode(), name.encode())
            _HOT.pack_into(self._map, self._hot_place(host, index), *row)

    def _hot_place(self, host: int, index: int) -> int:
        place: int = self._hot_at + _HOT.size * (HOT_OBJECTS * host + index)
        return place

    def close(self) -> None:
        """Unmap the table."""
        self.owners.release()
        self.busy.release()
        self._map.close()


def _size(hosts: int, slots: int) -> int:
    return _ROW * (hosts + 1) + 10 * slots + HOT_OBJECTS * _HOT.size * hosts


def describe_loss(host: int, generation: int, now: Identity) -> str:
    """Say how a generation of a host ended, which did not leave in order."""
    if now.before is End.OVERRAN and now.generation == generation + 1:
        return f"host {host} was ended, because an event ran over its CPU limit (`cpu_ms`),"
    return f"host {host} died"


def endpoint(run: Path, host: int, generation: int) -> str:
    """Return where a generation of a host listens."""
    return f"ipc://{run}/h{host}.{generation}"
