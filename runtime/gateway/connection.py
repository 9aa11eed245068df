"""One HTTP/1.1 connection: bytes in, exchanges in their order, bytes out.

Parsed by httptools (llhttp, Node's parser). A connection serves one request at a time; those that a
client sends ahead wait, and nothing more is read meanwhile. It reads no faster than bodies are
consumed, and starts no further answer while the client does not read those it has. Most of what it does
for a request is a handful of callbacks: 8 µs with the kernel's share, a third of what uvicorn takes.

An upgrade leaves the connection to another protocol, with what came after the head.
"""

from __future__ import annotations

import asyncio
from collections import deque
from socket import IPPROTO_TCP, TCP_INFO
from typing import TYPE_CHECKING, cast

import httptools

from runtime.gateway.exchange import Exchange
from runtime.gateway.failures import logger
from runtime.gateway.inbound import Refused, read_head

if TYPE_CHECKING:
    from runtime.gateway.inbound import Head
    from runtime.gateway.outbound import RawHeaders
    from runtime.gateway.server import Server

KEEP_ALIVE = 5
"""Seconds that an idle connection is kept after a response."""

HEAD_SECONDS = 60
"""Seconds that a client may take to send a head, and between two pieces of a body that is waited for."""

HEAD_BYTES = 128 * 1024
"""What a head may be long, give or take what came in one read (it is Cloudflare's limit), and what
may come between two pieces of a body, for chunks have extensions and trailers."""

READ_SECONDS = 120
"""Seconds in which a client must read something of what it is owed."""

LINGER = 2.0
"""Seconds a refused client may go on sending: closing a socket with unread bytes resets it, and the
client might never see why."""

NEVER = 1 << 62
_CLOSED = (7, 8)
"""States of a TCP connection that its client has closed: CLOSE, CLOSE_WAIT."""

_LOOPBACK = frozenset(("127.0.0.1", "::1"))


class Connection(asyncio.Protocol):
    """See the module's text. Belongs to the gateway's loop."""

    __slots__ = (
        "_ahead",
        "_deaf",
        "_early",
        "_expires",
        "_framing",
        "_head",
        "_headers",
        "_is_last",
        "_is_paused",
        "_lingers",
        "_overhead",
        "_owed",
        "_owes_since",
        "_parser",
        "_proceeding",
        "_raw",
        "_reading",
        "_serving",
        "_url",
        "_writable",
        "proxied",
        "server",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.proxied = False
        """Whether it comes from this machine, so that a proxy's headers can be believed."""
        self._parser = httptools.HttpRequestParser(self)
        # What follows a last request is passed over, and no reason to leave that one unanswered.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._url = b""  # of a head that comes; else empty
        self._headers: RawHeaders = []
        self._overhead = 0  # read since the last head or piece of a body was complete
        self._framing = b""  # of a body whose head asked for an upgrade
        self._raw: RawHeaders | None = None  # the last request's, and what they said
        self._head: Head
        self._reading: Exchange | None = None  # whose body comes
        self._serving: Exchange | None = None
        self._ahead: deque[Exchange] = deque()  # sent ahead, to be served next
        self._proceeding = False
        self._is_last = False  # no request is taken any more
        self._lingers = False  # nothing more is said; the client may not have heard it yet
        self._deaf = False  # what comes is no HTTP
        self._is_paused = False
        self._owed = 0  # bytes that the client had not read at the last look, and since when
        self._owes_since = 0
        self._writable: asyncio.Future[None] | None = None  # while the client does not read
        self._early: bytes | None = None  # what came after an upgrade's head
        self._expires = server.seconds + HEAD_SECONDS

    # --- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class
        peer = transport.get_extra_info("peername")
        self.proxied = bool(peer) and peer[0] in _LOOPBACK
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._deaf:
            return
        rest: bytes | memoryview = data
        while True:
            try:
                if self._framing:
                    framing, self._framing = self._framing, b""
                    self._parser.feed_data(framing)
                self._parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                newest = self._ahead[-1] if self._ahead else self._serving
                if newest is not None and newest.asks_for_websocket:
                    self.hold_back()  # until the script has decided
                    self._early = bytes(rest)
                    return
            except httptools.HttpParserError as error:
                if isinstance(error, httptools.HttpParserCallbackError):
                    logger.exception("a request could not be taken")
                self._misread(Refused(400, "Invalid HTTP request received."))
                return
        if self._url or self._reading is not None:
            self._read_in_part(len(data))

    def _read_in_part(self, size: int) -> None:
        """A read has ended within a head or a body."""
        if not self._overhead:  # where in the read this one began is not known
            self._overhead = 1
            self._expires = self.server.seconds + HEAD_SECONDS
            return
        self._overhead += size
        if self._overhead > HEAD_BYTES:
            what = "head is" if self._url else "chunk extensions or trailers are"
            self._misread(Refused(431, f"The request's {what} longer than {HEAD_BYTES:,} bytes."))

    def eof_received(self) -> bool:
        """The client sends no more: it has left, as far as anybody can tell before writing to it."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone, or the connection was closed from here."""
        self.server.forget(self)
        del self._parser  # which holds this connection
        if self._serving is not None:
            self._serving.leave()
            self._serving = None
        self._reading = None
        for exchange in self._ahead:
            exchange.leave()
        self._ahead.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The client has read what it was owed."""
        writable, self._writable = self._writable, None
        self._owed = 0
        if writable is not None:
            if not writable.done():  # its one waiter was cancelled
                writable.set_result(None)
            self._proceed()

    async def drain(self) -> None:
        """Wait until the client has read most of what it was sent."""
        while self._writable is not None:
            await self._writable

    def hold_back(self) -> None:
        """Read no more for now."""
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def let_on(self) -> None:
        """Read on, unless there are requests that wait already."""
        if self._is_paused and not self._ahead and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def ask(self) -> None:
        """Let the client send more of a body, for which somebody waits."""
        self._expires = self.server.seconds + HEAD_SECONDS
        self.let_on()

    # --- what the parser finds -------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete."""
        url, raw = self._url, self._headers
        self._url, self._headers = b"", []
        self._overhead = 0
        self._expires = NEVER
        if self._is_last or self._reading is not None:  # it stands for a head that was read
            return
        parser = self._parser
        version = parser.get_http_version()
        exchange = self._reading = Exchange(self, parser.get_method().decode("ascii"), version)
        exchange.is_last = self._is_last = version != "1.1" or not parser.should_keep_alive()
        framing = exchange.read(url, raw)
        if framing and parser.should_upgrade():
            self._framing = framing  # the parser believes that no body follows
        if self._serving is None and self._writable is None and not self._ahead:
            self._serving = exchange
            exchange.begin()
        else:
            self._wait(exchange)

    def head_of(self, method: str, raw: RawHeaders) -> Head:
        """Understand a head. That of the request before is often the same, to the byte.

        Raises `Refused`.
        """
        if raw != self._raw or method != self._head.method:
            self._head = read_head(method, raw, self.server.max_body, proxied=self.proxied)
            self._raw = raw
        return self._head

    def on_body(self, data: bytes) -> None:
        """Take a part of a body."""
        self._overhead = 0
        if self._reading is not None:
            self._reading.feed(data)

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._framing:
            return
        if self._headers:  # trailers, which are nobody's; least of all the next request's
            self._headers = []
        exchange, self._reading = self._reading, None
        if self._lingers:
            self.transport.close()
        elif exchange is not None:
            exchange.received()
            if exchange.over and self._serving is None:
                self._expires = self.server.seconds + KEEP_ALIVE

    def _misread(self, refusal: Refused) -> None:
        """Refuse what comes, after answering what came before it."""
        self._deaf = True
        self._expires = NEVER
        exchange, self._reading = self._reading, None
        if self._lingers or (exchange is not None and exchange.over):
            self.transport.close()
        elif exchange is not None:
            self._is_last = True
            exchange.refuse(refusal)
        elif not self._is_last:
            self._refuse(refusal)

    def _refuse(self, refusal: Refused) -> None:
        """Refuse a request without knowing what it is; none is read after it."""
        self._is_last = True
        exchange = Exchange(self, "-", "1.1")
        exchange.is_last = True
        exchange.refuse(refusal)
        self._wait(exchange)
        self._proceed()

    # --- order -----------------------------------------------------------------------------------

    def _wait(self, exchange: Exchange) -> None:
        """Let a request wait for those before it."""
        self.hold_back()
        self._ahead.append(exchange)

    def finished(self, exchange: Exchange) -> None:
        """Go on after a response."""
        self._serving = None
        if exchange.is_last or self._early is not None:
            self._is_last = True
            self._ahead.clear()
            if exchange.lingers and not self.transport.is_closing():
                self._lingers = True
                self.transport.write_eof()
                self.let_on()
                asyncio.get_running_loop().call_later(LINGER, self.transport.close)
            else:
                self.transport.close()
        elif not self._ahead:
            if not self._url:
                patience = KEEP_ALIVE if self._reading is None else HEAD_SECONDS
                self._expires = self.server.seconds + patience
            if self._is_paused:
                self.let_on()
        elif not self._proceeding:
            self._proceed()

    def _proceed(self) -> None:
        """Serve what was sent ahead, as far as the client reads."""
        self._proceeding = True  # in a loop: an answer that is there at once must not nest
        while self._ahead and self._serving is None and self._writable is None:
            self._serving = self._ahead.popleft()
            self._serving.begin()
        self._proceeding = False
        if not self._ahead:
            self.let_on()

    # --- the end ---------------------------------------------------------------------------------

    def look(self, seconds: int) -> None:
        """Close the connection if its client has let too much time pass, or has left."""
        serving = self._serving
        if (seconds > self._expires and (serving is None or serving.awaits_client)) or (
            self._is_paused and self._has_left()
        ):
            self.transport.close()
        if self._writable is not None or self.transport.is_closing():
            owed = self.transport.get_write_buffer_size()
            if owed != self._owed:
                self._owed, self._owes_since = owed, seconds
            elif seconds > self._owes_since + READ_SECONDS:
                self.transport.abort()

    def _has_left(self) -> bool:
        """Whether the client's end stands behind what is not read."""
        socket = self.transport.get_extra_info("socket")
        return socket.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] in _CLOSED

    def stop(self) -> None:
        """Close, after what is under way."""
        newest = self._ahead[-1] if self._ahead else self._serving
        if newest is None:
            self.transport.close()
        else:
            newest.is_last = self._is_last = True

    def end(self) -> None:
        """Close now."""
        self._is_last = True
        self._ahead.clear()
        if self._serving is not None:
            self._serving.give_up()
        self.transport.close()

    def hand_over(self, head: bytes, protocol: asyncio.Protocol) -> None:
        """Answer an upgrade and leave the connection to another protocol."""
        self.server.forget(self)
        del self._parser
        self._serving = None
        transport = self.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if transport.is_closing():
            protocol.connection_lost(None)
            return
        transport.write(head)
        if self._early:
            protocol.data_received(self._early)
        if self._is_paused:
            transport.resume_reading()
