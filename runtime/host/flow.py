"""What an event goes on saying after it has ended: the pieces of a streamed body, a generator's items.

A flow keeps its object alive until it ends, goes on only through the input gate, and lets a piece out
only when what was written before it is durable. When the object is reset, its flows break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.host.activation import Activation
    from runtime.host.answers import Incoming
    from runtime.host.channel import Channel
    from runtime.host.entrypoint import Entrypoint


class Flow:
    """An asynchronous iterator of pieces, in an owner's name. Its channel closes it, however it ends.

    The request that it answers is given back only then: many a body is made of its request's.
    """

    __slots__ = ("_channel", "_incoming", "_number", "_owner", "_source")

    def __init__(
        self,
        owner: Activation | Entrypoint,
        source: AsyncIterator[bytes],
        incoming: Incoming | None = None,
    ) -> None:
        self._owner = owner
        self._source = source
        self._incoming = incoming

    def start(self, channel: Channel) -> int:
        """Offer the flow to a caller; returns the number of its stream."""
        owner = self._owner
        owner.flows[self] = None
        self._channel = channel
        self._number = channel.streams.send(self, owner.host.context_of(owner.event), owner.raw_id)
        return self._number

    def fail(self, error: BaseException) -> None:
        """Break the flow: its object was reset."""
        self._channel.streams.fail(self._number, error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        owner = self._owner
        while owner.gate.locks:
            await owner.gate.wait()
        piece = await anext(self._source)
        waiting = owner.confirm()
        if waiting is not None:
            await waiting
        return piece

    async def aclose(self) -> None:
        """End the flow and close its source."""
        try:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._owner.flows.pop(self, None)
            self._owner.host.handover.look()
            if self._incoming is not None:
                self._incoming.close()
