"""From the script's Response to what stands on the wire.

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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers import Response

RawHeaders = list[tuple[bytes, bytes]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(
    (
        "connection",
        "date",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
NULL_BODY = frozenset((204, 205, 304))
"""Statuses of responses that have no body."""

_BREATHE = 64
"""Chunks after which a stream that never waits lets the loop turn, so that a disconnect is seen."""


class StreamFailed(Exception):  # noqa: N818  carries the script's error, is none itself
    """The script's body stream raised after the response had begun; `__cause__` says what."""


@lru_cache(maxsize=1024)
def _encode_name(name: str) -> bytes | None:
    """The name as it goes out, or None for one that the gateway sets, or that concerns the connection."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"The response has an invalid header name: {name!r}.")
    lower = name.lower()
    return None if lower in _OURS else lower.encode("ascii")


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
    if status in NULL_BODY:
        return b"0" if status == 205 else None
    if isinstance(content, bytes):
        return b"%d" % len(content)
    if head:
        return claimed if claimed is not None and claimed.isdigit() else None
    return b"0" if content is None else None


async def pieces(chunks: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes of a script's stream, without empty ones. Raises `StreamFailed`."""
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
            yield chunk
        count += 1
        if count % _BREATHE == 0:
            await asyncio.sleep(0)


async def close(chunks: AsyncIterator[Any]) -> None:
    """Close a stream that is not, or no more, sent."""
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        with contextlib.suppress(Exception):  # the response is over; nobody is left to be told
            await aclose()
