"""A message as frames: plain, and compressed for clients that offer it (permessage-deflate, RFC 7692).

Neither side keeps its context from one message to the next. So a compressed frame suits all sockets
with the same window, and a socket at rest keeps no dictionary: one would be 32 KiB of memory to
inflate, and 256 KiB to deflate.
"""

from __future__ import annotations

from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode

Payload = str | bytes

PLAIN = 0
"""The window of a socket whose messages are not compressed."""

DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)
"""What the gateway says to a client's offer."""

SMALL = 64
"""Bytes of a message up to which it is sent as it is."""

_LEVEL = 1
"""Of zlib. The loop that compresses serves all sockets, and level 6 takes four times as long."""

_ENCODERS = {
    window: [PerMessageDeflate(True, True, 15, window, {"level": _LEVEL})]
    for window in range(9, 16)
}


class Frames(dict[int, bytes]):
    """The frames of one message from the server, by the window in bits; each is made once."""

    __slots__ = ("_frame",)

    def __init__(self, payload: Payload) -> None:
        super().__init__()
        if isinstance(payload, str):
            # What JavaScript calls a USVString: a lone surrogate is replaced.
            self._frame = Frame(Opcode.TEXT, payload.encode("utf-8", "replace"))
        else:
            self._frame = Frame(Opcode.BINARY, payload)

    def __missing__(self, window: int) -> bytes:
        """Make a frame: the plain one where compression does not make it shorter."""
        if window == PLAIN:
            made = self._frame.serialize(mask=False)
        elif len(self._frame.data) <= SMALL:
            made = self[PLAIN]
        else:
            made = self._frame.serialize(mask=False, extensions=_ENCODERS[window])
            if len(made) > len(self._frame.data):
                made = self[PLAIN]
        self[window] = made
        return made
