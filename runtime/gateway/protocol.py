"""uvicorn's HTTP/1.1 protocol, with a gap closed and a shortcut: `LOST` and `WHOLE`.

Every request hears of a lost connection.

uvicorn tells only the newest request of a connection: of two pipelined ones the first, still being
served, would learn of it from a failing write at best. Nor can ASGI tell a request that has upload left
unread, since a disconnect is reported only after the upload: its stream would run for ever, into
nothing. Such a request leaves a callback in its scope under `LOST`. (In both cases uvicorn has stopped
reading, so that the loss itself shows at the next write.)

ASGI sends a response in two messages, which uvicorn writes by two system calls: 10 µs each, of the 60
that a request takes. Nearly all responses are whole and small, and leave in one write through `WHOLE`.

Stateless beyond its connection.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LOST = "roost.lost"
"""The key of a scope whose value is called, without arguments, when the connection is lost."""


TAKE = "roost.take"
"""The key of a scope whose value, called with a head and a protocol, hands the connection over."""

WHOLE = "roost.whole"
"""The key of a scope whose value, called with a status, checked headers and the body, answers.

It returns whether it did; if not (the client reads slowly, or the connection is to be closed), the
response goes the ordinary way.
"""


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`."""

    _cycles: tuple[RequestResponseCycle, ...] = ()
    _data = b""
    _early: bytes | None = None  # what came after an upgrade's head; None without an upgrade

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._data = data
        super().data_received(data)
        self._data = b""

    def on_headers_complete(self) -> None:
        """Parser callback: a request's head is complete."""
        super().on_headers_complete()
        self._cycles = (
            *[cycle for cycle in self._cycles if not cycle.response_complete],
            self.cycle,
        )
        self.scope[WHOLE] = partial(self._answer, self.cycle)  # type: ignore[literal-required]

    def _answer(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> bool:
        """Write a whole response, whose headers have its Content-Length; see `WHOLE`."""
        if (
            cycle.disconnected
            or cycle.response_started
            or not cycle.keep_alive
            or self.flow.write_paused
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        self.transport.write(b"".join(parts))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _unsupported_upgrade_warning(self) -> None:
        """A request asks for an upgrade: read no further, until the application has decided.

        (The base would log two warnings for each, and lose what follows the head.)
        """
        stopped = sys.exc_info()[1]
        if self._get_upgrade() != b"websocket" or not isinstance(
            stopped, httptools.HttpParserUpgrade
        ):
            return
        self.transport.pause_reading()
        self._early = self._data[stopped.args[0] :]
        self.scope[TAKE] = self._hand_over  # type: ignore[literal-required]

    def on_response_complete(self) -> None:
        """Called when a response is complete: one that did not upgrade is the connection's last."""
        super().on_response_complete()
        if self._early is not None:
            self.transport.close()

    def _hand_over(self, head: bytes, protocol: asyncio.Protocol) -> None:
        """Answer the upgrade and leave the connection to another protocol."""
        early = self._early or b""
        self._cycles = ()
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.cycle.response_started = self.cycle.response_complete = True
        self.cycle.message_event.set()
        transport = self.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if transport.is_closing():
            protocol.connection_lost(None)
            return
        transport.write(head)
        if early:
            protocol.data_received(early)
        transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or the connection was closed from here."""
        super().connection_lost(exc)
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                lost = cycle.scope.get(LOST)
                if callable(lost):
                    lost()
        self._cycles = ()
