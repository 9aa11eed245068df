"""One WebSocket: a transport, a parser, and what is kept of it for its object.

Frames are parsed by `websockets`' sans-I/O protocol, which also inflates, answers pings, answers a
close, and fails the connection for what RFC 6455 forbids. What is sent was framed by somebody else, once for
however many sockets, and goes straight into the transport. (A protocol of the usual kind has a task,
a queue and an event loop's worth of futures for each connection; this has 2 KiB.)

Whatever ends a socket, its object is told exactly once, after all its messages.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as Parser

from runtime.gateway.frames import PLAIN

if TYPE_CHECKING:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    from runtime.gateway.frames import Payload
    from runtime.gateway.sockets import Owner, Sockets

CLOSE_SECONDS = 10.0
"""How long a client may take to answer a close, or to read what it is still owed."""

SOME = 32
"""Messages of one socket that its object has not handled, after which no more is read of it."""

MUCH = 1024 * 1024
"""Bytes of such messages, likewise."""

CUT = (1006, "WebSocket disconnected without sending Close frame.", False)
"""What is told of a connection that broke: code, reason, whether it was clean."""

TOO_SLOW = (1013, "messages come faster than they are read", False)

_quiet = logging.getLogger("roost.gateway.websocket")
_quiet.setLevel(logging.ERROR)


class _Parser(Parser):
    """`websockets`' parser, which would take a close between the fragments of a message for a fault."""

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame of the client."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None  # the message that it cuts short never comes to its end
        super().recv_frame(frame)


class Socket(asyncio.Protocol):
    """See the module's text. Belongs to its gateway's loop."""

    __slots__ = (
        "_bytes",
        "_parser",
        "_parts",
        "_sockets",
        "_told",
        "_transport",
        "_under_way",
        "_unread",
        "_verdict",
        "attachment",
        "closing",
        "dropped",
        "heard",
        "lost",
        "number",
        "owner",
        "protocol",
        "stamp",
        "tags",
        "window",
    )

    def __init__(
        self,
        sockets: Sockets,
        owner: Owner,
        number: int,
        tags: tuple[str, ...],
        attachment: bytes | None,
        protocol: str | None,
        deflate: PerMessageDeflate | None,
    ) -> None:
        self._sockets = sockets
        self._transport: asyncio.Transport | None = None
        self._parser = _Parser(SERVER, max_size=sockets.limits.message_bytes, logger=_quiet)
        self.window = PLAIN
        """In bits, of the dictionary that its client inflates messages with."""
        if deflate is not None:
            self._parser.extensions.append(deflate)
            self.window = deflate.local_max_window_bits
        self._parts: list[bytes | bytearray] | None = None  # of a message in fragments
        self._told = False
        self._unread = False
        self._verdict: tuple[int, str, bool] | None = None  # why the gateway closed it
        self._under_way = 0
        self._bytes = 0
        self.owner = owner
        self.number = number
        self.tags = tags
        self.attachment = attachment
        self.protocol = protocol
        self.stamp: float | None = None
        """When a message was last answered without the object, in ms since the epoch."""
        self.dropped = 0
        """Messages that it has missed because its client reads too slowly."""
        self.closing = False
        """Whether nothing is sent any more."""
        self.heard = True
        """Whether anything came from the client since the last look."""
        self.lost = False
        """Whether its object is being told of lost messages."""

    # --- from the transport ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self.heard = True
        parser = self._parser
        if parser.eof_sent:
            return
        closing = self.closing
        parser.receive_data(data)
        for frame in parser.events_received():
            assert isinstance(frame, Frame)
            opcode = frame.opcode
            if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
                if not self._take(frame):
                    break
            elif opcode is Opcode.CLOSE:
                self.closing = True
        if closing:
            parser.data_to_send()  # answers to pings: who may not read gets no more of them
        self._write_out()

    def _take(self, frame: Frame) -> bool:
        """Take a frame of a message; returns whether to go on."""
        data: bytes | bytearray | memoryview = frame.data
        text = frame.opcode is Opcode.TEXT
        if frame.opcode is Opcode.CONT:
            assert self._parts is not None
            self._parts.append(bytes(data))
            if not frame.fin:
                return True
            kind, *parts = self._parts
            self._parts = None
            data, text = b"".join(parts), kind == b"t"
        elif not frame.fin:
            self._parts = [b"t" if text else b"b", bytes(data)]
            return True
        payload: Payload
        if text:
            try:
                payload = str(data, "utf-8")
            except UnicodeDecodeError as wrong:
                self._parser.fail(1007, f"{wrong.reason} at position {wrong.start}")
                return False
        else:
            payload = bytes(data)
        self._under_way += 1
        self._bytes += len(payload)
        self._sockets.said(self, payload)
        return True

    def _write_out(self) -> None:
        """Write what the parser has to say, and look whether the connection is at its end."""
        transport, parser = self._transport, self._parser
        if transport is None:
            return
        written = False
        for data in parser.data_to_send():
            if data:
                transport.write(data)
                written = True
        if parser.eof_sent:
            self.closing = True
            self._tell()
            transport.close()  # when all is written
            self._sockets.later(CLOSE_SECONDS, self.abort)
        elif (
            written
            and not self.closing
            and transport.get_write_buffer_size() > self._sockets.limits.buffer_bytes
        ):
            self.abort()  # it sends pings and does not read the answers
        elif self._under_way > SOME or self._bytes > MUCH:
            self._unread = True
            transport.pause_reading()

    def eof_received(self) -> None:
        """The client has closed its half: so ends the connection."""

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection is gone."""
        if self._transport is None:
            return
        self.closing = True
        self._tell()
        self._transport = None
        self._sockets.disconnected(self)

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        parser = self._parser
        facts: tuple[int, str, bool] = self._verdict or CUT
        if parser.close_rcvd is not None:
            facts = (int(parser.close_rcvd.code), parser.close_rcvd.reason, True)
        elif parser.close_sent is not None and parser.eof_sent:
            facts = (int(parser.close_sent.code), parser.close_sent.reason, False)
        self._sockets.closed(self, facts)

    # --- from the gateway ------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send a frame, unless the socket is closing; a client that does not read is closed."""
        if self.closing:
            return
        transport = self._transport
        if transport is None:
            return
        # A message of any size may go to a client that has read the ones before.
        if transport.get_write_buffer_size() > self._sockets.limits.buffer_bytes:
            self._verdict = TOO_SLOW
            self.shut(*TOO_SLOW[:2])
        else:
            transport.write(frame)

    def shut(self, code: int | None, reason: str) -> None:
        """Close: the client has some seconds to answer."""
        if self.closing or self._parser.state is not State.OPEN:
            return
        self.closing = True
        self._parser.send_close(code, reason)
        self._write_out()
        self._sockets.later(CLOSE_SECONDS, self.abort)

    def ping(self, frame: bytes) -> None:
        """Look whether the client lives: it must have sent something since the last look."""
        if self._unread:  # what it sent waits to be read
            return
        if not self.heard:
            self.abort()
        elif self._transport is not None:
            self.heard = False
            if not self.closing:
                self._transport.write(frame)

    def answered(self, size: int) -> None:
        """The object has handled a message."""
        self._under_way -= 1
        self._bytes -= size
        if self._unread and self._under_way <= SOME // 2 and self._bytes <= MUCH // 2:
            self._unread = False
            if self._transport is not None:
                self.heard = True
                self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection, if it is still there."""
        if self._transport is not None:
            self._transport.abort()
