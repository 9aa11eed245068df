"""One request under way, and its one answer.

Most requests are answered whole and at once: then an exchange costs no task and no future. It waits
for its call by itself (see `runtime.wire.link.Waiter`) and writes what comes, in one piece. Only a
body that streams gets a task, which lasts as long as the body.

Every exchange ends in exactly one of: a whole response, a cut connection (a stream that failed half
way), or silence because the client is gone. When it leaves, its call is cancelled. An exchange
belongs to its connection, which says when it begins.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from runtime.gateway.failures import note, page_of, text_page
from runtime.gateway.inbound import (
    NO_WEBSOCKETS,
    RESERVED,
    SMALL_BODY,
    BodyStream,
    BodyTooLarge,
    ClientDisconnected,
    Refused,
    is_reserved,
    origin_form,
    target_text,
    too_large_text,
)
from runtime.gateway.outbound import NULL_BODY, StreamFailed, close, encode_headers, pieces
from runtime.gateway.upgrade import check_handshake
from workers import Response
from workers.body import take_content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.gateway.connection import Connection
    from runtime.gateway.outbound import RawHeaders
    from runtime.gateway.upgrade import Handshake

CLIENT_LEFT = 499
"""The status the access log shows for a client that left before its response began (nginx's)."""


class Exchange:
    """The state of one request: what it is, and what was answered so far."""

    # Of most requests these stay as they are, and 0.3 µs are saved by not setting them.

    url = "-"
    """Once it is known; until then what the client asked for."""
    is_last = False
    """Whether the connection closes after it."""
    over = False
    link: Any = None
    call = 0
    message: tuple[Any, ...] = ()
    _target = "-"
    _headers: list[tuple[str, str]] = []  # noqa: RUF012  never changed
    _expects = False  # whether the client waits for "100 Continue" before it sends its body
    _body: BodyStream | None = None
    _content: bytes | None = None
    _is_small = False
    _is_whole = False
    _started = False
    _handshake: Handshake | None = None
    _refusal: Refused | None = None
    _status = 0
    _sent = 0
    _task: asyncio.Task[None] | None = None

    def __init__(self, connection: Connection, method: str, version: str) -> None:
        self.connection = connection
        self.method = method
        self.version = version
        self._began = perf_counter()

    # --- the request -----------------------------------------------------------------------------

    def read(self, url: bytes, raw: RawHeaders) -> bytes:
        """Take the head; what is wrong with it is said when the exchange begins.

        Returns `Head.framing`.
        """
        connection = self.connection
        try:
            if url[:1] != b"/" or b"#" in url:
                url, raw = origin_form(url, raw)
            self.url = self._target = target = target_text(url)
            head = connection.head_of(self.method, raw)
            self.url = head.origin + target
            self._headers = head.headers.copy()
            if is_reserved(target):
                self._refusal = Refused(404, RESERVED)
                self.is_last = self.is_last or head.expects
                return head.framing
            if head.is_common:
                return b""
            self._expects = head.expects and self.version == "1.1"
            if head.upgrade:
                if connection.server.sockets is None:
                    raise Refused(501, NO_WEBSOCKETS)
                self._handshake = check_handshake(
                    self.method, target, self.version, raw, connection.server.sockets
                )
        except Refused as refusal:
            self._refusal = refusal
            return b""
        if 0 < head.length <= SMALL_BODY:
            self._is_small = True
        elif head.length:
            self._body = BodyStream(connection.server.max_body, self._want)
        return head.framing

    @property
    def asks_for_websocket(self) -> bool:
        """Whether the connection may become a WebSocket's."""
        return self._handshake is not None

    @property
    def awaits_client(self) -> bool:
        """Whether it goes on only when the client sends more."""
        body = self._body
        if body is None:
            return self._is_small and not self._is_whole
        return body.is_awaited and not self._status

    def feed(self, data: bytes) -> None:
        """Take a part of the body."""
        if self.over:
            return
        body = self._body
        if body is not None:
            if not body.feed(data):
                self._overflow()
            elif body.full:
                self.connection.hold_back()
        elif self._is_small:
            self._content = data if self._content is None else self._content + data

    def received(self) -> None:
        """Take note that all of the request is here."""
        self._is_whole = True
        if self._body is not None:
            self._body.finish()
        elif self._is_small and self._started and not self.over:
            self._dispatch()

    def begin(self) -> None:
        """Serve the request: those before it on its connection are answered."""
        self._started = True
        if self._refusal is not None:
            self.refuse(self._refusal)
        elif self._is_small and not self._is_whole:
            self._want()
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        content = self._content if self._body is None else self._body
        try:
            self.connection.server.dispatch(self, self.method, self.url, self._headers, content)
        except Exception as exc:
            self.set_exception(exc)

    def _want(self) -> None:
        """Somebody waits for more of the body."""
        if self._expects and not (self._status or self.over):
            self._expects = False
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.connection.ask()

    def _overflow(self) -> None:
        """Refuse a body that grew past the limit; whoever reads it may swallow the error."""
        too_large = too_large_text(self.connection.server.max_body)
        assert self._body is not None
        self._body.finish(BodyTooLarge(too_large))
        if not self._status:  # else it is for the response to go on or to fail
            self.refuse(Refused(413, too_large))

    # --- the answer ------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.over

    def set_result(self, response: Any) -> None:
        """Answer with what the script returned."""
        try:
            if not isinstance(response, Response):
                raise TypeError(
                    "fetch() must return a workers.Response, "
                    f"not {type(response).__name__} (is a `return` missing?)."
                )
            if self._handshake is not None and response.web_socket is not None:
                sockets = self.connection.server.sockets
                assert sockets is not None
                sockets.open(self, response, self._handshake)
                return
            content = take_content(response)
            if not (content is None or isinstance(content, bytes)):
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(self._stream(response, content))
                return
            headers = self._head_of(response, content)
        except Exception as exc:
            self.set_exception(exc)
            return
        if response.status in NULL_BODY:
            content = None
        self._finish(response.status, headers, content or b"")

    def set_exception(self, exc: BaseException) -> None:
        """Say that there is no answer, and as much as may be told of why."""
        if self.over:
            return
        tell = self.connection.server.mode == "dev"
        self._finish(*page_of(exc, self.method, self.url, self._headers, tell=tell))

    def refuse(self, refusal: Refused) -> None:
        """Say why the request is not served; but for a 404 the connection closes afterwards."""
        self._refusal = refusal
        if not self._started or self.over:
            return
        self._cancel(ConnectionAbortedError("the request was refused"))
        if self._status:  # too late to say why
            self.cut()
            return
        self.is_last = self.is_last or refusal.status != 404
        self._finish(*text_page(refusal.status, refusal.text + "\n", refusal.headers))

    def _head_of(self, response: Response, content: object) -> RawHeaders:
        """Check and return the response's headers. Raises ValueError for what cannot be sent."""
        status = response.status
        if status == 101 or response.web_socket is not None:
            raise ValueError(
                "fetch() returned a WebSocket, and the request did not ask for an upgrade."
            )
        if not 200 <= status <= 599:
            raise ValueError(f"The response's status is {status}; it must be from 200 to 599.")
        if self._expects and not self._is_whole:
            # A client that still waits for "100 Continue" may or may not send its body now.
            self.is_last = True
        return encode_headers(response, content, head=self.method == "HEAD")

    def _write(self, status: int, headers: RawHeaders, body: bytes) -> None:
        self._status = status
        parts = [self.connection.server.start_of(status)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if self.is_last:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        self.connection.transport.write(b"".join(parts))

    def _finish(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Answer whole, by one system call."""
        if self.method == "HEAD":
            body = b""
        self._write(status, headers, body)
        self._sent = len(body)
        self._end()

    async def _stream(self, response: Response, chunks: AsyncIterator[Any]) -> None:
        """Send a body as it comes, no faster than the client reads."""
        connection = self.connection
        try:
            try:
                headers = self._head_of(response, chunks)
            except Exception as exc:
                self.set_exception(exc)
                return
            if self.method == "HEAD" or response.status in NULL_BODY:
                self._finish(response.status, headers, b"")
                return
            chunked = self.version == "1.1"  # others have no other end than the connection's
            if chunked:
                headers.append((b"transfer-encoding", b"chunked"))
            self._write(response.status, headers, b"")
            async for piece in pieces(chunks):
                await connection.drain()
                connection.transport.write(
                    b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                )
                self._sent += len(piece)
            if chunked:
                connection.transport.write(b"0\r\n\r\n")
            self._end()
        except StreamFailed as failed:
            cause = failed.__cause__
            if cause is not None and not isinstance(cause, ClientDisconnected):
                note(cause, self.method, self.url, self._status)
            self.cut()
        finally:
            await close(chunks)

    # --- the end ---------------------------------------------------------------------------------

    def upgraded(self) -> None:
        """Take note that the connection is a WebSocket's from here."""
        self._status = 101
        self._log()

    def cut(self) -> None:
        """End in the middle of the response, and not as if it were complete."""
        if not self.over:
            self.is_last = True
            if self.version != "1.1":
                self.connection.transport.abort()
            self._end()

    def leave(self) -> None:
        """Give up: the client is gone."""
        if self.over:
            return
        self._log()
        self._cancel(ClientDisconnected("the client disconnected before the request body ended"))

    def give_up(self) -> None:
        """End now: the server stops."""
        self.refuse(Refused(503, "The server is stopping."))

    def _cancel(self, why: Exception) -> None:
        """Stop what goes on for this request elsewhere."""
        if self.link is not None:
            self.link.cancelled(self.call)
        if self._task is not None:
            self._task.cancel()
        if self._body is not None:
            self._body.finish(why)

    def _end(self) -> None:
        self._log()
        self.connection.finished(self)

    @property
    def lingers(self) -> bool:
        """Whether its client should be let go on sending for a while, lest it miss the answer."""
        return not self._is_whole

    def _log(self) -> None:
        self.over = True
        log = self.connection.server.access_log
        if log is not None:
            seconds = perf_counter() - self._began
            log(self.method, self._target, self._status or CLIENT_LEFT, self._sent, seconds)
