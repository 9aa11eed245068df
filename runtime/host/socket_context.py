"""What `ctx` offers for WebSockets: accepting, finding, broadcasting, automatic answers.

Semantics: Cloudflare's hibernation API. `broadcast` is Roost's own.
"""

# ruff: noqa: SLF001  (an end's private names are the engine's)
from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runtime.host.object_sockets import MAX_EVENT_TIMEOUT, ObjectSockets
from workers import WebSocket, WebSocketRequestResponsePair
from workers.websocket import checked_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.host.activation import Activation


class SocketContext:
    """The part of an object's `ctx` that concerns WebSockets."""

    __slots__ = ()

    _activation: Activation

    def _sockets(self) -> ObjectSockets:
        activation = self._activation
        if activation.sockets is None:
            activation.sockets = ObjectSockets(activation)
        return activation.sockets

    def accept_web_socket(self, ws: WebSocket, tags: Iterable[str] = ()) -> None:
        """Accept the server's end of a pair: its messages wake the object when it is not there.

        They call `webSocketMessage(ws, message)`, its end calls `webSocketClose(ws, code, reason,
        wasClean)`. Tags (at most 10, of at most 256 characters) find the socket again.

        Raises TypeError for an end that is used already, ValueError for the tags, RuntimeError
        for more than 32,768 sockets.
        """
        self._sockets().accept(ws, tags)

    def get_web_sockets(self, tag: str | None = None) -> list[WebSocket]:
        """Return the sockets that were accepted here, or those of a tag.

        One that the object has closed is in it until the client has answered; one whose client
        has gone is not.
        """
        sockets = self._activation.sockets
        return [] if sockets is None else sockets.get(tag)

    def get_tags(self, ws: WebSocket) -> list[str]:
        """Return the tags of a socket. Raises RuntimeError for one not accepted here."""
        if ws._accepted is None:
            raise RuntimeError(
                "you must call 'acceptWebSocket()' before attempting to access the tags of a "
                "WebSocket."
            )
        if ws._accepted != "hibernation":
            raise RuntimeError("only hibernatable websockets can have tags.")
        return list(ws._tags)

    def broadcast(
        self,
        message: str | bytes,
        tag: str | None = None,
        *,
        except_: WebSocket | Iterable[WebSocket] | None = None,
    ) -> int:
        """Send a message to all sockets accepted here, or to those of a tag; Roost's own.

        `except_` leaves out one or several. Returns to how many it goes. However many they are,
        it is one message to each gateway; it leaves when what was written before is durable.
        """
        sockets = self._activation.sockets
        message = checked_message(message)
        if sockets is None:
            return 0
        if except_ is None:
            left_out: Iterable[WebSocket] = ()
        else:
            left_out = (except_,) if isinstance(except_, WebSocket) else except_
        return sockets.broadcast(message, tag, left_out)

    def set_web_socket_auto_response(
        self, pair: WebSocketRequestResponsePair | None = None
    ) -> None:
        """Answer messages equal to `pair.request` with `pair.response`, without the object.

        The gateway does it, for all sockets accepted here; None ends it.
        """
        if pair is not None and not isinstance(pair, WebSocketRequestResponsePair):
            raise TypeError(
                "Failed to execute 'setWebSocketAutoResponse' on 'DurableObjectState': parameter 1 "
                f"is not of type 'WebSocketRequestResponsePair' (it is {type(pair).__name__})."
            )
        self._sockets().set_auto(pair)

    def get_web_socket_auto_response(self) -> WebSocketRequestResponsePair | None:
        """Return what is answered without the object, or None."""
        sockets = self._activation.sockets
        if sockets is None or sockets.auto is None:
            return None
        return WebSocketRequestResponsePair(*sockets.auto)

    def get_web_socket_auto_response_timestamp(self, ws: WebSocket) -> datetime | None:
        """Return when a message of a socket was last answered without the object, or None.

        An object that is in memory meanwhile hears of it within a second.
        """
        return None if ws._stamp is None else datetime.fromtimestamp(ws._stamp / 1000, UTC)

    def set_hibernatable_web_socket_event_timeout(self, milliseconds: int | None = None) -> None:
        """Cancel an asynchronous handler that takes longer; None or 0 lets it take its time."""
        if milliseconds is not None:
            if milliseconds > MAX_EVENT_TIMEOUT:
                raise ValueError(f"Event timeout should not exceed {MAX_EVENT_TIMEOUT} ms.")
            if milliseconds < 0:
                raise ValueError("An event timeout is not negative.")
        self._sockets().timeout_ms = milliseconds or None

    def get_hibernatable_web_socket_event_timeout(self) -> int | None:
        """Return the time limit of handlers in milliseconds, or None."""
        sockets = self._activation.sockets
        return None if sockets is None else sockets.timeout_ms

    acceptWebSocket = accept_web_socket
    getWebSockets = get_web_sockets
    getTags = get_tags
    setWebSocketAutoResponse = set_web_socket_auto_response
    getWebSocketAutoResponse = get_web_socket_auto_response
    getWebSocketAutoResponseTimestamp = get_web_socket_auto_response_timestamp
    setHibernatableWebSocketEventTimeout = set_hibernatable_web_socket_event_timeout
    getHibernatableWebSocketEventTimeout = get_hibernatable_web_socket_event_timeout
