"""Keeps calls of objects under way, and measures each: the engine of `roost bench`.

A closed loop: as many calls are under way as was asked, each answer has the next call made, and a call's
latency is from its making to its answer. With a rate instead, calls are due at fixed times, whatever has
become of those before, and their latency is from when they were due.

Calls that are under way when the time is up are waited for; they count for the part of them that was
within it, so that neither a few slow calls nor a last straggler change the rate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtime.wire.items import RemoteItems
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.wire.timed import TimedReply, Times

_clock = time.monotonic_ns

EVERY: Final = 0.1
"""Seconds between two notes of how many calls were answered."""

TIMED_RATE: Final = 500.0
"""Timed calls a second, about: each costs some 20 µs more, caller and host together."""

FIRST_TIMED: Final = 64
"""And before there is a rate, about: of the calls that are under way at once."""

MOST_TIMED: Final = 100_000
"""Timed calls that are kept; of more, as many at random."""

TICK_NS: Final = 1_000_000
"""Nanoseconds that the loop's timers are good for: a call that was made so soon is not late."""

PATIENCE: Final = 10.0
"""Seconds to wait for calls that are under way when the time is up."""


class Work(NamedTuple):
    """What is called."""

    methods: Sequence[Callable[..., asyncio.Future[Any]]]
    """The method of each object."""
    timed: Callable[[int], TimedReply]
    """Calls that of one of them, so that the call tells where its time goes."""
    args: Sequence[Any]
    kwargs: dict[str, Any]


class Timed(NamedTuple):
    """A timed call that returned something. Nanoseconds."""

    late: int
    """From when it was due to its making."""
    took: int
    """From its making to its answer."""
    times: Times


class Load:
    """One run of calls: see the module's text. Moments and times are nanoseconds."""

    def __init__(
        self, work: Work, *, concurrency: int, rate: float | None = None, at_random: bool = False
    ) -> None:
        self.answered = 0
        """Calls that returned something."""
        self.failed: Counter[str] = Counter()
        """Calls that failed, by the type of their error."""
        self.first_error: Exception | None = None
        self.latencies: dict[int, int] = {}
        """How often each latency was met, of calls that returned something; 11 bits of it count."""
        self.timed: list[Timed] = []
        self.marks: list[tuple[int, int]] = []
        """Moments, and how many calls were answered by then."""
        self.began = self.ended = 0
        self.under_way = 0
        """In the end: calls that were not waited for any longer."""
        self.on_mark: Callable[[], None] = _nothing
        """Called after each mark."""
        self.on_end: Callable[[], None] = _nothing
        """Called when the time is up, or the last call was answered."""
        self._work = work
        self._concurrency = concurrency
        self._interval = None if rate is None else min(1e9 / rate, 1e18)  # at most 30 years
        count = len(work.methods)
        self._next = partial(random.randrange, count) if at_random else cycle(range(count)).__next__
        self._left = -1  # calls to make; below zero there is no end
        self._due = 0.0
        self._stop = asyncio.Event()
        self._over = asyncio.Event()
        self._after = 0  # calls that were answered after the end
        self._within = 0.0  # and the sum of their parts before it
        self._until_timed = 0  # calls before the next timed one
        self._timed_seen = 0
        self._readers: set[asyncio.Task[None]] = set()
        self._broken: RuntimeClosed | None = None

    async def run(self, *, seconds: float | None = None, calls: int | None = None) -> None:
        """Make calls until the time is up, so many were answered, or it is told to `stop`.

        Raises RuntimeClosed when the instance ends meanwhile.
        """
        if calls is not None:
            self._left = calls
        self.began = _clock()
        self._due = float(self.began)
        self.marks.append((self.began, 0))
        helpers = [asyncio.create_task(self._mark())]
        if self._interval is not None:
            helpers.append(asyncio.create_task(self._pace()))
        try:
            self._fill(self.began)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            for helper in helpers:
                helper.cancel()
            if not self.ended:
                self._end(_clock())
                self.marks.append((self.ended, self.answered))
            if self.under_way:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self._over.wait()
        finally:
            for task in (*helpers, *self._readers):
                task.cancel()
        if self._broken is not None:
            raise self._broken

    def stop(self) -> None:
        """Make no more calls, and wait for those under way. Again: wait no longer."""
        if self._stop.is_set() or self.ended:
            self._over.set()
        self._stop.set()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) / 1e9

    @property
    def within(self) -> float:
        """How many calls were answered in that time."""
        return self.answered - self._after + self._within

    def _end(self, now: int) -> None:
        self.ended = now
        self.on_end()

    # --- calls -----------------------------------------------------------------------------------

    def _fill(self, now: int) -> None:
        """Make the calls that may be made now."""
        interval = self._interval
        while self.under_way < self._concurrency and self._left and not self._broken:
            if interval is None:
                self._make(now, 0)
                continue
            late = now - int(self._due)
            if late < 0:
                return
            self._due += interval
            self._make(now, late if late > TICK_NS else 0)

    def _make(self, now: int, late: int) -> None:
        index = self._next()
        self._left -= 1
        self.under_way += 1
        try:
            if self._until_timed:
                self._until_timed -= 1
                work = self._work
                reply = work.methods[index](*work.args, **work.kwargs)
                reply.add_done_callback(partial(self._answer, now, late))
            else:
                self._until_timed = self._gap(now)
                timed = self._work.timed(index)
                timed.add_done_callback(partial(self._answer_timed, now, late))
        except RuntimeClosed as error:
            self.under_way -= 1
            self._broken = error
            self.stop()

    def _gap(self, now: int) -> int:
        """Choose at random how many calls come before the next timed one."""
        rate = self.answered * 1e9 / max(1, now - self.began)
        # Of those that are made before anything is answered, not all either.
        mean = max(rate / TIMED_RATE, self._concurrency / FIRST_TIMED) - 1
        return int(random.expovariate(1 / mean)) if mean > 0 else 0

    async def _pace(self) -> None:
        """Look at what is due, a thousand times a second."""
        while True:
            await asyncio.sleep(TICK_NS / 1e9)
            self._fill(_clock())

    # --- answers ---------------------------------------------------------------------------------

    def _answer(self, made: int, late: int, reply: asyncio.Future[Any]) -> None:
        now = _clock()
        try:
            value = reply.result()
        except asyncio.CancelledError:
            return  # it was given up
        except Exception as error:
            self._fail(error)
        else:
            if type(value) is RemoteItems:
                reader = asyncio.create_task(self._read(made, late, value))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
                return
            self._took(made, late, now)
        self._go_on(now)

    def _answer_timed(self, made: int, late: int, reply: TimedReply) -> None:
        took = _clock() - made
        if reply.times is not None and reply.exception() is None:
            self._timed_seen += 1
            timed = Timed(late, took, reply.times)
            if len(self.timed) < MOST_TIMED:
                self.timed.append(timed)
            elif (place := random.randrange(self._timed_seen)) < MOST_TIMED:  # noqa: S311
                self.timed[place] = timed
        self._answer(made, late, reply)

    async def _read(self, made: int, late: int, items: RemoteItems) -> None:
        """Read the items of a generator: a call takes until the last."""
        try:
            async for _ in items:
                pass
        except Exception as error:
            self._fail(error)
        else:
            self._took(made, late, _clock())
        self._go_on(_clock())

    def _took(self, made: int, late: int, now: int) -> None:
        self.answered += 1
        if self.ended:
            self._after += 1
            self._within += max(0, self.ended - made) / (now - made)
        # As an HdrHistogram keeps them; 0.15 µs, and its `record_value` takes 0.85.
        took = now - made + late
        shift = (took | 2048).bit_length() - 11
        key = took >> shift << shift
        self.latencies[key] = self.latencies.get(key, 0) + 1

    def _fail(self, error: Exception) -> None:
        if self.first_error is None:
            self.first_error = error
        self.failed[type(error).__name__] += 1

    def _go_on(self, now: int) -> None:
        """Take note that a call is no longer under way, and make the next one."""
        self.under_way -= 1
        if not self.ended:
            if self._left and not self._stop.is_set():
                self._fill(now)
            elif not self._left and not self.under_way:
                self.marks.append((now, self.answered))
                self._end(now)
                self._stop.set()
        elif not self.under_way:
            self._over.set()

    async def _mark(self) -> None:
        """Note now and then how many calls were answered."""
        while True:
            await asyncio.sleep(EVERY)
            self.marks.append((_clock(), self.answered))
            self.on_mark()


def _nothing() -> None:
    """Nobody wants to know."""
