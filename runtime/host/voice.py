"""What an object says to its sockets, behind its output gate and with few messages.

A message for many sockets of one gateway is one message on the wire: `ctx.broadcast()` makes it so
at once, and a plain loop over `getWebSockets()` comes to the same, because a send that repeats the
last one's text joins it while that has not left. Only the very last message is ever joined, so that
each socket gets its messages in the order in which they were sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.host.channel import Channel
    from runtime.host.gates import OutputGate
    from runtime.host.said import Said
    from runtime.wire.messages import Message


class Word:
    """One message to a gateway."""

    __slots__ = ("channel", "message")

    def __init__(self, channel: Channel, message: Message) -> None:
        self.channel = channel
        self.message = message

    def leave(self) -> None:
        """Send it."""
        self.channel.post(self.message)

    def fail(self, error: BaseException) -> None:
        """Drop it: what was written before it is lost."""


class Voice:
    """See the module's text. `output` is None for the entrypoint, which writes nothing."""

    __slots__ = ("_last", "_numbers", "_output", "_say")

    def __init__(
        self, say: Callable[[Said], None] | None = None, output: OutputGate[Any] | None = None
    ) -> None:
        self._say = say
        self._output = output
        self._last: Word | None = None
        self._numbers: list[int] = []

    def send(self, channel: Channel, number: int, payload: str | bytes) -> None:
        """Send a message to one socket."""
        last = self._last
        if (
            last is not None
            and last.channel is channel
            and type(last.message[2]) is type(payload)
            and last.message[2] == payload
            and self._waits(last)
        ):
            self._numbers.append(number)
            return
        self._numbers = [number]
        self._last = self.say(channel, (m.SEND, self._numbers, payload))

    def broadcast(self, channel: Channel, numbers: list[int], payload: str | bytes) -> None:
        """Send a message to many sockets of one gateway."""
        self.say(channel, (m.SEND, numbers, payload))

    def say(self, channel: Channel, message: Message) -> Word:
        """Say something to a gateway."""
        word = Word(channel, message)
        if self._say is None:
            word.leave()
        else:
            self._say(word)
        return word

    def _waits(self, word: Word) -> bool:
        """Whether something is the last that was said, and has not left."""
        output = self._output
        if output is None or output.open:
            return word.channel.last is word.message
        return output.last is word
