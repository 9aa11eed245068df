"""Clients that stop sending, stop reading, or are gone are let go."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import TYPE_CHECKING

import pytest

from runtime.gateway.connection import READ_SECONDS, Connection
from workers import Response

from .conftest import GET, Wire, pass_seconds, passing, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers import Request

    from .conftest import Gate

LARGE = bytes(20_000_000)


def hang(gate: Gate) -> tuple[asyncio.Event, asyncio.Event]:
    """Have no request answered; returns what tells that one has started, and was cancelled."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    gate.dispatch = wait
    return started, cancelled


async def test_a_client_that_ends_its_half_has_left(gate: Gate) -> None:
    started, cancelled = hang(gate)
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        await soon(started.wait())
        wire.writer.write_eof()
        await soon(cancelled.wait())
        assert await wire.ended()


async def test_a_client_that_ends_its_half_within_a_request_has_left(gate: Gate) -> None:
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        wire.writer.write_eof()
        assert await wire.ended()


async def test_a_client_that_leaves_behind_what_was_not_read_is_missed(gate: Gate) -> None:
    """Its end stands behind it."""
    started, cancelled = hang(gate)
    for sent in (GET % b"/" * 3, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"):
        started.clear()
        cancelled.clear()
        async with gate.wire() as wire:
            wire.send(sent)
            if sent.startswith(b"POST"):
                wire.send(bytes(200_000))
            await soon(started.wait())
            await gate.has_read()
        await passing(gate, cancelled.wait())


async def gone(gate: Gate) -> None:
    """Let the seconds pass until the server has no connection."""
    async with asyncio.timeout(5):
        while gate.server.connections:
            gate.server.tick()
            await asyncio.sleep(0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_reads_nothing_for_long_is_cut(gate: Gate, *, streamed: bool) -> None:
    async def stream() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async def large(request: Request) -> Response:
        return Response(stream() if streamed else LARGE)

    gate.dispatch = large
    async with gate.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await soon(gate.arrivals.get())
        for _ in range(1_000):  # as much as goes into the system's buffers
            await asyncio.sleep(0)
        await pass_seconds(gate, READ_SECONDS + 5)
        assert not gate.server.connections


async def test_a_client_that_reads_slowly_is_not_cut(gate: Gate) -> None:
    async def large(request: Request) -> Response:
        return Response(LARGE)

    gate.dispatch = large
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)  # so that reading is seen soon
    narrow.connect(("127.0.0.1", gate.port))
    wire = Wire(*await asyncio.open_connection(sock=narrow))
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await wire.head()
    for _ in range(20):
        await soon(wire.reader.readexactly(1_000_000))
        await pass_seconds(gate, READ_SECONDS // 2)
    assert await wire.ended()
    await wire.close()


async def test_a_connection_that_ended_leaves_nothing_to_the_collector(gate: Gate) -> None:
    gate.server.dispatch = lambda *_: gate.arrivals.put_nowait(None)
    gc.collect()
    gc.disable()
    try:
        for sent in (
            GET % b"/",
            GET % b"/" * 2,
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\nx",
            b"GET /cdn-cgi/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ):
            async with gate.wire() as wire:
                wire.send(sent)
                if b"cdn" in sent:
                    await wire.reply()
                else:
                    await soon(gate.arrivals.get())
            await gone(gate)
            del wire
            await asyncio.sleep(0)
            assert not [o for o in gc.get_objects() if isinstance(o, Connection)]
    finally:
        gc.enable()
