"""A map of an asyncio program or a worker script: an asynchronous iterator.

Everything happens in the loop. A plain iterable is read when a result is asked for; an asynchronous
one is read by a task of its own, as far as there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import ref

from runtime.batch.pump import NOTHING
from workers.errors import CheckpointError, RuntimeClosed

if TYPE_CHECKING:
    from runtime.batch.job import Job
    from runtime.batch.place import Submits
    from runtime.batch.pump import Flight, Tally

SERVE: Final = 64
"""Results yielded before hosts get new work."""


class AsyncResults(AsyncIterator[Any]):
    """The results of a map, as they come: (key, result). Iterate with `async for`.

    `aclose()` it, leave its `async with` block, or simply drop it (`break`), to stop the map: what
    was not sent is not sent, what is under way is cancelled, and the checkpoint is saved.
    """

    def __init__(self, job: Job, calls: Submits) -> None:
        self._job = job
        self._pump = job.pump
        self._calls = calls
        self._under_way: dict[int, asyncio.Future[Any]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._yielded = 0
        job.maps.add(self)

    @property
    def tally(self) -> Tally:
        """How the map stands, in numbers."""
        return self._pump.tally

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._job.closed:
            error, self._job.input_error = self._job.input_error, None
            raise error or StopAsyncIteration
        try:
            return await self._next()
        except BaseException as stop:
            self.close()
            if isinstance(stop, KeyboardInterrupt | asyncio.CancelledError):
                stop.add_note(self._job.where())
            raise

    async def _next(self) -> Any:
        pump = self._pump
        pump.settle()
        self._yielded += 1
        if self._yielded % SERVE == 0:
            self._serve()
            await asyncio.sleep(0)  # a loop that takes results without waiting must not starve it
        while True:
            result = pump.take()
            if result is not NOTHING:
                return result
            self._serve()
            if pump.has_results:
                continue
            if pump.finished:
                error, self._job.input_error = self._job.input_error, None
                raise error or StopAsyncIteration
            if pump.wants and self._reader is None and not self._job.starved:
                await asyncio.sleep(0)  # more to read, and answers must get in
            else:
                await self._wait()

    def _serve(self) -> None:
        """Read a portion and send what can be sent."""
        if not isinstance(self._job.items, AsyncIterable):
            self._job.read_some()
        elif self._reader is None:
            reading = _read(self._job, self._job.items, self._news, self._room)
            self._reader = asyncio.ensure_future(reading)
        elif self._reader.done() and not self._reader.cancelled():
            self._reader.result()  # raises CheckpointError
        if self._pump.wants:
            self._room.set()
        for flight in self._pump.flights():
            packed = self._pump.pack(flight)
            if packed is not None:
                method = self._job.plan.method
                try:
                    reply = self._calls.submit(flight.lane.target, method, packed, {})
                except Exception as error:  # the runtime was closed
                    self._pump.fail(flight, error)
                    continue
                self._under_way[id(flight)] = reply
                reply.add_done_callback(partial(_answered, ref(self), flight))
        if self._pump.fatal is not None:
            raise self._pump.fatal
        self._job.turn()

    async def _wait(self) -> None:
        self._news.clear()
        seconds = self._job.wait()
        if seconds is None:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _answered(self, flight: Flight, reply: asyncio.Future[Any]) -> None:
        if self._under_way.pop(id(flight), None) is None:
            return
        self._news.set()
        if reply.cancelled():
            self._pump.fail(flight, asyncio.CancelledError())
            return
        error = reply.exception()
        if error is None:
            self._pump.answer(flight, reply.result())
        else:
            self._pump.fail(flight, error)

    def close(self) -> None:
        """Stop the map. Again: does nothing.

        The result that was yielded last counts as dealt with only if another was asked for.
        """
        if self._job.closed:
            return
        under_way, self._under_way = self._under_way, {}
        try:
            if self._reader is not None:
                self._reader.cancel()
            for reply in under_way.values():
                reply.cancel()
        finally:
            self._job.close()

    def cut_off(self) -> None:
        """Stop the map because its runtime is closed; whoever goes on to iterate is told so."""
        if not self._job.closed:
            self._job.input_error = RuntimeClosed("the runtime was closed before the map ended")
            self.close()

    async def aclose(self) -> None:
        """Stop the map."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_job"):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.close()


# These know the map as little as they can: what holds it would keep it from being dropped.


def _answered(results: ref[AsyncResults], flight: Flight, reply: asyncio.Future[Any]) -> None:
    there = results()
    if there is not None:
        there._answered(flight, reply)  # noqa: SLF001  (this module's own)


async def _read(
    job: Job, items: AsyncIterable[Any], news: asyncio.Event, room: asyncio.Event
) -> None:
    """Read an asynchronous input, as far as there is room."""
    pump = job.pump
    try:
        async for item in items:
            for part in job.parts(item):
                job.feed(part)
                news.set()
                if pump.exhausted:  # its key is none
                    return
                while not pump.wants:
                    room.clear()
                    await room.wait()
        job.input_ended()
    except CheckpointError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the map was stopped
        job.input_failed(error)
    finally:
        news.set()
