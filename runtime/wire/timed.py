"""Calls that tell where their time went: how `roost bench` looks into calls, a sample of them.

A timed call is a call in an envelope (TIMED), with the moment at which it left its caller. Its host
delivers it as it would deliver the call itself, takes note of its way, and sends what it noted (TIMES)
right before the answer. All processes of a machine have one monotonic clock, so moments can be compared.
Other calls are not touched, and cost what they did.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.wire import messages as m
from runtime.wire.codec import parcel
from runtime.wire.link import Link, Reply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from runtime.wire.caller import Caller
    from runtime.wire.messages import Message, Target


class Times(NamedTuple):
    """What a call's host knows of its time, in nanoseconds; what else it took it was on the wire."""

    queue: int
    """In the host and the object's mailbox, until the method began."""
    run: int
    """In the method, with all that it awaited."""
    commit: int
    """Behind the output gate, until what the object had written was durable."""


class Sent:
    """Arrives as the moment, in nanoseconds, at which it was pickled: batches are when they leave."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (time.monotonic_ns(),)


class TimedReply(Reply):
    """The future of a timed call."""

    __slots__ = ("times",)
    times: Times | None
    """None while it is not answered, and of a call that failed before its method began."""


def timed_caller(
    caller: Caller, loop: asyncio.AbstractEventLoop
) -> Callable[[Target, str, tuple[Any, ...], dict[str, Any]], TimedReply]:
    """Return what makes timed calls of objects, like `Caller.call`, from a process that is no host."""
    for link in caller.links:
        link.on_times = _take_times
    sent = Sent()

    def call(
        target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TimedReply:
        reply = TimedReply(loop=loop)
        reply.times = None
        kind, first, second, frames = parcel(args, kwargs, caller.shelf)
        envelope = (m.TIMED, (kind, first, second, sent), len(frames), frames)
        caller.post(reply, target, method, envelope)
        return reply

    return call


def _take_times(link: Link, message: Message) -> None:
    reply = link.unanswered.get(message[1])
    if isinstance(reply, TimedReply):
        reply.times = Times(*message[2:])
