"""Bodies that flow between two processes, a chunk at a time.

A writer sends only what its reader has asked for (credit in bytes), so a slow reader holds back
the writer and never fills memory; nothing is sent before the first PULL, so a refused call can be
sent again whole. A peer that is lost breaks the streams it had; a reader that has enough says
STOP, which closes the writer's iterator.

`Streams` is one end of a connection: the inflows it reads and the outflows it writes. It belongs
to the loop of its process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

from runtime.wire import messages as m
from runtime.wire.codec import pack_error, unpack_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextvars import Context

    from runtime.wire.messages import Message

CREDIT = 1024 * 1024
"""Bytes that a writer may be ahead of its reader."""

CHUNK_SIZE = 256 * 1024
"""Larger pieces are cut, so that other messages of the connection get their turn."""


class Inflow:
    """The reading end of a body: an asynchronous iterator of bytes."""

    __slots__ = ("_chunks", "_error", "_number", "_open", "_owed", "_streams", "_waiter")

    def __init__(self, streams: Streams, number: int) -> None:
        self._streams = streams
        self._number = number
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True
        self._error: BaseException | None = None
        self._owed = CREDIT  # all of it is owed until the first read
        self._grant()

    def _grant(self) -> None:
        if self._open and self._owed >= CREDIT // 2:
            self._streams.post((m.PULL, self._number, self._owed))
            self._owed = 0

    def feed(self, chunk: bytes) -> None:
        """Take a chunk that has arrived."""
        self._chunks.append(chunk)
        self._wake()

    def finish(self, error: BaseException | None) -> None:
        """Take the end of the body, or what broke it."""
        self._open = False
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if not self._open:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunk = self._chunks.popleft()
        self._owed += len(chunk)
        self._grant()
        return chunk

    async def aclose(self) -> None:
        """Say that no more is wanted. Safe to call at any time, any number of times."""
        self.close()

    def close(self) -> None:
        """Say that no more is wanted."""
        self._chunks.clear()
        if self._open:
            self._open = False
            self._streams.forget_inflow(self._number)
            self._streams.post((m.STOP, self._number))
            self._wake()


class Outflow:
    """The writing end of a body: sends an iterator's chunks as its reader asks for them."""

    __slots__ = ("_context", "_credit", "_number", "_source", "_streams", "_task", "_waiter")

    def __init__(
        self,
        streams: Streams,
        number: int,
        source: AsyncIterator[bytes],
        context: Context | None,
    ) -> None:
        self._context = context  # of the event whose body it is: its iterator is the event's code
        self._streams = streams
        self._number = number
        self._source = source
        self._credit = 0
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def grant(self, amount: int) -> None:
        """Take credit from the reader; the first of it starts the flow."""
        self._credit += amount
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def stop(self) -> None:
        """Stop writing and close the source."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._task = asyncio.get_running_loop().create_task(
                self._close_source(), context=self._context
            )

    async def _close_source(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            async for piece in self._source:
                for start in range(0, len(piece), CHUNK_SIZE):
                    while self._credit <= 0:
                        self._waiter = asyncio.get_running_loop().create_future()
                        await self._waiter
                    chunk = bytes(piece[start : start + CHUNK_SIZE])
                    self._credit -= len(chunk)
                    self._streams.post((m.CHUNK, self._number, chunk))
        except asyncio.CancelledError:
            await self._close_source()
            raise
        except Exception as broken:
            error = broken
        finally:
            self._streams.forget_outflow(self._number)
        packed = None if error is None else pack_error(error, None)
        self._streams.post((m.END, self._number, packed))


class Streams:
    """All bodies that flow over one connection, seen from one of its ends."""

    __slots__ = ("_count", "_inflows", "_outflows", "on_idle", "post")

    def __init__(
        self, post: Callable[[Message], None], on_idle: Callable[[], None] | None = None
    ) -> None:
        self.post = post
        self.on_idle = on_idle
        self._inflows: dict[int, Inflow] = {}
        self._outflows: dict[int, Outflow] = {}
        self._count = 0

    @property
    def writing(self) -> int:
        """How many bodies this end still has to send."""
        return len(self._outflows)

    def send(self, source: AsyncIterator[bytes], context: Context | None = None) -> int:
        """Offer a body; returns the number to name it by in the message that announces it."""
        self._count += 1
        self._outflows[self._count] = Outflow(self, self._count, source, context)
        return self._count

    def receive(self, number: int) -> Inflow:
        """Start to read a body that the other end offered."""
        inflow = self._inflows[number] = Inflow(self, number)
        return inflow

    def forget_inflow(self, number: int) -> None:
        """Drop a body that is wanted no more; chunks under way are ignored."""
        self._inflows.pop(number, None)

    def forget_outflow(self, number: int) -> None:
        """Drop a body that was sent."""
        self._outflows.pop(number, None)
        if self.on_idle is not None:
            self.on_idle()

    def stop(self, number: int) -> None:
        """Stop writing a body that its reader wants no more, or that was never announced."""
        outflow = self._outflows.pop(number, None)
        if outflow is not None:
            outflow.stop()
            if self.on_idle is not None:
                self.on_idle()

    def handle(self, message: Message) -> None:
        """Take a PULL, CHUNK, END or STOP from the other end."""
        kind, number = message[0], message[1]
        if kind == m.CHUNK:
            inflow = self._inflows.get(number)
            if inflow is not None:
                inflow.feed(message[2])
        elif kind == m.END:
            inflow = self._inflows.pop(number, None)
            if inflow is not None:
                inflow.finish(None if message[2] is None else unpack_error(message[2]))
        elif kind == m.PULL:
            outflow = self._outflows.get(number)
            if outflow is not None:
                outflow.grant(message[2])
        elif kind == m.STOP:
            self.stop(number)

    def lost(self, error: BaseException) -> None:
        """Break every stream: the other end is gone."""
        inflows, self._inflows = self._inflows, {}
        for inflow in inflows.values():
            inflow.finish(error)
        for number in list(self._outflows):
            self.stop(number)
