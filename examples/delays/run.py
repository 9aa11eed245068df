"""One run: all flights through the objects of an instance, and what came of it.

The map has a checkpoint, so a run goes on where an earlier one in the same data directory stopped, and
no flight is learnt twice, whatever is killed meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from examples.delays.aircraft import AircraftObject
from examples.delays.flights import Batch
from runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from examples.delays.flights import Aircraft
    from examples.delays.model import Summary
    from runtime import HostStatus

BATCH: Final = 256
"""Flights in one call."""

IN_FLIGHT: Final = 512
"""Batches that are under way at a time: enough to keep all hosts busy."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found."""

    hosts: list[HostStatus]
    """How the hosts were when all flights had been learnt."""
    seconds: float
    """From the first call to the last answer."""
    continued: bool
    """Whether some flights were learnt in an earlier run, so that the time says little."""
    summaries: dict[str, Summary]
    """By tail number."""

    @property
    def digest(self) -> str:
        """The digest of the states of all objects: equal only if they are, to the last bit."""
        whole = sha256()
        for tail, summary in sorted(self.summaries.items()):
            whole.update(tail.encode() + summary.digest)
        return whole.hexdigest()


def run(
    fleet: Sequence[Aircraft],
    data_dir: Path,
    hosts: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Learn from all flights with so many hosts; `on_progress` is told how many are learnt."""
    with Runtime(objects={"AIRCRAFT": AircraftObject}, data_dir=data_dir, hosts=hosts) as runtime:
        objects = runtime.env.AIRCRAFT
        began = time.perf_counter()
        continued = feed(objects, fleet, on_progress)
        seconds = time.perf_counter() - began
        statuses = runtime.status()
        asked = {a.tail: objects.getByName(a.tail).summary.submit() for a in fleet}
        summaries = {tail: call.result() for tail, call in asked.items()}
    return Result(statuses, seconds, continued, summaries)


def feed(
    objects: Any, fleet: Sequence[Aircraft], on_progress: Callable[[int], None] = lambda _: None
) -> bool:
    """Send every aircraft's flights to its object; return whether some had been sent before."""
    results = objects.map(
        "observe",
        batches(fleet),
        key=attrgetter("tail"),
        in_flight=IN_FLIGHT,
        checkpoint="flights",
    )
    known = 0
    for _, count in results:
        known += count
        on_progress(known)
    return bool(results.tally.skipped)


def batches(fleet: Iterable[Aircraft]) -> Iterator[Batch]:
    """Yield all flights, in batches of one aircraft each."""
    for aircraft in fleet:
        for start in range(0, len(aircraft.flights), BATCH):
            yield Batch(aircraft.tail, aircraft.flights[start : start + BATCH])
