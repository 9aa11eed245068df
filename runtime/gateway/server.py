"""The HTTP server: what all connections share, where they come from, and how they end.

One timer a second tells the connections what time it is, so that none needs a timer of its own. To
stop, the server takes no new connections, closes the idle ones, and lets requests under way end.
It knows no host and no ZeroMQ; `dispatch` does.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from runtime.gateway.connection import Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from runtime.gateway.exchange import Exchange
    from runtime.gateway.inbound import BodyStream
    from runtime.gateway.sockets import Sockets

    Headers = list[tuple[str, str]]
    Dispatch = Callable[[Exchange, str, str, Headers, bytes | BodyStream | None], None]
    AccessLogger = Callable[[str, str, int, int, float], None]

BACKLOG = 2048
"""Connections that may wait to be accepted."""


class Server:
    """Serves HTTP by calling `dispatch`. Belongs to its loop.

    `dispatch` is called as (exchange, method, url, headers, content) and returns at once; then, or
    later, it gives a `workers.Response` to `exchange.set_result`, or what went wrong to
    `exchange.set_exception`: `.overloaded` and `.retryable` exceptions become 503, others 500, with
    a page that shows everything in `dev`, with an incident id in `serve`. When the client leaves,
    `exchange.link.cancelled(exchange.call)` is called if a link was set.

    `max_body` is in bytes; larger requests get 413. `access_log` is called as (method, target,
    status, body bytes sent, seconds) after every request. `sockets` takes over the connections of
    WebSockets; without it they are refused.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        mode: Literal["dev", "serve"],
        max_body: int,
        sockets: Sockets | None = None,
        access_log: AccessLogger | None = None,
    ) -> None:
        self.dispatch = dispatch
        self.mode = mode
        self.max_body = max_body
        self.sockets = sockets
        self.access_log = access_log
        self.connections: set[Connection] = set()
        self.seconds = 0
        """How often the clock has ticked."""
        self._starts: dict[int, bytes] = {}
        self._listener: asyncio.Server | None = None
        self._empty: asyncio.Future[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket, which is the server's from here."""
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(1, self._go_on)
        self._listener = await loop.create_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, and end all connections: requests under way have so many seconds."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.stop()
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=grace_s)
        for connection in list(self.connections):
            connection.end()
        await asyncio.sleep(0)  # what was said at last leaves at the end of the tick
        if self._ticking is not None:
            self._ticking.cancel()

    def forget(self, connection: Connection) -> None:
        """A connection has ended, or is a WebSocket's."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    def start_of(self, status: int) -> bytes:
        """How a response of now begins: its status line and date."""
        start = self._starts.get(status)
        if start is None:
            try:
                phrase = HTTPStatus(status).phrase
            except ValueError:
                phrase = ""
            date = formatdate(time.time(), usegmt=True)
            start = f"HTTP/1.1 {status} {phrase}\r\ndate: {date}\r\n".encode("ascii")
            self._starts[status] = start
        return start

    def tick(self) -> None:
        """Another second has passed."""
        self.seconds += 1
        self._starts.clear()
        for connection in list(self.connections):
            connection.look(self.seconds)

    def _go_on(self) -> None:
        self.tick()
        self._ticking = asyncio.get_running_loop().call_later(1, self._go_on)
