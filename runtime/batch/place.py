"""Where a map runs: what it needs to know of its process, beside the way to call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path
    from weakref import WeakSet

    from runtime.roster import Roster
    from runtime.wire.messages import Target


class Submits(Protocol):
    """Who sends the runs of a map: the part of a process' `Calls` that a map needs."""

    def submit(
        self, target: Target | None, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a method without waiting: a future of the result."""


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
