"""Deadlines of calls, on a coarse wheel: one timer for all that end in the same hundredth of a second.

A call that is not answered in time fails at its caller, and its host is told that nobody waits any
more. The wheel holds calls weakly, so that answered ones are freed at once. It belongs to a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from runtime.wire.link import describe
from workers.errors import DeadlineExceeded

if TYPE_CHECKING:
    import asyncio

    from runtime.wire.link import Waiter
    from runtime.wire.messages import Target

TICK = 0.01
"""Seconds. A call fails up to so much later than asked, never earlier."""


class Deadlines:
    """See the module's text."""

    __slots__ = ("_loop", "_ticks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks: dict[int, list[tuple[ref[Waiter], float, Target | None, str]]] = {}

    def add(self, waiter: Waiter, seconds: float, target: Target | None, method: str) -> None:
        """Let a call fail with DeadlineExceeded unless it is answered within so many seconds."""
        tick = int((self._loop.time() + seconds) / TICK) + 1
        waiting = self._ticks.get(tick)
        if waiting is None:
            waiting = self._ticks[tick] = []
            self._loop.call_at(tick * TICK, self._expire, tick)
        waiting.append((ref(waiter), seconds, target, method))

    def _expire(self, tick: int) -> None:
        for reference, seconds, target, method in self._ticks.pop(tick):
            waiter = reference()
            if waiter is not None and not waiter.done():
                waiter.set_exception(exceeded(seconds, target, method))
                waiter.link.cancelled(waiter.call)


def exceeded(seconds: float, target: Target | None, method: str) -> DeadlineExceeded:
    """Return the error of a call that was not answered in time."""
    return DeadlineExceeded(
        f"{describe(target, method)} did not answer within {seconds:g} s; whether it had an effect "
        "is not known",
        durable_object_id=None if target is None else target[1].hex(),
    )
