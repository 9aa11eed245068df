"""The gateway's ASGI application: one request in, one call of `dispatch`, one response out.

It owns the order of things and nothing else: `inbound` reads the request, `exchange` notices a client
that leaves, `outbound` writes the response, `error_page` finds the words when something failed. Every
request ends in exactly one of: a whole response, a cut connection (a stream that failed half way), or
silence because the client is gone. It knows no host and no ZeroMQ; `dispatch` does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from runtime.gateway.error_page import Failure, as_html, as_text, describe, wants_html
from runtime.gateway.exchange import Exchange, Sweep
from runtime.gateway.inbound import (
    NO_WEBSOCKETS,
    SMALL_BODY,
    BodyStream,
    ClientDisconnected,
    Refused,
    read_head,
    read_whole,
    target_of,
    too_large_text,
)
from runtime.gateway.outbound import StreamFailed, discard, send_response, send_text
from runtime.gateway.protocol import LOST
from workers import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.gateway.inbound import Receive, Scope
    from runtime.gateway.outbound import RawHeaders, Send

    Dispatch = Callable[[Request], Awaitable[Response]]
    AccessLogger = Callable[[str, str, int, int, float], None]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("roost.gateway")

CLIENT_LEFT = 499
"""The status the access log shows for a client that left before its response began (nginx's)."""

_LINGER = 2.0
_CLOSE: RawHeaders = [(b"connection", b"close")]
_RESERVED = "/cdn-cgi/"
_PAGE_POLICY: tuple[bytes, bytes] = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'",
)


def build_app(
    dispatch: Dispatch,
    *,
    mode: Literal["dev", "serve"],
    max_body: int,
    access_log: AccessLogger | None = None,
    watch_every: float = 0.05,
) -> App:
    """The ASGI 3 callable that serves HTTP by calling `dispatch(request)`.

    `dispatch` gives a `workers.Response` or raises. `.overloaded` and `.retryable` exceptions become
    503, others 500: with a page that shows everything in `dev`, with an incident id in `serve`. It is
    cancelled when the client leaves. `max_body` is in bytes; larger requests get 413. `access_log`
    is called as (method, target, status, body bytes sent, seconds) after every request. A client's
    leaving is noticed within two times `watch_every` seconds.

    Requests under `/cdn-cgi/` never reach the script, as on Cloudflare.
    """
    sweep = Sweep(watch_every)

    async def answer(
        scope: Scope, receive: Receive, send: Send, target: str, exchange: Exchange
    ) -> None:
        method: str = scope["method"]
        url = target
        try:
            if scope["path"].startswith(_RESERVED):
                raise Refused(404, f"{_RESERVED} is reserved; nothing is served at this path.")
            url, headers, length, expects = read_head(scope, target, max_body)
            content: bytes | BodyStream | None = None
            if length:
                if 0 < length <= SMALL_BODY:
                    content = await read_whole(receive, length)
                else:
                    content = exchange.body = BodyStream(receive, max_body)
                    scope[LOST] = exchange.stop
            request = _request(url, method, headers, content)
            sweep.enter(exchange)
            response = await dispatch(request)
            if not isinstance(response, Response):
                raise TypeError(
                    "fetch() must return a workers.Response, "
                    f"not {type(response).__name__} (is a `return` missing?)."
                )
            stream = exchange.body
            if stream is not None and stream.too_large:
                await discard(response)
                raise Refused(413, too_large_text(max_body))
            await send_response(
                response,
                send,
                exchange,
                head=method == "HEAD",
                # A client that still waits for "100 Continue" may or may not send its body now.
                close=stream is not None and expects and not stream.touched,
            )
        except Refused as refusal:
            await refuse(refusal, receive, send, exchange)
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            if not exchange.stopped:
                raise
            exchange.forgive()
            if exchange.body is not None and exchange.body.too_large and not exchange.status:
                await refuse(Refused(413, too_large_text(max_body)), receive, send, exchange)
        except StreamFailed as failed:
            cause = failed.__cause__ or failed
            if isinstance(cause, ClientDisconnected):
                return
            incident = _note(cause, method, target, exchange.status)
            raise ConnectionAbortedError(
                f"incident {incident}: the response stream failed, its connection is cut"
            ) from None
        except Exception as exc:
            if exchange.status:  # too late for another answer
                raise
            sweep.leave(exchange)
            if exchange.body is not None and exchange.body.too_large:
                await refuse(Refused(413, too_large_text(max_body)), receive, send, exchange)
            else:
                await fail(exc, scope, url, send, exchange)

    async def refuse(refusal: Refused, receive: Receive, send: Send, exchange: Exchange) -> None:
        sweep.leave(exchange)
        if refusal.status == 404:
            await send_text(send, exchange, 404, refusal.text + "\n")
            return

        async def linger() -> None:
            # Closing a socket with unread bytes resets it, and the client may never see why.
            try:
                async with asyncio.timeout(_LINGER):
                    while (await receive()).get("more_body", False):
                        pass
            except TimeoutError:
                return

        await send_text(
            send, exchange, refusal.status, refusal.text + "\n", extra=_CLOSE, linger=linger
        )

    async def fail(exc: Exception, scope: Scope, url: str, send: Send, exchange: Exchange) -> None:
        overloaded = bool(getattr(exc, "overloaded", False))
        status = 503 if overloaded or getattr(exc, "retryable", False) else 500
        extra: RawHeaders = [(b"retry-after", b"1")] if overloaded else []
        incident = _note(exc, scope["method"], target_of(scope), status, brief=overloaded)
        if mode == "serve":
            title = "503 Service Unavailable" if status == 503 else "500 Internal Server Error"
            text = f"{title}\nincident {incident}\n"
            await send_text(send, exchange, status, text, extra=extra)
            return
        failure: Failure = describe(
            exc, status=status, method=scope["method"], url=url, incident=incident
        )
        if wants_html(scope["headers"]):
            extra.append(_PAGE_POLICY)
            page = as_html(failure)
            html = b"text/html; charset=utf-8"
            await send_text(send, exchange, status, page, content_type=html, extra=extra)
        else:
            await send_text(send, exchange, status, as_text(failure), extra=extra)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _decline(scope, receive, send)
            return
        began = perf_counter()
        exchange = Exchange(receive)
        target = target_of(scope)
        try:
            await answer(scope, receive, send, target, exchange)
        finally:
            sweep.leave(exchange)
            if access_log is not None:
                access_log(
                    scope["method"],
                    target,
                    exchange.status or CLIENT_LEFT,
                    exchange.sent,
                    perf_counter() - began,
                )

    return app


def _request(
    url: str, method: str, headers: list[tuple[str, str]], content: bytes | BodyStream | None
) -> Request:
    try:
        return Request(url, method=method, headers=headers, body=content)
    except (TypeError, ValueError) as exc:
        raise Refused(400, f"The request cannot be understood: {exc}") from exc


def _note(
    exc: BaseException, method: str, target: str, status: int, *, brief: bool = False
) -> str:
    """Log a failed request under a fresh incident id, which is returned."""
    incident = secrets.token_hex(4)
    failure = describe(exc, status=status, method=method, url=target, incident=incident)
    logger.error(
        "incident=%s status=%d method=%s path=%s object=%s error=%s: %s%s",
        incident,
        status,
        method,
        target,
        failure.object_id,
        failure.kind,
        failure.message,
        "" if brief else f"\n{failure.traceback.rstrip()}",
    )
    return incident


async def _decline(scope: Scope, receive: Receive, send: Send) -> None:
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
