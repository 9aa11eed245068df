"""One run: all flights through the objects of an instance, and what came of it.

An object says how far it is, so sending goes on from there: after its host died, and also when a data
directory is used again whose objects know some of the flights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from examples.delays.aircraft import AircraftObject
from runtime import Runtime
from workers import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from examples.delays.flights import Aircraft, Flight
    from examples.delays.model import Summary
    from runtime import HostStatus

BATCH: Final = 64
"""Flights in one call."""

UNDER_WAY: Final = 256
"""Calls that are unanswered at a time, each to another object: enough to keep all hosts busy."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found."""

    hosts: list[HostStatus]
    """How the hosts were when all flights had been learnt."""
    seconds: float
    """From the first call to the last answer."""
    continued: bool
    """Whether some flights were known from an earlier run, so that the time says little."""
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
        continued = bool(runtime.objects(limit=1))
        began = time.perf_counter()
        feed(objects, {aircraft.tail: aircraft.flights for aircraft in fleet}, on_progress)
        seconds = time.perf_counter() - began
        statuses = runtime.status()
        asked = {a.tail: objects.getByName(a.tail).summary.submit() for a in fleet}
        summaries = {tail: call.result() for tail, call in asked.items()}
    return Result(statuses, seconds, continued, summaries)


def feed(
    objects: Any, histories: Mapping[str, Sequence[Flight]], on_progress: Callable[[int], None]
) -> None:
    """Send every aircraft's flights to its object, in batches and in order; return when all know all.

    An object is sent its next batch when it has answered the one before. A call that failed and may
    be retried is made again; any other error is raised.
    """
    answers: SimpleQueue[tuple[str, int, Future[int]]] = SimpleQueue()
    waiting = iter(histories)

    def send(tail: str, start: int) -> None:
        batch = histories[tail][start : start + BATCH]
        call = objects.getByName(tail).observe.submit(start, batch)
        call.add_done_callback(lambda call: answers.put((tail, start, call)))

    for tail in islice(waiting, UNDER_WAY):
        send(tail, 0)
    known = 0
    unfinished = len(histories)
    while unfinished:
        tail, start, call = answers.get()
        try:
            now = call.result()
        except RoostError as error:
            if not error.retryable:
                raise
            now = start
        known += now - start
        on_progress(known)
        if now < len(histories[tail]):
            send(tail, now)
            continue
        unfinished -= 1
        for following in islice(waiting, 1):
            send(following, 0)
