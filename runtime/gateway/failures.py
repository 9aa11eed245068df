"""The gateway's own answers: to requests it refuses, and to requests the script failed.

In development the caller sees everything, in production an incident id under which the log has the
rest. Nothing here has state; each function sends one whole answer, or logs one incident.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from runtime.gateway.error_page import as_html, as_text, describe, wants_html
from runtime.gateway.inbound import NO_WEBSOCKETS
from runtime.gateway.outbound import send_text

if TYPE_CHECKING:
    from runtime.gateway.exchange import Exchange
    from runtime.gateway.inbound import Receive, Refused, Scope
    from runtime.gateway.outbound import RawHeaders, Send

logger = logging.getLogger("roost.gateway")

_LINGER = 2.0
"""Seconds a refused client may go on sending before its connection is closed."""

_PAGE_POLICY: tuple[bytes, bytes] = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'",
)


async def refuse(refusal: Refused, receive: Receive, send: Send, exchange: Exchange) -> None:
    """Say why the request is not served; but for a 404 the connection closes afterwards."""
    text = refusal.text + "\n"
    if refusal.status == 404:
        await send_text(send, exchange, 404, text)
        return

    async def linger() -> None:
        # Closing a socket with unread bytes resets it, and the client may never see why.
        try:
            async with asyncio.timeout(_LINGER):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            return

    close: RawHeaders = [(b"connection", b"close"), *refusal.headers]
    await send_text(send, exchange, refusal.status, text, extra=close, linger=linger)


async def fail(
    exc: BaseException, scope: Scope, send: Send, exchange: Exchange, *, tell: bool
) -> None:
    """Answer 500, or 503 for what may be tried again; `tell`: with everything there is to know."""
    overloaded = bool(getattr(exc, "overloaded", False))
    status = 503 if overloaded or getattr(exc, "retryable", False) else 500
    extra: RawHeaders = [(b"retry-after", b"1")] if overloaded else []
    method: str = scope["method"]
    incident = note(exc, method, exchange.url, status, brief=overloaded)
    if not tell:
        title = "503 Service Unavailable" if status == 503 else "500 Internal Server Error"
        text = f"{title}\nincident {incident}\n"
        await send_text(send, exchange, status, text, extra=extra)
        return
    failure = describe(exc, status=status, method=method, url=exchange.url)
    if wants_html(scope["headers"]):
        extra.append(_PAGE_POLICY)
        kind = b"text/html; charset=utf-8"
        await send_text(send, exchange, status, as_html(failure), content_type=kind, extra=extra)
    else:
        await send_text(send, exchange, status, as_text(failure), extra=extra)


def note(exc: BaseException, method: str, url: str, status: int, *, brief: bool = False) -> str:
    """Log a failed request under a fresh incident id, which is returned.

    `brief` leaves the traceback out: an overloaded house has no time to write one per request.
    """
    incident = secrets.token_hex(4)
    failure = describe(exc, status=status, method=method, url=url)
    logger.error(
        "incident=%s status=%d method=%s url=%s object=%s error=%s: %s%s",
        incident,
        status,
        method,
        url,
        failure.object_id,
        failure.kind,
        failure.message,
        "" if brief else f"\n{failure.traceback.rstrip()}",
    )
    return incident


async def decline(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a scope that is not HTTP: a WebSocket is told so, anything else is not for us."""
    if scope["type"] != "websocket":
        raise ValueError(f"the gateway does not serve ASGI scope {scope['type']!r}")
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1013, "reason": NO_WEBSOCKETS})
        return
    body = NO_WEBSOCKETS.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "websocket.http.response.start", "status": 501, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
