"""Clients that break rules: raw bytes of a WebSocket's frames, and how the server ends it."""

from __future__ import annotations

import asyncio
import os
import struct
from dataclasses import dataclass
from urllib.parse import urlsplit

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@dataclass(slots=True)
class Raw:
    """An open WebSocket, without a protocol."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload."""
        head, length = await asyncio.wait_for(self.reader.readexactly(2), 20)
        assert head & 0x70 == 0, "reserved bits are clear"
        assert length & 0x80 == 0, "a server does not mask"
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return head & 0x0F, await self.reader.readexactly(length)

    async def closed(self) -> int:
        """The code of the server's close, 1006 for a connection that was cut; skips the rest."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == 8:
                    code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    assert await asyncio.wait_for(self.reader.read(), 20) == b"", "and then ends"
                    return int(code)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bool = True,
    rsv: int = 0,
    long: int = 0,
) -> bytes:
    """One frame of a client, as right or wrong as asked; `long`: at least 126 or 127 is its length."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126 and not long:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65_536 and long < 127:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


async def connected(url: str, path: str = "raw") -> Raw:
    """A WebSocket of a room."""
    reader, writer = await ask(url, path)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert f"sec-websocket-accept: {ACCEPT}\r\n".encode() in head
    return Raw(reader, writer)


async def ask(
    url: str, path: str, *, method: str = "GET", version: str = "1.1", **headers: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for an upgrade; a header is changed or (None) left out."""
    place = urlsplit(url)
    all_headers: dict[str, str | None] = {
        "host": place.netloc,
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
    }
    all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} /{path} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in all_headers.items() if value is not None]
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return reader, writer
