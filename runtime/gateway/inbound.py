"""From a parsed head to what a script is given of it.

What comes in here was written by a stranger. Whatever cannot become an honest Request (no usable
Host, a body over the limit) ends in `Refused`, which names the status and the sentence to send back,
before the script hears of it. Small bodies are read whole; larger ones flow through a `BodyStream`,
only as fast as the script asks, so that an upload never piles up in the gateway. Nothing is shared:
a `BodyStream` belongs to its one request.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.gateway.outbound import RawHeaders

SMALL_BODY = 64 * 1024
"""Bytes up to which an announced body is read before the script starts: it travels in one frame."""

NO_WEBSOCKETS = "WebSockets are not served by this version of Roost."
"""The sentence of a 501."""

RESERVED = "/cdn-cgi/ is reserved; nothing is served at this path."
"""The sentence of a 404."""

NO_PATH = "The request's target is not a path."
"""The sentence of a 400."""

UNKNOWN_LENGTH = -1
"""The length of a chunked body."""

HIGH_WATER = 64 * 1024
"""Bytes of a streamed body that may lie here before the client is held back."""

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_WHOLE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)(.*)", re.DOTALL)
_DEFAULT_PORT = {"http": 80, "https": 443}
_TOLD = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"x-forwarded-proto")
)
_RESERVED = "/cdn-cgi/"
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
    """The chunks of a request body, as they come from the socket.

    Iterated by one reader. `wanted` is called when the reader waits for more. Raises `BodyTooLarge`
    when the bytes exceed the limit, and `ClientDisconnected` when the client left in the middle.
    """

    __slots__ = ("_chunks", "_failure", "_limit", "_seen", "_size", "_waiter", "_wanted", "ended")

    def __init__(self, limit: int, wanted: Callable[[], None]) -> None:
        self._limit = limit
        self._wanted = wanted
        self._chunks: list[bytes] = []
        self._size = 0
        self._seen = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False

    @property
    def full(self) -> bool:
        """Whether so much lies here unread that no more should be taken from the client."""
        return self._size > HIGH_WATER

    @property
    def is_awaited(self) -> bool:
        """Whether the reader waits for more."""
        return self._waiter is not None and not self._waiter.done()

    def feed(self, chunk: bytes) -> bool:
        """Take what has arrived; returns whether the body is still within its limit."""
        self._seen += len(chunk)
        if self._seen > self._limit:
            return False
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake()
        return True

    def finish(self, failure: Exception | None = None) -> None:
        """Take the end of the body, or what it broke by: then what lies here is void."""
        if self.ended:
            return
        self.ended = True
        self._wanted = _nobody  # it holds this stream
        if failure is not None:
            self._failure = failure
            self._chunks.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            self._wanted()
            await self._waiter
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return chunk


def _nobody() -> None:
    """Nothing more will come."""


def too_large_text(limit: int) -> str:
    """The sentence of a 413."""
    return f"The request body is larger than the limit of {limit} bytes."


def origin_form(url: bytes, raw: RawHeaders) -> tuple[bytes, RawHeaders]:
    """Return path and query of a target that is not only these, and the headers that go with them.

    A whole URL names its host itself: the Host header counts for nothing beside it (RFC 9112, 3.2.2),
    and says the same from here. Its scheme counts for nothing: how the client came is known better.
    Raises `Refused` for a target that is neither.
    """
    url = url.partition(b"#")[0]
    if url[:1] == b"/":
        return url, raw
    whole = _WHOLE.fullmatch(url)
    if whole is None:
        raise Refused(400, NO_PATH)
    host, url = whole.groups()
    named = [(name, host if name.lower() == b"host" else value) for name, value in raw]
    return url if url[:1] == b"/" else b"/" + url, named


def target_text(url: bytes) -> str:
    """Path and query as the client wrote them, still percent-encoded, always printable ASCII."""
    try:
        return url.decode("ascii")
    except UnicodeDecodeError:
        return quote_from_bytes(url, safe=_PRINTABLE)


def is_reserved(target: str) -> bool:
    """Whether a target never reaches the script, as on Cloudflare, however it is written."""
    if target.startswith(_RESERVED):
        return True
    path = target.partition("?")[0]
    return "%" in path and unquote(path).startswith(_RESERVED)


@lru_cache(maxsize=256)
def _origin(scheme: str, host: bytes | None) -> str | None:
    match = _HOST.fullmatch(host or b"")
    if match is None or int(match[2] or 0) > 0xFFFF:
        return None
    name, port = match[1].decode("ascii").lower(), int(match[2] or 0)
    return f"{scheme}://{name}" + (f":{port}" if port not in (0, _DEFAULT_PORT.get(scheme)) else "")


class Head(NamedTuple):
    """What the headers of a request say."""

    method: str
    origin: str
    """Scheme and host: how its URL begins."""
    headers: list[tuple[str, str]]
    """In their order, names in lower case."""
    length: int
    """Of the body: 0 without one, `UNKNOWN_LENGTH` when it comes in chunks."""
    expects: bool
    """Whether the client waits for "100 Continue"."""
    upgrade: bool
    """Whether it asks for a WebSocket."""
    framing: bytes
    """If it asks for another protocol, a plain head of another request with the same body."""
    is_common: bool
    """Whether it has nothing of these four."""


def read_head(method: str, raw: RawHeaders, max_body: int, *, proxied: bool) -> Head:
    """Read the headers; `proxied` says that its X-Forwarded-Proto can be believed.

    A body sent along with GET or HEAD counts as none: a Request of these methods cannot carry one.
    Raises `Refused`: 400 for a request without exactly one well-formed Host or with an unusable
    length, 413 for an announced body over `max_body` bytes, 501 for CONNECT and for a coding other than
    chunked.
    """
    if method == "CONNECT":
        raise Refused(501, "CONNECT is for proxies, and this is none.")
    told: dict[bytes, bytes] = {}
    headers = []
    for mixed, padded in raw:
        name = mixed.lower()
        value = padded.rstrip(b" \t")
        headers.append((name.decode("latin-1"), value.decode("latin-1")))
        if name in _TOLD:
            if name == b"host" and name in told:
                raise Refused(400, "The request has more than one Host header.")
            told[name] = value
    secure = proxied and told.get(b"x-forwarded-proto") == b"https"
    origin = _origin("https" if secure else "http", told.get(b"host"))
    if origin is None:
        raise Refused(400, "The request's host is missing or not a host name.")
    length = _length(told, max_body)
    if method in ("GET", "HEAD"):
        length = 0
    expects = told.get(b"expect", b"").lower() == b"100-continue"
    upgrade = told.get(b"upgrade", b"").lower() == b"websocket"
    framing = b"" if upgrade or b"upgrade" not in told else _framing(told)
    is_common = not (length or expects or upgrade or framing)
    return Head(method, origin, headers, length, expects, upgrade, framing, is_common)


def _framing(told: dict[bytes, bytes]) -> bytes:
    lines = [
        name + b": " + told[name] + b"\r\n"
        for name in (b"content-length", b"transfer-encoding")
        if name in told
    ]
    return b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n" if lines else b""


def _length(told: dict[bytes, bytes], max_body: int) -> int:
    coding = told.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Refused(501, "The request's Transfer-Encoding is another than chunked.")
        return UNKNOWN_LENGTH
    announced = told.get(b"content-length", b"0")
    if not announced.isdigit():
        raise Refused(400, "The request's Content-Length is not a number.")
    length = int(announced)
    if length > max_body:
        raise Refused(413, too_large_text(max_body))
    return length
