"""The gateway's ASGI application: one request in, one call of `dispatch`, one response out.

It owns the order of things and nothing else: `inbound` reads the request, `exchange` notices a client
that leaves, `outbound` writes the response, `failures` answers when something went wrong. Every
request ends in exactly one of: a whole response, a cut connection (a stream that failed half way), or
silence because the client is gone. It knows no host and no ZeroMQ; `dispatch` does.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from runtime.gateway.exchange import Exchange, Sweep
from runtime.gateway.failures import decline, fail, note, refuse
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
from runtime.gateway.outbound import StreamFailed, discard, send_response
from runtime.gateway.protocol import LOST, WHOLE
from runtime.gateway.upgrade import check_handshake
from workers import Response
from workers.request import request_from_parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.gateway.inbound import Receive, Scope
    from runtime.gateway.outbound import Send
    from runtime.gateway.sockets import Sockets
    from workers import Request

    Dispatch = Callable[[Request], Awaitable[Response]]
    AccessLogger = Callable[[str, str, int, int, float], None]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT_LEFT = 499
"""The status the access log shows for a client that left before its response began (nginx's)."""

_RESERVED = "/cdn-cgi/"


def build_app(  # noqa: C901  the sum of its closures, each of which is simple
    dispatch: Dispatch,
    *,
    mode: Literal["dev", "serve"],
    max_body: int,
    sockets: Sockets | None = None,
    access_log: AccessLogger | None = None,
    watch_every: float = 0.05,
) -> App:
    """The ASGI 3 callable that serves HTTP by calling `dispatch(request)`.

    `dispatch` gives a `workers.Response` or raises. `.overloaded` and `.retryable` exceptions become
    503, others 500: with a page that shows everything in `dev`, with an incident id in `serve`. It is
    cancelled when the client leaves, which is noticed within two times `watch_every` seconds.
    `max_body` is in bytes; larger requests get 413. `access_log` is called as (method, target,
    status, body bytes sent, seconds) after every request. `sockets` takes over the connections of
    WebSockets; without it they are refused.

    Requests under `/cdn-cgi/` never reach the script, as on Cloudflare.
    """
    sweep = Sweep(watch_every)

    async def answer(scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        """The way of a request that meets no trouble."""
        if scope["path"].startswith(_RESERVED):
            raise Refused(404, f"{_RESERVED} is reserved; nothing is served at this path.")
        method: str = scope["method"]
        exchange.url, headers, length, expects, upgrade = read_head(scope, exchange.url, max_body)
        handshake = None
        if upgrade:
            if sockets is None:
                raise Refused(501, NO_WEBSOCKETS)
            handshake = check_handshake(scope, sockets)
        content: bytes | BodyStream | None = None
        stream: BodyStream | None = None
        if 0 < length <= SMALL_BODY:
            content = await read_whole(receive, length)
        elif length:
            content = stream = exchange.body = BodyStream(receive, max_body)
            scope[LOST] = exchange.stop
        sweep.enter(exchange)
        response = await dispatch(request_from_parts(method, exchange.url, headers, content))
        if not isinstance(response, Response):
            raise TypeError(
                "fetch() must return a workers.Response, "
                f"not {type(response).__name__} (is a `return` missing?)."
            )
        if sockets is not None and handshake is not None and response.web_socket is not None:
            sockets.open(scope, response, handshake)
            exchange.status = 101
            exchange.done = True
            return
        if exchange.overflowed:
            await discard(response)
            raise Refused(413, too_large_text(max_body))
        # A client that still waits for "100 Continue" may or may not send its body now.
        close = expects and stream is not None and not stream.touched
        whole = scope.get(WHOLE)
        head = method == "HEAD"
        await send_response(response, send, exchange, head=head, close=close, whole=whole)

    async def serve(scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        """`answer`, and what is said when it could not be given."""
        trouble: BaseException
        try:
            await answer(scope, receive, send, exchange)
            return
        except ClientDisconnected:
            return
        except asyncio.CancelledError as cancelled:
            if not exchange.stopped:
                raise
            if not exchange.overflowed:
                return
            exchange.forgive()
            trouble = cancelled
        except Exception as exc:
            trouble = exc
        sweep.leave(exchange)
        if exchange.status:  # too late for another answer: cut the connection
            cause = trouble.__cause__ if isinstance(trouble, StreamFailed) else trouble
            if cause is None or isinstance(cause, ClientDisconnected):
                return
            incident = note(cause, scope["method"], target_of(scope), exchange.status)
            raise ConnectionAbortedError(f"incident {incident}: the response stream failed")
        if exchange.overflowed:
            trouble = Refused(413, too_large_text(max_body))
        if isinstance(trouble, Refused):
            await refuse(trouble, receive, send, exchange)
        else:
            await fail(trouble, scope, send, exchange, tell=mode == "dev")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        began = perf_counter()
        target = target_of(scope)
        exchange = Exchange(receive, target)
        try:
            await serve(scope, receive, send, exchange)
        finally:
            sweep.leave(exchange)
            if access_log is not None:
                status = exchange.status or CLIENT_LEFT
                seconds = perf_counter() - began
                access_log(scope["method"], target, status, exchange.sent, seconds)

    return app
