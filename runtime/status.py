"""How the hosts of an instance fare, for people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.roster import HotObject, Roster


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host."""

    host: int
    """Its number, from 0."""
    pid: int
    """Its process id; 0 while it is being replaced."""
    generation: int
    """How many processes have been this host."""
    state: str
    """"up", "starting", "leaving" or "down"."""
    slots: int
    """How many slots of objects it owns."""
    owned: tuple[int, ...]
    """Which ones."""
    calls: int
    """Calls it has taken since it started."""
    objects: int
    """Objects that are live in it now."""
    waiting: int
    """Events that have started and not ended, and those in mailboxes."""
    busy_s: float
    """Seconds of processor time that its events and their messages took."""
    event_s: float
    """Seconds that the work under way has been running; 0 when idle."""
    busiest: tuple[HotObject, ...]
    """The objects that took most of its time in the last ten seconds or so, the busiest first."""


def status_of(roster: Roster) -> list[HostStatus]:
    """Return who the hosts are and how they fare."""
    rows = []
    for number in range(roster.hosts):
        identity, figures = roster.identity(number), roster.figures(number)
        since = figures.event_started_ns
        owned = tuple(slot for slot, owner in enumerate(roster.owners) if owner == number)
        rows.append(
            HostStatus(
                host=number,
                pid=identity.pid,
                generation=identity.generation,
                state=identity.state.name.lower(),
                slots=len(owned),
                owned=owned,
                calls=figures.calls,
                objects=figures.activations,
                waiting=figures.waiting,
                busy_s=figures.busy_ns / 1e9,
                event_s=(time.monotonic_ns() - since) / 1e9 if since else 0.0,
                busiest=tuple(roster.hot(number)),
            )
        )
    return rows
