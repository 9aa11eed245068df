"""From the script's Response to ASGI messages.

What goes out here was written by the script, and must come out as one well-formed HTTP/1.1 message or
not at all: header names and values are checked before the first byte leaves, framing headers are ours,
statuses that cannot carry a body carry none. Once a streamed response has begun, a failure can only cut
the connection (`StreamFailed`): a truncated body must never look complete. Response iterators are always
closed, however the sending ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.body import take_content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.gateway.exchange import Exchange
    from runtime.gateway.inbound import Message
    from workers import Response

    Send = Callable[[Message], Awaitable[None]]
    Whole = Callable[[int, "RawHeaders", bytes], bool]

RawHeaders = list[tuple[bytes, bytes]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NULL_BODY = frozenset((204, 205, 304))
_BREATHE = 64
"""Chunks after which a stream that never waits lets the loop turn, so that a disconnect is seen."""


class StreamFailed(Exception):  # noqa: N818  carries the script's error, is none itself
    """The script's body stream raised after the response had begun; `__cause__` says what."""


@lru_cache(maxsize=1024)
def _encode_name(name: str) -> bytes | None:
    """The name as it goes out, or None for one that concerns this connection and is not theirs."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"The response has an invalid header name: {name!r}.")
    lower = name.lower()
    return None if lower in _HOP_BY_HOP else lower.encode("ascii")


def encode_headers(response: Response, content: object, *, head: bool) -> RawHeaders:
    """The response's headers, checked, with the framing that `content` needs.

    `head`: the response answers a HEAD request, whose Content-Length speaks of the body a GET
    would have had. Raises ValueError for a name or value that HTTP cannot carry.
    """
    out: RawHeaders = []
    claimed: bytes | None = None
    for name, value in response.headers.raw():
        raw_name = _encode_name(name)
        if raw_name == b"content-length":
            claimed = _encode_value(name, value)
        elif raw_name is not None:
            out.append((raw_name, _encode_value(name, value)))
    length = _length(response.status, content, claimed, head=head)
    if length is not None:
        out.append((b"content-length", length))
    return out


def _encode_value(name: str, value: str) -> bytes:
    if _FORBIDDEN.search(value):
        raise ValueError(f"The response's header {name!r} has an invalid value: {value!r}.")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            f"The response's header {name!r} has characters outside of Latin-1: {value!r}. "
            "Percent-encode them."
        ) from None


def _length(status: int, content: object, claimed: bytes | None, *, head: bool) -> bytes | None:
    """The Content-Length to send, if any; a stream's own claim is a guess, so it goes chunked."""
    if status in _NULL_BODY:
        return b"0" if status == 205 else None
    if isinstance(content, bytes):
        return b"%d" % len(content)
    if head:
        return claimed if claimed is not None and claimed.isdigit() else None
    return b"0" if content is None else None


async def send_response(
    response: Response,
    send: Send,
    exchange: Exchange,
    *,
    head: bool,
    close: bool,
    whole: Whole | None = None,
) -> None:
    """Send the whole response. `close`: the connection cannot be used again afterwards.

    `whole` sends a response that is no stream in one piece, if it can (see `protocol.WHOLE`).

    Raises ValueError before anything was sent, `StreamFailed` afterwards.
    """
    status = response.status
    content = take_content(response)
    try:
        if status == 101 or response.web_socket is not None:
            raise ValueError(
                "fetch() returned a WebSocket, and the request did not ask for an upgrade."
            )
        if not 200 <= status <= 599:
            raise ValueError(f"The response's status is {status}; it must be from 200 to 599.")
        headers = encode_headers(response, content, head=head)
        if close:
            headers.append((b"connection", b"close"))
        exchange.status = status
        body = b""
        stream = None
        if not (head or status in _NULL_BODY):
            if content is None or isinstance(content, bytes):
                body = content or b""
            else:
                stream = content
        if whole is not None and stream is None and not close and whole(status, headers, body):
            exchange.sent = len(body)
            exchange.done = True
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if stream is not None:
            await _send_chunks(stream, send, exchange)
        exchange.sent += len(body)
        exchange.done = True  # what follows only hands bytes to the socket
        await send({"type": "http.response.body", "body": body, "more_body": False})
    finally:
        if not (content is None or isinstance(content, bytes)):
            await _close(content)


async def _send_chunks(chunks: AsyncIterator[Any], send: Send, exchange: Exchange) -> None:
    count = 0
    while True:
        try:
            chunk = await anext(chunks)
            if isinstance(chunk, str):
                chunk = chunk.encode()
            elif not isinstance(chunk, bytes):
                chunk = bytes(memoryview(chunk))
        except StopAsyncIteration:
            return
        except Exception as exc:
            raise StreamFailed(str(exc)) from exc
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            exchange.sent += len(chunk)
        count += 1
        if count % _BREATHE == 0:
            await asyncio.sleep(0)


async def discard(response: Response) -> None:
    """Close the body of a response that will not be sent."""
    content = take_content(response)
    if not (content is None or isinstance(content, bytes)):
        await _close(content)


async def _close(content: AsyncIterator[Any]) -> None:
    aclose = getattr(content, "aclose", None)
    if aclose is not None:
        with contextlib.suppress(Exception):  # the response is over; nobody is left to be told
            await aclose()


async def send_text(
    send: Send,
    exchange: Exchange,
    status: int,
    text: str,
    *,
    content_type: bytes = b"text/plain; charset=utf-8",
    extra: RawHeaders | None = None,
    linger: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """An answer of the gateway's own.

    `linger` is awaited between the text and the end of the response, for answers after which the
    connection closes while the client may still be sending.
    """
    body = text.encode()
    headers: RawHeaders = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    if extra:
        headers += extra
    exchange.status = status
    exchange.sent = len(body)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if linger is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await linger()
        body = b""
    exchange.done = True
    await send({"type": "http.response.body", "body": body, "more_body": False})
