"""A real server on a loopback port in the test's own loop, and raw connections to it."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import uvloop

from runtime.gateway import Server
from runtime.gateway.failures import logger
from workers import Response
from workers.request import request_from_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.gateway.exchange import Exchange
    from workers import Request

T = TypeVar("T")

MAX_BODY = 1_000_000
GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(slots=True)
class Reply:
    """One response as it stood on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


async def soon(awaitable: Awaitable[T]) -> T:
    """What must happen, within a bound that only a failure reaches."""
    return await asyncio.wait_for(awaitable, 5)


async def pass_seconds(gate: Gate, seconds: int) -> None:
    for _ in range(seconds):
        gate.server.tick()
        await asyncio.sleep(0)


async def passing(gate: Gate, awaitable: Awaitable[T]) -> T:
    """What must happen while the seconds pass, which the server counts."""
    task = asyncio.ensure_future(awaitable)
    async with asyncio.timeout(5):
        while not task.done():
            gate.server.tick()
            await asyncio.sleep(0)
    return await task


class Wire:
    """A raw connection: what is sent is exactly what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Reply:
        lines = (await soon(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        return Reply(int(lines[0].split(" ")[1]), [(k.lower(), v) for k, v in pairs], b"")

    async def chunk(self) -> bytes:
        size = int(await soon(self.reader.readline()), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def reply(self, *, head_only: bool = False) -> Reply:
        reply = await self.head()
        length = reply.header("content-length")
        if head_only:
            pass
        elif length is not None:
            reply.body = await self.reader.readexactly(int(length))
        elif reply.header("transfer-encoding") == "chunked":
            while chunk := await self.chunk():
                reply.body += chunk
        return reply

    async def get(self, path: str = "/", *headers: str, method: str = "GET") -> Reply:
        rows = [f"{method} {path} HTTP/1.1", "Host: gate", *headers, "", ""]
        self.send("\r\n".join(rows).encode("latin-1"))
        return await self.reply(head_only=method == "HEAD")

    async def ended(self) -> bool:
        return await soon(self.reader.read(1)) == b""

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Call:
    """A dispatch under way, as the exchange that waits for it sees it."""

    def __init__(self, task: asyncio.Future[Response], exchange: Exchange) -> None:
        self._task = task
        self._exchange = exchange
        task.add_done_callback(self._tell)

    def _tell(self, task: asyncio.Future[Response]) -> None:
        if task.cancelled() or self._exchange.done():
            return
        error = task.exception()
        if error is None:
            self._exchange.set_result(task.result())
        else:
            self._exchange.set_exception(error)

    def cancelled(self, _call: int) -> None:
        self._task.cancel()


class Gate:
    """A running gateway whose `dispatch` can be set by the test."""

    def __init__(self, mode: str, access_log: Any = None) -> None:
        self.dispatch: Callable[[Request], Awaitable[Response]]
        self.port = 0
        self.seen: list[Request] = []
        self.arrivals: asyncio.Queue[Request] = asyncio.Queue()
        self.server = Server(self._dispatch, mode=mode, max_body=MAX_BODY, access_log=access_log)

    def _dispatch(self, exchange: Exchange, *parts: Any) -> None:
        request = request_from_parts(*parts)
        self.seen.append(request)
        self.arrivals.put_nowait(request)
        exchange.link = Call(asyncio.ensure_future(self.dispatch(request)), exchange)

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield wire
        finally:
            wire.writer.close()

    async def get(self, path: str = "/", *headers: str, method: str = "GET") -> Reply:
        async with self.wire() as wire:
            return await wire.get(path, *headers, method=method)

    async def has_read(self) -> None:
        """Wait until the server has read what was sent to it so far."""
        assert (await self.get("/cdn-cgi/x")).status == 404


async def echo(request: Request) -> Response:
    return Response(await request.bytes())


def hold(gate: Gate) -> asyncio.Event:
    """Let requests wait; returns what lets them be answered."""
    release = asyncio.Event()

    async def wait(request: Request) -> Response:
        await release.wait()
        return Response("done")

    gate.dispatch = wait
    return release


@asynccontextmanager
async def running(mode: str, **options: Any) -> AsyncIterator[Gate]:
    gate = Gate(mode, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    gate.port = listener.getsockname()[1]
    await gate.server.start(listener)
    try:
        yield gate
    finally:
        await gate.server.stop(0)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with running("dev") as gate:
        yield gate


@pytest.fixture
async def serving() -> AsyncIterator[Gate]:
    async with running("serve") as gate:
        yield gate


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger=logger.name)
    return caplog


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
