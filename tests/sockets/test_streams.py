"""Server-sent events and other streamed responses of objects: as slow as who reads them, and no longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .conftest import Rooms

UNREAD = 32 * 1024 * 1024
"""More bytes than the kernel's buffers, the gateway and the host hold of one stream together."""


async def streamed(
    rooms: Rooms, room: str, kind: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask a room for a stream and read the head of the response."""
    place = urlsplit(rooms.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"GET /{room}?stream={kind} HTTP/1.1\r\nhost: {place.netloc}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream\r\n" in head
    return reader, writer


async def told(rooms: Rooms, room: str, **wanted: int) -> dict[str, Any]:
    """Ask a room about its streams until it says what is wanted."""
    async with asyncio.timeout(20):
        while not (found := await rooms.call(room, "streams")).items() >= wanted.items():
            pass
    return found


async def standstill(rooms: Rooms, room: str) -> int:
    """Wait until a room, which goes on being called, produces nothing more; returns how much it has."""
    produced = -1
    async with asyncio.timeout(20):
        while True:
            for _ in range(20):
                found = await rooms.call(room, "streams")
            if found["produced"] == produced:
                return produced
            produced = found["produced"]


async def test_an_endless_stream_stands_still_while_its_client_does_not_read(rooms: Rooms) -> None:
    reader, writer = await streamed(rooms, "endless", "endless")
    writer.transport.pause_reading()
    produced = await standstill(rooms, "endless")
    assert produced * 50_000 < UNREAD
    writer.transport.resume_reading()
    read = 0
    while read < 2 * UNREAD:
        chunk = await reader.read(1 << 20)
        assert chunk
        read += len(chunk)
    assert (await told(rooms, "endless"))["ended"] == 0
    writer.transport.pause_reading()
    assert await standstill(rooms, "endless") * 50_000 < read + UNREAD
    writer.transport.abort()
    await told(rooms, "endless", ended=1)


async def test_a_client_that_leaves_ends_the_stream_that_it_reads(rooms: Rooms) -> None:
    reader, writer = await streamed(rooms, "leaves", "endless")
    assert await reader.read(1000)
    writer.transport.abort()
    await told(rooms, "leaves", ended=1)


async def test_a_client_that_leaves_before_the_first_event_ends_the_stream_too(
    rooms: Rooms,
) -> None:
    _, writer = await streamed(rooms, "silent", "silent")
    writer.close()
    assert await told(rooms, "silent", ended=1) == {"produced": 0, "ended": 1, "feeds": 0}


async def test_a_hundred_clients_of_one_object_get_each_event_in_order_and_then_leave(
    rooms: Rooms,
) -> None:
    clients = await asyncio.gather(*(streamed(rooms, "feed", "feed") for _ in range(100)))
    await told(rooms, "feed", feeds=100)
    await rooms.call("feed", "publish")
    for number in range(20):
        event = f"data: {number}\n\n".encode()
        for reader, _ in clients:
            assert await asyncio.wait_for(reader.readuntil(b"\r\n"), 20) == b"%x\r\n" % len(event)
            assert await reader.readexactly(len(event) + 2) == event + b"\r\n"
    for _, writer in clients:
        writer.transport.abort()
    await told(rooms, "feed", produced=2_000, ended=100)
