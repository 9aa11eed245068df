"""uvicorn's HTTP/1.1 protocol, with one gap closed: every request hears of a lost connection.

uvicorn tells only the newest request of a connection. When a client pipelines two requests and goes,
the first, still being served, never learns of it, and an endless stream would run for ever. Nor can
ASGI tell a request that has upload left unread, since a disconnect comes only after the upload; such a
request leaves a callback in its scope under `LOST`. Stateless beyond its connection.
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
