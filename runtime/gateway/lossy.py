"""A socket that would rather miss messages than be closed: it has a tag that is marked lossy.

What a slow client has not read yet waits here, not in the transport, and when it grows past the
limit the oldest messages are dropped, never a part of one. Order is kept; the newest message always
stays. The object is told how many were dropped.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from runtime.gateway.socket import Socket

if TYPE_CHECKING:
    import asyncio


class LossySocket(Socket):
    """See the module's text."""

    __slots__ = ("_paused", "_waiting", "_waiting_bytes")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._paused = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0

    def pause_writing(self) -> None:
        """The transport has enough: what follows waits here."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._paused = False
        while self._waiting and not (self._paused or self.closing):
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame)
            self._write(frame)

    def send(self, frame: bytes) -> None:
        """Send a frame, or let it wait, and drop the oldest if too many bytes do."""
        if self.closing:
            return
        if not self._paused:
            self._write(frame)
            return
        waiting = self._waiting
        waiting.append(frame)
        self._waiting_bytes += len(frame)
        before = self.dropped
        while self._waiting_bytes > self._sockets.limits.buffer_bytes and len(waiting) > 1:
            self._waiting_bytes -= len(waiting.popleft())
            self.dropped += 1
        if self.dropped != before:
            self._sockets.tell_later(self)

    def shut(self, code: int | None, reason: str) -> None:
        """Close, after all that waits."""
        waiting, self._waiting = self._waiting, deque()
        for frame in waiting:
            self._write(frame)
        super().shut(code, reason)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)
