"""What waits behind an object's output gate until all that was written before it is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from runtime.wire import messages as m
from runtime.wire.codec import pack_error
from runtime.wire.shelf import discard

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from runtime.host.channel import Channel
    from runtime.wire.caller import Caller
    from runtime.wire.codec import Frame
    from runtime.wire.link import Reply
    from runtime.wire.messages import Message


class Said(Protocol):
    """Something that waits behind the output gate; a plain result is a `Result` there."""

    def leave(self) -> None:
        """Go out: what was written before is durable."""

    def fail(self, error: BaseException) -> None:
        """Never go out: what was written before is lost."""


Result: TypeAlias = "tuple[Channel, Message]"
"""A result that is all in its message, behind the output gate. A plain tuple: nearly every call has
one (0.08 µs to make and to send; an Answer takes 0.3)."""


class Answer(NamedTuple):
    """The result of an event, behind the output gate."""

    channel: Channel
    message: Message
    frames: Sequence[Frame]

    def leave(self) -> None:
        """Send the result to the caller."""
        self.channel.post(self.message, self.frames)

    def fail(self, error: BaseException) -> None:
        """Send the error in its place, and drop the body it would have had."""
        message = self.message
        if message[0] == m.RESPONSE and isinstance(message[5], int):
            self.channel.streams.stop(message[5])
        elif message[0] == m.ITEMS:
            self.channel.streams.stop(message[2])
        discard(self.frames)
        self.channel.post((m.ERROR, message[1], pack_error(error, None, remote=False)))


class Outgoing(NamedTuple):
    """A call to another object, behind the output gate."""

    caller: Caller
    reply: Reply
    message: Message
    frames: Sequence[Frame]

    def leave(self) -> None:
        """Send the call."""
        self.caller.post_prepared(self.reply, self.message, self.frames)

    def fail(self, error: BaseException) -> None:
        """Fail the call, unsent."""
        self.reply.link.discard(self.message, self.frames)
        if not self.reply.done():
            self.reply.set_exception(error)


class Confirmation(NamedTuple):
    """Somebody who awaits that all writes so far are durable."""

    future: asyncio.Future[None]

    def leave(self) -> None:
        """Wake who waits."""
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Tell who waits that the writes are lost."""
        if not self.future.done():
            self.future.set_exception(error)
