"""One request under way, and how it learns that its client has left.

ASGI tells of a disconnect only to whoever waits in `receive()`. Waiting there from the start would
cost a task a request, while nearly all requests are answered within a millisecond; so an `Exchange`
is merely put into a set (0.1 µs), and a `Sweep` visits that set a few times a second: an exchange it
meets twice gets a watcher of its own, which stops the request when the client goes. The timer runs
only while there are exchanges in the set. A watcher never reads ahead of the script: as long as the
request body has not ended, `receive()` is the body reader's alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.gateway.inbound import BodyStream, Receive


class Exchange:
    """The state of one request: what was sent so far, and whether it was stopped from outside.

    `url` is the target alone until the head has been understood; `body` is set when it streams;
    `status` is 0 until a response has begun; `sent` counts body bytes; `done` says that nothing is
    left to be stopped; `stopped` says that the cancellation now arriving in the task is ours.
    """

    __slots__ = (
        "_met",
        "_receive",
        "_task",
        "_watcher",
        "body",
        "done",
        "sent",
        "status",
        "stopped",
        "url",
    )

    def __init__(self, receive: Receive, target: str) -> None:
        self._receive = receive
        self.url = target
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._met = False
        self.body: BodyStream | None = None
        self.status = 0
        self.sent = 0
        self.done = False
        self.stopped = False

    @property
    def overflowed(self) -> bool:
        """Whether the streamed request body grew past its limit."""
        return self.body is not None and self.body.too_large

    def stop(self) -> None:
        """Cancel the task that serves this request, once."""
        if not (self.done or self.stopped) and self._task is not None:
            self.stopped = True
            self._task.cancel()

    def forgive(self) -> None:
        """Take the cancellation back, after it has arrived: the task has something left to say."""
        if self._task is not None:
            self._task.uncancel()

    def met(self) -> bool:
        """Called by the sweep; whether it needs to visit no more."""
        body = self.body
        if body is not None:
            if body.too_large:  # whoever was to read it may have swallowed the error
                self.stop()
                return True
            if not body.ended:
                return False
        if self._met:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
            return True
        self._met = True
        return False

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.stop()


class Sweep:
    """All exchanges of one app that no watcher looks after yet, visited every `interval` seconds."""

    __slots__ = ("_armed", "_interval", "_open")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._open: set[Exchange] = set()
        self._armed = False

    def enter(self, exchange: Exchange) -> None:
        """Begin to visit the exchange."""
        self._open.add(exchange)
        if not self._armed:
            self._arm()

    def leave(self, exchange: Exchange) -> None:
        """The exchange is over."""
        exchange.done = True
        self._open.discard(exchange)

    def _arm(self) -> None:
        self._armed = True
        asyncio.get_running_loop().call_later(self._interval, self._visit)

    def _visit(self) -> None:
        self._open.difference_update([exchange for exchange in self._open if exchange.met()])
        self._armed = False
        if self._open:
            self._arm()
