"""From an ASGI scope to the Request a script sees.

What comes in here was written by a stranger. Whatever cannot become an honest Request (no usable
Host, a body over the limit) ends in `Refused`, which names the status and the sentence to send back,
before the script hears of it. Small bodies are read whole; larger ones are pulled from the socket
chunk by chunk, only as fast as the script asks, so that an upload never piles up in the gateway.
Nothing is shared: a `BodyStream` belongs to its one request.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]

SMALL_BODY = 64 * 1024
"""Bytes up to which an announced body is read before the script starts: it travels in one frame."""

NO_WEBSOCKETS = "WebSockets are not served by this version of Roost."
"""The sentence of a 501."""

UNKNOWN_LENGTH = -1
"""The length of a chunked body."""

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORT = {"http": 80, "https": 443}
_TOLD = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Refused(Exception):  # noqa: N818  a decision, not a fault
    """A request the gateway answers by itself, with `status` and the plain text `text`."""

    def __init__(
        self, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or []


class BodyTooLarge(ValueError):  # noqa: N818  named for what the script meets
    """A chunked request body grew past the limit while it was being read."""


class ClientDisconnected(ConnectionError):  # noqa: N818  named for what the script meets
    """The client left before its request body had arrived."""


class BodyStream:
    """The chunks of a request body, pulled from the socket as they are asked for.

    Iterated once, by one reader. Raises `BodyTooLarge` when the bytes exceed the limit, and
    `ClientDisconnected` when the client left in the middle.
    """

    __slots__ = ("_limit", "_receive", "_seen", "ended", "too_large", "touched")

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self.touched = False
        self.ended = False
        self.too_large = False

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        self.touched = True
        while not self.ended:
            message = await self._receive()
            if message["type"] != "http.request":
                self.ended = True
                raise ClientDisconnected("the client disconnected before the request body ended")
            chunk: bytes = message.get("body", b"")
            self.ended = not message.get("more_body", False)
            self._seen += len(chunk)
            if self._seen > self._limit:
                self.ended = self.too_large = True
                raise BodyTooLarge(too_large_text(self._limit))
            if chunk:
                return chunk
        raise StopAsyncIteration


def too_large_text(limit: int) -> str:
    """The sentence of a 413."""
    return f"The request body is larger than the limit of {limit} bytes."


def target_of(scope: Scope) -> str:
    """Path and query as the client wrote them, still percent-encoded, always printable ASCII."""
    target: bytes = scope.get("raw_path") or quote_from_bytes(scope["path"].encode()).encode()
    if query := scope.get("query_string"):
        target += b"?" + query
    try:
        return target.decode("ascii")
    except UnicodeDecodeError:
        return quote_from_bytes(target, safe=_PRINTABLE)


@lru_cache(maxsize=256)
def _origin(scheme: str, host: bytes | None) -> str | None:
    match = _HOST.fullmatch(host or b"")
    if match is None or int(match[2] or 0) > 0xFFFF:
        return None
    name, port = match[1].decode("ascii").lower(), int(match[2] or 0)
    return f"{scheme}://{name}" + (f":{port}" if port not in (0, _DEFAULT_PORT.get(scheme)) else "")


def read_head(
    scope: Scope, target: str, max_body: int
) -> tuple[str, list[tuple[str, str]], int, bool, bool]:
    """URL, headers in their order, the body's length, whether it waits for a 100, for an upgrade.

    The length is 0 when there is no body, `UNKNOWN_LENGTH` when it comes in chunks. A body sent
    along with GET or HEAD counts as none: a Request of these methods cannot carry one.
    Raises `Refused`: 400 for a request without exactly one well-formed Host or with an unusable
    length, 413 for an announced body over `max_body` bytes.
    """
    told: dict[bytes, bytes] = {}
    headers = []
    for name, value in scope["headers"]:
        headers.append((name.decode("latin-1"), value.decode("latin-1")))
        if name in _TOLD:
            if name == b"host" and name in told:
                raise Refused(400, "The request has more than one Host header.")
            told[name] = value
    if target[0] != "/":
        raise Refused(400, "The request's target is not a path.")
    origin = _origin(scope["scheme"], told.get(b"host"))
    if origin is None:
        raise Refused(400, "The request's Host header is missing or not a host name.")
    length = _length(told, max_body)
    if scope["method"] in ("GET", "HEAD"):
        length = 0
    upgrade = told.get(b"upgrade", b"").lower() == b"websocket"
    return origin + target, headers, length, b"expect" in told, upgrade


def _length(told: dict[bytes, bytes], max_body: int) -> int:
    if b"transfer-encoding" in told:
        return UNKNOWN_LENGTH
    announced = told.get(b"content-length", b"0")
    if not announced.isdigit():
        raise Refused(400, "The request's Content-Length is not a number.")
    length = int(announced)
    if length > max_body:
        raise Refused(413, too_large_text(max_body))
    return length


async def read_whole(receive: Receive, length: int) -> bytes:
    """A small announced body, in one piece. Raises `ClientDisconnected`."""
    message = await receive()
    if message["type"] == "http.request":
        body: bytes = message["body"]
        if len(body) == length:  # the common case: it came in one packet with its headers
            return body
        chunks = [body]
        while message.get("more_body", False):
            message = await receive()
            if message["type"] != "http.request":
                break
            chunks.append(message["body"])
        else:
            return b"".join(chunks)
    raise ClientDisconnected("the client disconnected before the request body ended")
