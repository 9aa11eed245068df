"""Timed calls in their host: what takes note of their way from arrival to answer.

A `TimedCall` stands in the place of the method's name and a `TimedChannel` in that of the caller's
channel, so that whatever delivers, runs and answers calls does not know of them.

Messages wait unseen in the socket while the host is busy, and that wait counts as the queue's, not as the
wire's: since it was sent, a call was on the wire while the host was idle. So a host that has met a
timed call watches from then on when it sleeps: two looks at the clock each slice of work, one each turn
of an event that has waited.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runtime.host.channel import Channel
from runtime.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runtime.host.activation import Activation
    from runtime.wire.codec import Frame
    from runtime.wire.messages import Message

_clock = time.monotonic_ns


class Watch:
    """When the host was idle last. Moments in nanoseconds of the monotonic clock."""

    __slots__ = ("_idle_since", "_slept", "_woke")

    def __init__(self) -> None:
        self._idle_since = 0  # 0 while it has more to do
        self._slept = self._woke = 0

    def begins(self, now: int) -> None:
        """Take note that a slice of work begins."""
        if self._idle_since:
            self._slept, self._woke = self._idle_since, now

    def ends(self, now: int, *, more: bool) -> None:
        """Take note that a slice of work ends, and whether the next one follows at once."""
        self._idle_since = 0 if more else now

    def turned(self) -> None:
        """Take note that an event, which went on after a wait, waits again or has ended."""
        if self._idle_since:
            self._idle_since = _clock()

    def waits_since(self, sent: int) -> int:
        """Return since when a call that was sent then has waited for the host."""
        return max(sent, sent + self._woke - max(sent, self._slept))


class TimedCall:
    """A timed call, in the place where calls have the name of their method."""

    __slots__ = ("_arrived", "_began", "_ended", "method")

    def __init__(self, method: str, arrived: int) -> None:
        self.method = method
        self._arrived = arrived
        self._began = self._ended = 0

    def __str__(self) -> str:
        return self.method

    def of_object(
        self, _activation: Activation, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return what runs the method, and takes note of when."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._began = self._ended = _clock()
            try:
                value = function(*args, **kwargs)
            finally:
                self._ended = _clock()
            return self._wait(value) if hasattr(type(value), "__await__") else value

        return run

    async def _wait(self, value: Awaitable[Any]) -> Any:
        try:
            return await value
        finally:
            self._ended = _clock()

    def times(self, call: int) -> Message | None:
        """Return what is said of its time when its answer leaves; None if it did not begin."""
        if not self._began:
            return None
        queue, run = self._began - self._arrived, self._ended - self._began
        return (m.TIMES, call, queue, run, _clock() - self._ended)


class TimedChannel(Channel):
    """The channel of a timed call's caller, which says where its time went before it is answered."""

    __slots__ = ("_channel", "_timed")

    def __init__(self, channel: Channel, timed: TimedCall) -> None:
        for name in Channel.__slots__:  # it is the same channel but for what is said
            setattr(self, name, getattr(channel, name))
        self._channel = channel
        self._timed = timed

    def post(self, message: Message, frames: Sequence[Frame] = ()) -> None:
        """Send the answer of the call, or its refusal."""
        times = self._timed.times(message[1])
        if times is not None:
            self._channel.post(times)
        self._channel.post(message, frames)
