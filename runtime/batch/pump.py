"""Decides what a map sends next and what it yields next. Plain synchronous code, without I/O.

Every key has a lane, in which its items keep their order: one run of them is under way at a time,
and what comes meanwhile is the next run. So a busy key sends large runs, and a thousand quiet keys
have a thousand small ones under way. A run whose failure is retryable is sent again, before what
is behind it in its lane.

Bounds. Between what is read and what is yielded lie at most `in_flight` items, fewer if they are
large. Between the first item that is not done and the last that was read lie at most 32 times as
many, so that the memory of what is done out of order is bounded too.

A run that was lost with its host twice is suspected of having killed it, and is sent while no other
suspect is, and after a wait in which others make use of the host. Lost once more, its items are sent
one by one; so they are for the last attempt, whatever a run failed of as a whole. So one poisonous item
fails by itself.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from runtime.batch.done import Done
from runtime.wire.codec import pack, unpack_error
from runtime.wire.runs import EACH, GIVEN, TOGETHER, Run, ready, unpack_reply
from workers.errors import HostLost, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.batch.plan import Plan
    from runtime.wire.codec import Ready
    from runtime.wire.messages import Target
    from runtime.wire.runs import ItemId

Entry: TypeAlias = "tuple[int, Any, ItemId | None]"
"""The number of an item in the input, the item, and its id if one was given."""

NOTHING: Final = object()
"""There is no result to be yielded now."""

FIRST_RUN: Final = 4
MOST_A_RUN: Final = 512
"""Items a run has at first, and at most; in between, what takes its host some 50 ms."""

RUN_BYTES: Final = 1 << 20
"""How large a run may be, about."""

READ_BYTES: Final = 128 << 20
"""How much memory the items may take that are read and not yielded, about."""

RUNS: Final = 1024
"""Runs that may be under way. What is ready past them waits here, where it costs no more than its
items, and may still gather items for its key; hosts have enough to do."""

BATCHES: Final = 64
"""Calls with incomplete batches that may be under way; past them, batches wait until complete."""

SPAN: Final = 32
"""See the module's text."""

SUSPECT: Final = 2
GUILTY: Final = 3
"""Hosts lost under a run, after which it is suspected, and after which it is taken apart."""

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 5.0
"""Seconds between two attempts: doubled each time, with jitter."""

SUSPECT_WAIT: Final = 1.5
"""Seconds at least before a suspect is sent again: a host that lives so long is not in a crash loop
(see runtime/supervisor/restarts.py), and so is started again at once."""


@dataclass(slots=True, eq=False)
class Lane:
    """The items of one key, in their order."""

    key: Any
    target: Target | None
    most: int
    """Runs that may be under way at a time: 1, so that there is an order."""
    waiting: deque[Entry] = field(default_factory=deque)
    under_way: int = 0
    """Runs that are sent, or wait to be sent again."""
    queue: int = 0
    """In which queue it stands for its next run: 0 in none, 1 of incomplete, 2 of complete ones."""


@dataclass(slots=True, eq=False)
class Flight:
    """One run under way."""

    lane: Lane
    entries: list[Entry]
    attempts: int = 0
    losses: int = 0
    """How often its host died."""
    rest: Sequence[Entry] = ()
    """Items to be sent after it, one by one, before the lane goes on."""


@dataclass(slots=True)
class Tally:
    """How a map stands, in numbers."""

    read: int = 0
    """Items read from the input, those skipped among them."""
    skipped: int = 0
    """Items that an earlier run of the same checkpoint had done."""
    done: int = 0
    """Items whose results were taken."""
    failed: int = 0
    retried: int = 0
    """Items that were sent again."""
    seconds: float = 0.0
    """Time that hosts spent on runs."""


class Pump:
    """See the module's text. `clock` gives seconds, `jitter` a number from 0 to 1."""

    def __init__(
        self,
        plan: Plan,
        job: str,
        target_of: Callable[[Any], Target | None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        done: Done | None = None,
    ) -> None:
        self.tally = Tally()
        self.done = Done() if done is None else done
        self.answered: Callable[[], int] = lambda: self.done.low
        """Below which number no item will ever be sent again."""
        self.on_run: Callable[[Any, float], None] | None = None
        """Told of every run that ended: its key, and its seconds at the host."""
        self.fatal: BaseException | None = None
        """What ends the map, whatever `errors` says."""
        self.exhausted = False
        """Whether the input has ended."""
        self.under_way = 0
        """Runs that are sent and not answered."""
        self.follow(plan)
        self._job = GIVEN if plan.item_id is not None else job
        self._ids = not plan.shared
        self._target_of = target_of
        self._clock = clock
        self._jitter = jitter
        self._resumed = self.done.end
        self._lanes: dict[Any, Lane] = {}
        self._open = 0  # items read and not yet taken as results
        self._ready: deque[Lane] = deque()
        self._incomplete: deque[Lane] = deque()
        self._later: list[tuple[float, int, Flight]] = []
        self._suspects: deque[Flight] = deque()
        self._suspect: Flight | None = None
        self._count = itertools.count()
        # Calls of a function have no order: the first ones may each take a host long.
        self._run_limit = 1 if plan.shared else FIRST_RUN
        self._item_bytes = 0.0
        self._results: deque[tuple[Any, Any, BaseException | None, Sequence[Entry]]] = deque()
        self._finished: dict[int, tuple[Any, Any, BaseException | None, Sequence[Entry]] | None]
        self._finished = {}  # of an ordered map: results by number, None beside that of its batch
        self._next = self.done.low
        self._taken: Sequence[Entry] = ()

    def follow(self, plan: Plan) -> None:
        """Go by a plan. Another one than at first differs in how items are sent, and none was fed."""
        self._plan = plan
        self._mode = TOGETHER if plan.batch > 1 else EACH
        self._complete = plan.batch
        self._room = plan.in_flight
        self._span = SPAN * plan.in_flight

    # --- items in --------------------------------------------------------------------------------

    @property
    def wants(self) -> bool:
        """Whether there is room for another item."""
        return self.room > 0

    @property
    def room(self) -> int:
        """How many more items may be read now."""
        if self.exhausted:
            return 0
        return min(self._room - self._open, self._span - (self.tally.read - self.done.low))

    def feed(self, key: Any, item: Any, item_id: ItemId | None = None) -> None:
        """Take the next item of the input."""
        tally = self.tally
        number = tally.read
        tally.read = number + 1
        if number < self._resumed and number in self.done:
            tally.skipped += 1
            return
        lane = self._lanes.get(key)
        if lane is None:
            lane = Lane(key, self._target_of(key), self._plan.shared or 1)
            self._lanes[key] = lane
        self._open += 1
        waiting = lane.waiting
        waiting.append((number, item, item_id))
        if lane.under_way < lane.most and (
            lane.queue == 0 or (lane.queue == 1 and len(waiting) >= self._complete)
        ):
            self._enqueue(lane)

    def _enqueue(self, lane: Lane) -> None:
        if len(lane.waiting) >= self._complete:
            lane.queue = 2
            self._ready.append(lane)
        elif lane.queue == 0:
            lane.queue = 1
            self._incomplete.append(lane)

    # --- runs out --------------------------------------------------------------------------------

    def flights(self) -> Iterator[Flight]:
        """Yield what is to be sent now."""
        if self._later or self._suspects:
            yield from self._again()
        ready, incomplete = self._ready, self._incomplete
        while ready and self.under_way < RUNS:
            lane = ready.popleft()
            if lane.queue == 2:
                yield self._start(lane)
        while incomplete and self.under_way < BATCHES:
            lane = incomplete.popleft()
            if lane.queue == 1:
                yield self._start(lane)

    def _start(self, lane: Lane) -> Flight:
        waiting = lane.waiting
        limit = self._complete if self._mode == TOGETHER else self._limit()
        if len(waiting) <= limit:
            entries = list(waiting)
            waiting.clear()
        else:
            entries = [waiting.popleft() for _ in range(limit)]
        lane.queue = 0
        lane.under_way += 1
        self.under_way += 1
        if waiting and lane.under_way < lane.most:
            self._enqueue(lane)
        return Flight(lane, entries)

    def _limit(self) -> int:
        if self._item_bytes:
            return max(1, min(self._run_limit, int(RUN_BYTES / self._item_bytes)))
        return self._run_limit

    def _again(self) -> Iterator[Flight]:
        """Yield the runs whose time to be sent again has come."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            flight = heapq.heappop(self._later)[2]
            if flight.losses >= SUSPECT:
                self._suspects.append(flight)
            else:
                self.under_way += 1
                yield flight
        if self._suspects and self._suspect is None:
            flight = self._suspect = self._suspects.popleft()
            if self._mode == EACH and flight.losses >= GUILTY and not flight.rest:
                self._take_apart(flight)
            self.under_way += 1
            yield flight

    def wait(self) -> float | None:
        """Return the seconds until a run is to be sent again; None if none waits for that."""
        if not self._later:
            return None
        return max(0.0, self._later[0][0] - self._clock())

    def pack(self, flight: Flight) -> Ready | None:
        """Return a run as it is sent, without items that cannot be; None if that leaves none."""
        try:
            return self._pack(flight.entries)
        except TypeError as cause:
            error = cause
        good = []
        for entry in flight.entries:
            try:
                pack(entry[1])
            except TypeError as cause:
                if self._mode == EACH:
                    self._emit(flight.lane.key, None, cause, [entry])
            else:
                good.append(entry)
        if self._mode == EACH and good and len(good) < len(flight.entries):
            flight.entries = good
            return self._pack(good)
        if self._mode == TOGETHER or good:
            self.fail(flight, error)
        else:
            self._landed(flight)
            self._free(flight)
        return None

    def _pack(self, entries: Sequence[Entry]) -> Ready:
        ids: list[ItemId] | None = None
        if self._ids:
            if self._job == GIVEN:
                ids = [entry[2] for entry in entries]  # type: ignore[misc]
            else:
                ids = [entry[0] for entry in entries]
        items = [entry[1] for entry in entries]
        answered = 0 if self._job == GIVEN else self.answered()
        packed = ready(Run(self._mode, items, ids, self._job, answered, self._plan.timeout))
        _, data, buffers = packed
        size = (len(data) + sum(buffer.raw().nbytes for buffer in buffers)) / len(items)
        self._item_bytes += (size - self._item_bytes) / 8 if self._item_bytes else size
        self._room = min(self._plan.in_flight, max(16, int(READ_BYTES / self._item_bytes)))
        return packed

    # --- answers in ------------------------------------------------------------------------------

    def answer(self, flight: Flight, reply: Any) -> None:
        """Take the answer of a run."""
        values, errors, groups, seconds = unpack_reply(reply)
        self._landed(flight)
        entries, key = flight.entries, flight.lane.key
        self.tally.seconds += seconds
        if self.on_run is not None:
            self.on_run(key, seconds)
        if self._mode == EACH:
            self._adapt(len(entries), seconds)
        if not errors and groups is None and not self._plan.ordered:
            results = self._results
            for entry, value in zip(entries, values, strict=True):
                results.append((key, value, None, (entry,)))
        else:
            for position, value in enumerate(values):
                packed = errors.get(position)
                at = (position,) if groups is None else groups[position]
                its = [entries[index] for index in at]
                if packed is None:
                    self._emit(key, value, None, its)
                    continue
                error = unpack_error(packed)
                if _passing(error):
                    flight.attempts = flight.attempts if position == 0 else 0
                    flight.entries = its if groups is not None else list(entries[position:])
                    self._fail(flight, error)
                    return
                self._emit(key, None, error, its)
        self._free(flight)

    def fail(self, flight: Flight, error: BaseException) -> None:
        """Take the failure of a whole run."""
        self._landed(flight)
        if isinstance(error, RuntimeClosed):  # says nothing of the items: they are not done
            self.fatal = error
            return
        if isinstance(error, HostLost):
            flight.losses += 1
        if flight.attempts + 1 == self._plan.retries and self._mode == EACH and _passing(error):
            self._take_apart(flight)  # the last attempt shall tell whose fault it is
        self._fail(flight, error)

    def _take_apart(self, flight: Flight) -> None:
        """Have the items of a run sent one by one."""
        flight.rest = [*flight.entries[1:], *flight.rest]
        del flight.entries[1:]

    def _landed(self, flight: Flight) -> None:
        self.under_way -= 1
        if flight is self._suspect:
            self._suspect = None

    def _fail(self, flight: Flight, error: BaseException) -> None:
        flight.attempts += 1
        if _passing(error) and flight.attempts <= self._plan.retries:
            self.tally.retried += len(flight.entries)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (flight.attempts - 1))
            wait *= 0.5 + self._jitter()
            if flight.losses >= SUSPECT:
                wait = max(wait, SUSPECT_WAIT)
            due = self._clock() + wait
            heapq.heappush(self._later, (due, next(self._count), flight))
            return
        if self._mode == TOGETHER:
            self._emit(flight.lane.key, None, error, flight.entries)
        elif _passing(error):
            # The first one failed for good; those behind it may fare better.
            self._emit(flight.lane.key, None, error, flight.entries[:1])
            flight.rest = [*flight.entries[1:], *flight.rest]
        else:
            for entry in flight.entries:
                self._emit(flight.lane.key, None, error, [entry])
        self._free(flight)

    def _free(self, flight: Flight) -> None:
        """Let the lane of a run have its next one; without items, it goes."""
        lane = flight.lane
        if flight.rest:
            rest = flight.rest
            self._suspects.appendleft(Flight(lane, [rest[0]], 0, GUILTY, rest[1:]))
            return
        lane.under_way -= 1
        if lane.waiting:
            if lane.queue < 2:
                self._enqueue(lane)
        elif lane.under_way == 0:
            del self._lanes[lane.key]

    def _adapt(self, count: int, seconds: float) -> None:
        if seconds > 0.1:
            self._run_limit = max(1, int(count * 0.05 / seconds))
        elif seconds < 0.02 and count >= self._run_limit:
            self._run_limit = min(MOST_A_RUN, 2 * self._run_limit)

    def _emit(
        self, key: Any, value: Any, error: BaseException | None, entries: Sequence[Entry]
    ) -> None:
        if not self._plan.ordered:
            self._results.append((key, value, error, entries))
            return
        finished = self._finished
        finished[entries[0][0]] = (key, value, error, entries)
        for entry in entries[1:]:
            finished[entry[0]] = None
        while True:
            while self._next in finished:
                result = finished.pop(self._next)
                self._next += 1
                if result is not None:
                    self._results.append(result)
            if self._next >= self._resumed or self._next not in self.done:
                return
            self._next += 1

    # --- results out -----------------------------------------------------------------------------

    def take(self) -> Any:
        """Return the next (key, result), or NOTHING; raises what `errors` says shall be raised.

        The one before must be settled.
        """
        errors, shared = self._plan.errors, self._plan.shared
        while self._results:
            key, value, error, entries = self._results.popleft()
            self._open -= len(entries)
            if error is None:
                self._taken = entries
                return value if shared else (key, value)
            self.tally.failed += len(entries)
            if errors == "raise":
                if not shared:
                    _explain(error, self._plan.method, key, entries)
                raise error
            self._taken = entries
            if errors == "collect":
                return error if shared else (key, error)
            for entry in entries:
                facts = (entry[1], error) if shared else (key, entry[1], error)
                errors(*facts)  # type: ignore[operator]
            self.settle()
        return NOTHING

    def settle(self) -> None:
        """Take note that the result that was taken last is dealt with."""
        taken, self._taken = self._taken, ()
        if not taken:
            return
        self.done.add([entry[0] for entry in taken])
        self.tally.done += len(taken)

    @property
    def finished(self) -> bool:
        """Whether everything was read, applied and taken."""
        return self.exhausted and self._open == 0

    @property
    def has_results(self) -> bool:
        """Whether `take` has something."""
        return bool(self._results)

    @property
    def open_items(self) -> int:
        """How many items were read whose results were not taken."""
        return self._open


def _passing(error: BaseException) -> bool:
    """Whether it may go better next time."""
    return bool(getattr(error, "retryable", False) or getattr(error, "overloaded", False))


def _explain(error: BaseException, method: str, key: Any, entries: Sequence[Entry]) -> None:
    """Say in an error's traceback of which items it is."""
    numbers = ", ".join(str(entry[0]) for entry in entries[:5])
    more = ", ..." if len(entries) > 5 else ""
    error.add_note(f"in map({method!r}), key {key!r}, item {numbers}{more} of the input (from 0)")
