"""The opening handshake of a WebSocket: may it be, and the head that answers it.

Checked before the script hears of the request, by the rules of RFC 6455 as `websockets` knows them;
what is wrong with it ends in `Refused`. The script decides the rest: it answers 101 with a
WebSocket, or anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMethod,
    InvalidProtocol,
    InvalidUpgrade,
)
from websockets.http11 import Request
from websockets.server import ServerProtocol

from runtime.gateway.frames import DEFLATE
from runtime.gateway.inbound import Refused
from runtime.gateway.outbound import encode_headers

if TYPE_CHECKING:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    from runtime.gateway.outbound import RawHeaders
    from runtime.gateway.sockets import Sockets
    from workers import Response

_OURS = frozenset((b"content-length", b"sec-websocket-accept", b"sec-websocket-extensions"))


class Handshake(NamedTuple):
    """What the gateway answers to a valid handshake, if the script accepts it."""

    accept: str
    """Sec-WebSocket-Accept."""
    extensions: str | None
    """Sec-WebSocket-Extensions."""
    deflate: PerMessageDeflate | None


def check_handshake(
    method: str, target: str, version: str, raw: RawHeaders, sockets: Sockets
) -> Handshake:
    """Return the answer to a valid handshake: the head of a request of some HTTP version.

    Raises `Refused`: 400, 405, 426 or 505 for an invalid one, 403 for an Origin that is not
    allowed, 503 when the gateway has as many sockets as it may.
    """
    headers = Headers()
    for name, value in raw:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    request = Request(target, headers, method=method, protocol=f"HTTP/{version}")
    try:
        protocol = ServerProtocol(extensions=[DEFLATE] if sockets.limits.compress else None)
        accept, extensions, _ = protocol.process_request(request)
    except InvalidMethod as wrong:
        raise Refused(405, f"{wrong}", [(b"allow", b"GET")]) from wrong
    except InvalidProtocol as wrong:
        raise Refused(505, f"{wrong}") from wrong
    except InvalidUpgrade as wrong:
        raise Refused(426, f"{wrong}", [(b"upgrade", b"websocket")]) from wrong
    except InvalidHeader as wrong:
        if wrong.name == "Sec-WebSocket-Version":
            known = [(b"sec-websocket-version", b"13")]
            raise Refused(426, f"{wrong}", known) from wrong
        raise Refused(400, f"{wrong}") from wrong
    except InvalidHandshake as wrong:
        raise Refused(400, f"{wrong}") from wrong
    origins = sockets.limits.origins
    origin = headers.get("Origin")
    if origins and origin is not None and origin not in origins:
        raise Refused(403, f"WebSockets are not open to pages of {origin}.")
    if sockets.full:
        raise Refused(
            503, "This server has as many WebSockets as it may.", [(b"retry-after", b"5")]
        )
    deflate = cast("PerMessageDeflate", protocol.extensions[0]) if protocol.extensions else None
    return Handshake(accept, extensions, deflate)


def head_of(response: Response, handshake: Handshake) -> bytes:
    """Return the head that answers an upgrade. Raises ValueError for headers HTTP cannot carry."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + handshake.accept.encode("ascii"),
    ]
    if handshake.extensions is not None:
        lines.append(b"sec-websocket-extensions: " + handshake.extensions.encode("ascii"))
    for name, value in encode_headers(response, None, head=False):
        if name not in _OURS:
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
