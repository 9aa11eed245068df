"""Where a map runs: what it needs to know of its process, beside the way to call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runtime.wire.link import Waiter

if TYPE_CHECKING:
    from pathlib import Path
    from weakref import WeakSet

    from runtime.roster import Roster
    from runtime.wire.codec import Ready
    from runtime.wire.messages import Target


class Submits(Protocol):
    """Who sends the runs of an asynchronous map: the part of a process' `Calls` that it needs."""

    def submit(
        self, target: Target | None, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a method without waiting: a future of the result."""


class Carried(Waiter, Protocol):
    """Who waits for a run that is carried."""

    over: bool
    """Whether the wait has ended; set by who carries it, because two threads may end it."""


class Carries(Protocol):
    """Who sends the runs of a blocking map, in a thread of its own."""

    def carry(self, waiter: Carried, target: Target | None, method: str, ready: Ready) -> None:
        """Send a run; its waiter hears of the answer in that thread. Raises RuntimeClosed."""

    def carried(self, waiter: Carried) -> bool:
        """End a wait; False when it had ended before."""

    def cancelled(self, waiter: Carried) -> None:
        """Tell the host that nobody waits for a run any more."""


@dataclass(frozen=True, slots=True)
class Place:
    """See the module's text."""

    data: Path
    """The data directory, in which checkpoints are."""
    roster: Roster | None
    """The hosts, for progress; None in a host."""
    blocking: bool
    """Whether calls block, so that maps are iterators and not asynchronous ones."""
    maps: WeakSet[Any]
    """The maps under way, which are closed with their runtime."""
