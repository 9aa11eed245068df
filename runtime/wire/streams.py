"""Bodies that flow between two processes, a chunk at a time.

A writer sends only what its reader has asked for (credit in bytes), so a slow reader holds back
the writer and never fills memory; nothing is sent before the first PULL, so a refused call can be
sent again whole. A body ends once: complete, or with the error that broke it, so that one that is
cut off is never taken for a whole one. A peer that is lost breaks the streams it had. A reader that
has enough, or that nobody holds any more, says STOP, which closes the writer's iterator.

`Streams` is one end of a connection: the inflows it reads and the outflows it writes. It belongs
to the loop of its process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from runtime.wire import messages as m
from runtime.wire.codec import pack_error, unpack_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextvars import Context

    from runtime.wire.messages import Message

_log = logging.getLogger("roost.wire")

CREDIT = 1024 * 1024
"""Bytes that a writer may be ahead of its reader."""

CHUNK_SIZE = 256 * 1024
"""Larger pieces are cut, so that other messages of the connection get their turn."""


class Inflow:
    """The reading end of a body: an asynchronous iterator of bytes, for one reader."""

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_error",
        "_loop",
        "_number",
        "_open",
        "_owed",
        "_streams",
        "_waiter",
    )

    def __init__(self, streams: Streams, number: int) -> None:
        self._streams = streams
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True
        self._error: BaseException | None = None
        self._owed = CREDIT  # all of it, before the first read
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
            self._waiter = self._loop.create_future()
            await self._waiter
        chunk = self._chunks.popleft()
        self._owed += len(chunk)
        self._grant()
        return chunk

    async def aclose(self) -> None:
        """Say that no more is wanted. Safe to call at any time, any number of times."""
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Say that no more is wanted; who reads on all the same gets the error."""
        self._chunks.clear()
        if error is not None:
            self._error = error
        if self._open:
            self._open = False
            self._streams.drop_inflow(self._number)
        self._wake()

    def __del__(self) -> None:
        if self._open:  # nobody can read it any more, and its writer may wait for credit
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._streams.drop_inflow, self._number)


class Outflow:
    """The writing end of a body: sends an iterator's chunks as its reader asks for them."""

    __slots__ = (
        "_context",
        "_credit",
        "_ended",
        "_number",
        "_object_id",
        "_runs",
        "_source",
        "_streams",
        "_task",
        "_waiter",
    )

    def __init__(
        self,
        streams: Streams,
        number: int,
        source: AsyncIterator[bytes],
        context: Context | None,
        object_id: bytes | None,
    ) -> None:
        self._object_id = object_id
        self._context = context  # of the event whose body it is: its iterator is the event's code
        self._streams = streams
        self._number = number
        self._source = source
        self._credit = 0
        self._ended = False  # whether the reader knows, or needs not be told, how it ended
        self._runs = False
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its reader has asked for any of it."""
        return self._task is not None

    @property
    def offer(self) -> tuple[AsyncIterator[bytes], Context | None, bytes | None]:
        """What it was made of."""
        return self._source, self._context, self._object_id

    def grant(self, amount: int) -> None:
        """Take credit from the reader; the first of it starts the flow."""
        self._credit += amount
        if self._task is None:
            self._start(self._run())
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Break the body, whose reader must not have the rest."""
        if not self._ended:
            self._streams.post(
                (m.END, self._number, pack_error(error, self._object_id, remote=False))
            )
            self.stop()

    def stop(self) -> None:
        """Stop writing and close the source."""
        if self._ended:
            return
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        if not self._runs:  # a task that is cancelled before its first step does nothing at all
            self._start(self._close_source())

    def _start(self, code: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(code, context=self._context)

    async def _run(self) -> None:
        self._runs = True
        error: BaseException | None = None
        try:
            await self._write()
        except GeneratorExit:
            raise
        except BaseException as broken:  # also sys.exit() in the body's code: it is the reader's
            error = broken
        if not self._ended:
            self._ended = True
            packed = None if error is None else pack_error(error, self._object_id)
            self._streams.post((m.END, self._number, packed))
        await self._close_source()

    async def _write(self) -> None:
        async for piece in self._source:
            for start in range(0, len(piece), CHUNK_SIZE):
                while self._credit <= 0:
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
                chunk = bytes(piece[start : start + CHUNK_SIZE])
                self._credit -= len(chunk)
                self._streams.post((m.CHUNK, self._number, chunk))

    async def _close_source(self) -> None:
        try:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
        except BaseException:
            _log.exception("a body could not be closed")
        finally:
            self._streams.forget_outflow(self._number)


class Streams:
    """All bodies that flow over one connection, seen from one of its ends."""

    __slots__ = ("_count", "_inflows", "_outflows", "post")

    def __init__(self, post: Callable[[Message], None]) -> None:
        self.post = post
        self._inflows: WeakValueDictionary[int, Inflow] = WeakValueDictionary()
        self._outflows: dict[int, Outflow] = {}
        self._count = 0

    @property
    def writing(self) -> int:
        """How many bodies this end still has to send or to close."""
        return len(self._outflows)

    def send(
        self,
        source: AsyncIterator[bytes],
        context: Context | None = None,
        object_id: bytes | None = None,
    ) -> int:
        """Offer a body; returns the number to name it by in the message that announces it.

        `context` is where its iterator runs; `object_id` is told with an error that it raises.
        """
        self._count += 1
        self._outflows[self._count] = Outflow(self, self._count, source, context, object_id)
        return self._count

    def receive(self, number: int) -> Inflow:
        """Start to read a body that the other end offered. It flows while somebody holds it."""
        inflow = self._inflows[number] = Inflow(self, number)
        return inflow

    def drop_inflow(self, number: int) -> None:
        """Tell the writer of a body that it is wanted no more; chunks under way are ignored."""
        self._inflows.pop(number, None)
        self.post((m.STOP, number))

    def forget_outflow(self, number: int) -> None:
        """Drop a body that was sent, and whose source is closed."""
        self._outflows.pop(number, None)

    def hand_over(self, number: int, other: Streams) -> int:
        """Offer a body over another connection, of which nothing was read; returns its number there."""
        outflow = self._outflows.pop(number, None)
        return 0 if outflow is None else other.send(*outflow.offer)

    def fail(self, number: int, error: BaseException) -> None:
        """Break a body that this end was writing."""
        outflow = self._outflows.get(number)
        if outflow is not None:
            outflow.fail(error)

    def stop(self, number: int) -> None:
        """Stop writing a body that its reader wants no more, or that was never announced."""
        outflow = self._outflows.get(number)
        if outflow is not None:
            outflow.stop()

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

    def stop_reading(self, error: BaseException) -> None:
        """Break every stream that this end reads, and tell their writers."""
        for inflow in list(self._inflows.values()):
            inflow.close(error)

    def lost(self, error: BaseException, *, keep_unread: bool = False) -> None:
        """Break every stream: the other end is gone.

        `keep_unread` spares bodies that it had not begun to read: they can be offered to another.
        """
        inflows = list(self._inflows.values())
        self._inflows.clear()
        for inflow in inflows:
            inflow.finish(error)
        for outflow in list(self._outflows.values()):
            if outflow.has_begun or not keep_unread:
                outflow.stop()
