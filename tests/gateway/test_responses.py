"""What a client is given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from runtime.gateway.outbound import encode_headers
from workers import Headers, Response
from workers.response import response_from_parts

from .conftest import GET, hold, pass_seconds, passing, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers import Request

    from .conftest import Gate


def always(response: Any) -> Any:
    async def dispatch(request: Request) -> Response:
        return response() if callable(response) else response

    return dispatch


async def test_a_plain_response_goes_out_with_its_length_and_connections_are_reused(
    gate: Gate,
) -> None:
    gate.dispatch = always(lambda: Response("hi", status=201, headers={"X-One": "1"}))
    async with gate.wire() as wire:
        for _ in range(3):
            reply = await wire.get()
            assert (reply.status, reply.body, reply.header("x-one")) == (201, b"hi", "1")
            assert reply.header("content-length") == "2"
            assert reply.header("transfer-encoding") is None


async def test_several_cookies_stay_several_headers(gate: Gate) -> None:
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")]
    gate.dispatch = always(lambda: Response("x", headers=headers))
    assert (await gate.get()).all("set-cookie") == ["a=1", "b=2; Path=/"]


async def test_headers_of_the_connection_are_not_the_scripts_to_set(gate: Gate) -> None:
    headers = {
        "Connection": "close",
        "Keep-Alive": "timeout=1",
        "Transfer-Encoding": "chunked",
        "Upgrade": "h2c",
        "TE": "trailers",
        "Content-Length": "999",
    }
    gate.dispatch = always(lambda: Response("four", headers=headers))
    async with gate.wire() as wire:
        reply = await wire.get()
        assert reply.body == b"four"
        names = {name for name, _ in reply.headers}
        assert not names & {"connection", "keep-alive", "transfer-encoding", "upgrade", "te"}
        assert reply.all("content-length") == ["4"]
        assert (await wire.get()).body == b"four"


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_statuses_without_a_body_send_none(gate: Gate, status: int) -> None:
    gate.dispatch = always(lambda: Response(None, status=status, headers={"Content-Length": "7"}))
    async with gate.wire() as wire:
        reply = await wire.get()
        assert (reply.status, reply.header("content-length")) == (
            status,
            "0" if status == 205 else None,
        )
        assert (await wire.get()).status == status


async def test_head_tells_the_length_and_sends_no_body(gate: Gate) -> None:
    gate.dispatch = always(lambda: Response("hello"))
    async with gate.wire() as wire:
        reply = await wire.get(method="HEAD")
        assert reply.header("content-length") == "5"
        assert (await wire.get()).body == b"hello"


async def test_a_stream_asked_for_with_head_is_closed_unread(gate: Gate) -> None:
    steps = Steps(b"never")
    gate.dispatch = always(lambda: response_from_parts(200, "", [], steps))
    async with gate.wire() as wire:
        assert (await wire.get(method="HEAD")).status == 200
        await soon(steps.closed.wait())
        assert steps.asked == 0


class Steps:
    """A body whose chunks the test hands out one at a time; it knows whether it was closed."""

    def __init__(self, *chunks: object) -> None:
        self.chunks: asyncio.Queue[object] = asyncio.Queue()
        for chunk in chunks:
            self.chunks.put_nowait(chunk)
        self.asked = 0
        self.closed = asyncio.Event()

    def __aiter__(self) -> Steps:
        return self

    async def __anext__(self) -> Any:
        self.asked += 1
        chunk = await self.chunks.get()
        if chunk is None:
            raise StopAsyncIteration
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        self.closed.set()


async def test_a_stream_leaves_chunk_by_chunk(gate: Gate) -> None:
    steps = Steps()
    gate.dispatch = always(lambda: Response(steps))
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        assert (await wire.head()).header("transfer-encoding") == "chunked"
        for word in (b"one", "zw\xf6lf", b"", bytearray(b"three")):
            steps.chunks.put_nowait(word)
            if word:
                expected = word.encode() if isinstance(word, str) else bytes(word)
                assert await wire.chunk() == expected
        steps.chunks.put_nowait(None)
        assert await wire.chunk() == b""
        await soon(steps.closed.wait())


async def test_both_directions_stream_at_once(gate: Gate) -> None:
    async def echo(request: Request) -> Response:
        async def shout() -> AsyncIterator[bytes]:
            async for chunk in request.body:
                yield bytes(chunk).upper()

        return Response(shout())

    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await wire.head()
        for word in (b"ping", b"pong"):
            wire.send(b"4\r\n" + word + b"\r\n")
            assert await wire.chunk() == word.upper()
        wire.send(b"0\r\n\r\n")
        assert await wire.chunk() == b""


async def test_a_stream_that_fails_half_way_cuts_the_connection_and_is_logged(
    gate: Gate, log: pytest.LogCaptureFixture
) -> None:
    steps = Steps(b"half", ValueError("no more of it"))
    gate.dispatch = always(lambda: Response(steps))
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        await wire.head()
        assert await wire.chunk() == b"half"
        assert await wire.ended()
    await soon(steps.closed.wait())
    assert "no more of it" in log.text
    assert "Traceback" in log.text


async def test_a_chunk_that_is_not_bytes_cuts_the_connection(
    gate: Gate, log: pytest.LogCaptureFixture
) -> None:
    gate.dispatch = always(lambda: Response(Steps(42)))
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        await wire.head()
        assert await wire.ended()
    assert "TypeError" in log.text


BAD_HEADERS = [
    ("X-Bad", "a\r\nSet-Cookie: evil=1"),
    ("X-Bad", "a\nb"),
    ("X-Bad", "a\x00b"),
    ("X-Bad", "\u20ac"),
    ("X-Bad\r\nX-Evil", "1"),
    ("X Bad", "1"),
    ("X-Bad:", "1"),
    ("", "1"),
]


class Raw:
    """Headers that no `Headers` has checked, so that the last line of defence is tested alone."""

    status = 200

    def __init__(self, name: str, value: str) -> None:
        self.headers = Headers.from_raw([(name, value)])


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
async def test_a_header_that_http_cannot_carry_is_refused_with_a_clear_500(
    gate: Gate, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match="header"):
        encode_headers(Raw(name, value), b"x", head=False)
    gate.dispatch = always(lambda: response_from_parts(200, "", [(name, value)], b"x"))
    async with gate.wire() as wire:
        reply = await wire.get()
        assert reply.status == 500
        assert reply.header("x-evil") is None
        assert reply.header("set-cookie") is None
        assert b"header" in reply.body
        assert (await wire.get()).status == 500


async def test_a_stream_whose_headers_are_refused_is_closed_unread(gate: Gate) -> None:
    steps = Steps(b"never")
    gate.dispatch = always(lambda: response_from_parts(200, "", [("x", "a\nb")], steps))
    assert (await gate.get()).status == 500
    await soon(steps.closed.wait())
    assert steps.asked == 0


async def test_a_client_that_leaves_cancels_the_dispatch(gate: Gate) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    gate.dispatch = hang
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
        await soon(started.wait())
    await passing(gate, cancelled.wait())


async def test_a_pipelining_client_that_leaves_stops_the_request_being_served(gate: Gate) -> None:
    steps = Steps(b"first")
    gate.dispatch = always(lambda: Response(steps))
    async with gate.wire() as wire:
        wire.send(GET % b"/" * 2)
        await wire.head()
        assert await wire.chunk() == b"first"
    await feed_until_closed(steps)


async def test_a_client_that_leaves_with_its_upload_unread_stops_the_stream(gate: Gate) -> None:
    steps = Steps(b"first")
    gate.dispatch = always(lambda: Response(steps))
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + bytes(200_000))
        await wire.head()
        assert await wire.chunk() == b"first"
    await feed_until_closed(steps)


async def feed_until_closed(steps: Steps) -> None:
    """While reading is paused only a failing write tells that the client is gone."""
    async with asyncio.timeout(5):
        while not steps.closed.is_set():
            if steps.chunks.empty():
                steps.chunks.put_nowait(b"more")
            await asyncio.sleep(0)


async def test_a_client_that_leaves_closes_the_stream(gate: Gate) -> None:
    steps = Steps(b"first")
    gate.dispatch = always(lambda: Response(steps))
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        await wire.head()
        assert await wire.chunk() == b"first"
    await passing(gate, steps.closed.wait())


async def test_a_client_that_leaves_stops_even_a_stream_that_never_waits(gate: Gate) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    gate.dispatch = always(lambda: Response(endless()))
    async with gate.wire() as wire:
        wire.send(GET % b"/")
        await wire.head()
        await wire.chunk()
    await soon(closed.wait())


async def test_a_client_that_leaves_in_the_middle_of_its_upload_ends_the_read(gate: Gate) -> None:
    ended: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()
    first = asyncio.Event()

    async def consume(request: Request) -> Response:
        try:
            async for _ in request.body:
                first.set()
        except BaseException as exc:
            ended.set_result(type(exc))
            raise
        raise AssertionError

    gate.dispatch = consume
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"2\r\nok\r\n")
        await soon(first.wait())
    assert await soon(ended) is asyncio.CancelledError


async def test_a_long_request_with_a_patient_client_is_not_disturbed(gate: Gate) -> None:
    release = hold(gate)
    async with gate.wire() as wire:
        for _ in range(2):
            release.clear()
            wire.send(GET % b"/")
            await soon(gate.arrivals.get())
            await pass_seconds(gate, 3)
            release.set()
            assert (await wire.reply()).body == b"done"


async def test_many_connections_of_an_ordinary_client(gate: Gate) -> None:
    async def twice(request: Request) -> Response:
        return Response((await request.text()) * 2)

    gate.dispatch = twice
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gate.port}") as session:

        async def one(number: int) -> str:
            async with session.post("/", data=str(number)) as response:
                return await response.text()

        assert await asyncio.gather(*map(one, range(50))) == [str(n) * 2 for n in range(50)]


async def test_the_date_is_the_gateways(gate: Gate) -> None:
    """A response that a script got from elsewhere has one already."""
    gate.dispatch = always(lambda: Response("x", headers={"Date": "yesterday", "X-Date": "1"}))
    reply = await gate.get()
    assert len(reply.all("date")) == 1
    assert reply.all("date") != ["yesterday"]
    assert reply.all("x-date") == ["1"]
