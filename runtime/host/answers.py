"""What an HTTP request to an object or the entrypoint is answered with, and when it is given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.host.flow import Flow
from runtime.wire import messages as m
from workers import Response
from workers.body import take_content
from workers.response import parts_of

if TYPE_CHECKING:
    from runtime.host.activation import Activation, Ticket
    from runtime.host.entrypoint import Entrypoint
    from runtime.wire.messages import Message
    from runtime.wire.streams import Inflow


class Incoming:
    """The request of a fetch(); its body is given back when the response has ended."""

    __slots__ = ("body",)

    def __init__(self, body: Inflow | None) -> None:
        self.body = body

    def close(self) -> None:
        """Say that no more of the body is wanted; who reads on gets an error, not an early end."""
        if self.body is not None:
            self.body.close(OSError("Can't read from request stream after response has been sent."))


def response_message(
    ticket: Ticket, value: Any, owner: Activation | Entrypoint, where: str
) -> Message:
    """Build the RESPONSE of what a fetch() returned. Raises TypeError if it is no Response.

    The request is given back: at once, or when a streamed body has ended.
    """
    channel, call, incoming = ticket
    assert incoming is not None
    if not isinstance(value, Response):
        raise TypeError(f"{where} must return a Response, and returned {type(value).__name__}")
    status, text, headers = parts_of(value)
    content: Any = take_content(value)
    if value.web_socket is not None:
        incoming.close()
        protocol = value.headers.get("sec-websocket-protocol")
        offer = owner.host.sockets.offer(value.web_socket, owner, protocol)
        return (m.UPGRADE, call, status, text, headers, None, offer)
    if content is None or type(content) is bytes:
        incoming.close()
    else:
        content = Flow(owner, content, incoming).start(channel)
    return (m.RESPONSE, call, status, text, headers, content)
