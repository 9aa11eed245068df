"""How the stubs of a plain, synchronous program call.

A blocking call goes straight from the calling thread to the host (see `lane`). What is submitted waits in a
queue, which the loop's thread empties and sends: one wake-up for all that was submitted meanwhile. Threads
may share all of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar

from runtime.client.connection import Connection, list_objects
from runtime.client.lane import Lane, NotStarted
from runtime.client.pending import Pending
from runtime.wire.caller import LANE
from runtime.wire.codec import parcel
from runtime.wire.shelf import discard
from workers import Response
from workers.body import take_content
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from runtime.batch.place import Carried
    from runtime.storage import ObjectRecord
    from runtime.wire.codec import Parcel, Ready
    from runtime.wire.items import RemoteItems
    from runtime.wire.link import Waiter
    from runtime.wire.messages import Target
    from workers import Request

T = TypeVar("T")


class Calls:
    """How the stubs of a Runtime call: blocking through the lane, submitted through the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread: int | None, connection: Connection
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._connection = connection
        self._lane = Lane(
            connection.context,
            connection.roster,
            connection.run,
            connection.name + LANE,
            lambda: connection.ending if connection.ended.done() else "",
        )
        self.lock = threading.RLock()
        """Guards what follows, and the states of all futures: `wait()` holds the locks of many at once."""
        self._queue: deque[tuple[Waiter, Target | None, str, Parcel, float | None]] = deque()
        self._scheduled = False
        self.under_way = 0
        """How many of the submitted calls have not ended."""
        self.refusal = ""
        """Why no calls can be made any more, when that is so."""

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Any:
        """Call a method and wait for its result."""
        self.refuse_waiting()
        ready = parcel(args, kwargs, self._connection.shelf)
        lane = self._lane
        # What was submitted must not be overtaken, so then the call goes the same way.
        if target is not None and not self.under_way and lane.lock.acquire(blocking=False):
            try:
                if self.refusal:
                    raise RuntimeClosed(self.refusal)
                return lane.call(target, method, ready, timeout)
            except NotStarted:
                lane.ahead = True
            finally:
                lane.lock.release()
        pending = self._send(target, method, ready, timeout)
        try:
            return pending.result()
        except BaseException:
            pending.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def submit(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Pending:
        """Call a method; the future has its result."""
        return self._send(target, method, parcel(args, kwargs, self._connection.shelf), timeout)

    def way_to(self, _target: Target) -> Self:
        """Return what makes the calls of an object."""
        return self

    def _send(
        self, target: Target | None, method: str, ready: Parcel, timeout: float | None
    ) -> Pending:
        pending = Pending(self)
        self._queue_up(pending, target, method, ready, timeout)
        return pending

    def carry(self, waiter: Carried, target: Target | None, method: str, ready: Ready) -> None:
        """Send a run, for a waiter that calls `carried` when it is answered or given up."""
        self._queue_up(waiter, target, method, parcel(ready, {}, self._connection.shelf), None)

    def carried(self, waiter: Carried) -> bool:
        """End the wait for a run; False when it had ended before."""
        with self.lock:
            if waiter.over:
                return False
            waiter.over = True
            self.under_way -= 1
        return True

    def _queue_up(
        self,
        waiter: Waiter,
        target: Target | None,
        method: str,
        ready: Parcel,
        timeout: float | None,
    ) -> None:
        if self.refusal:
            raise RuntimeClosed(self.refusal)
        with self.lock:
            self.under_way += 1
            self._queue.append((waiter, target, method, ready, timeout))
            if not self._scheduled:
                # In this order, so that Ctrl-C between the two leaves nothing unsent.
                self._loop.call_soon_threadsafe(self._post)
                self._scheduled = True

    def _post(self) -> None:
        """Send what was submitted, in order. In the loop's thread."""
        caller = self._connection.caller
        while True:
            with self.lock:
                queue, self._queue = self._queue, deque()
                if not queue:
                    self._scheduled = False
                    return
            if self._lane.ahead:
                self._lane.ahead = False
                caller.look()
            for waiter, target, method, ready, timeout in queue:
                if waiter.done():
                    discard(ready[3])
                    continue
                caller.post(waiter, target, method, ready)
                if timeout is not None:
                    caller.deadlines.add(waiter, timeout, target, method)

    def cancelled(self, waiter: Waiter) -> None:
        """Tell the host that nobody waits for a call."""
        self._loop.call_soon_threadsafe(self._cancelled, waiter)

    def _cancelled(self, waiter: Waiter) -> None:
        if waiter.link is not None:  # the present one: it may have been sent on
            waiter.link.cancelled(waiter.call)

    def blocking(self, items: RemoteItems) -> Iterator[Any]:
        """Iterate over items that arrive in the loop's thread."""
        try:
            while True:
                self.refuse_waiting()
                if self._loop.is_closed():
                    raise RuntimeClosed("the runtime was closed")
                step = asyncio.run_coroutine_threadsafe(_next(items), self._loop)
                more = step.result()
                if more is None:
                    return
                yield from more
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(items.close)

    def fetch(self, target: Target | None, request: Request) -> Response:
        """Send a request and wait for the response, whole."""
        return self.wait(self._fetch(target, request))

    async def _fetch(self, target: Target | None, request: Request) -> Response:
        response: Response = await self._connection.caller.fetch(target, request)
        content = take_content(response)
        if content is not None and not isinstance(content, bytes):
            content = b"".join([chunk async for chunk in content])
        return Response(
            content,
            status=response.status,
            status_text=response.status_text,
            headers=response.headers,
        )

    def objects(self, class_name: str | None, limit: int) -> list[ObjectRecord]:
        """Ask all hosts for their objects."""
        return self.wait(list_objects(self._connection.caller, class_name, limit))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop and wait for its result."""
        try:
            self.refuse_waiting()
            if self.refusal:
                raise RuntimeClosed(self.refusal)
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def refuse_waiting(self, do: str = "wait for another call: submit() that one too") -> None:
        """Raise RuntimeError in the loop's own thread, which would wait for itself."""
        if threading.get_ident() == self._thread:
            raise RuntimeError(f"a callback of a submitted call cannot {do}")

    def stop_reading(self) -> None:
        """Break the streams that are being read, so that their writers end."""
        self._lane.stop_reading()

    def close(self) -> None:
        """Close the lane, when its thread has left it."""
        self._lane.close()


async def _next(items: RemoteItems) -> list[Any] | None:
    """Return the items that are there, at least one; None at the end."""
    async for item in items:
        return [item, *items.take()]
    return None
