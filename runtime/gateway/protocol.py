"""uvicorn's HTTP/1.1 protocol, with one gap closed: every request hears of a lost connection.

uvicorn tells only the newest request of a connection: of two pipelined ones the first, still being
served, would learn of it from a failing write at best. Nor can ASGI tell a request that has upload left
unread, since a disconnect is reported only after the upload: its stream would run for ever, into
nothing. Such a request leaves a callback in its scope under `LOST`. (In both cases uvicorn has stopped
reading, so that the loss itself shows at the next write.) Stateless beyond its connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LOST = "roost.lost"
"""The key of a scope whose value is called, without arguments, when the connection is lost."""


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`."""

    _cycles: tuple[RequestResponseCycle, ...] = ()

    def on_headers_complete(self) -> None:
        """Parser callback: a request's head is complete."""
        super().on_headers_complete()
        self._cycles = (
            *[cycle for cycle in self._cycles if not cycle.response_complete],
            self.cycle,
        )

    def _unsupported_upgrade_warning(self) -> None:
        """The base would log two warnings for each; the application answers it, which is enough."""

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
