"""Where a message ends: what two readers of one connection must never disagree about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runtime.gateway.connection import HEAD_BYTES
from workers import Response

from .conftest import GET, echo, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers import Request

    from .conftest import Gate

NEXT = GET % b"/next"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def fail(request: Request) -> Response:
    raise LookupError("nothing here")


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        POST + b"Content-Length: 1, 1\r\n\r\nx",
        POST + b"Content-Length: +1\r\n\r\nx",
        POST + b"Content-Length : 1\r\n\r\nx",
        POST + b"Content-Length:\r\n 1\r\n\r\nx",
        POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"X: a\nContent-Length: 0\r\n\r\n",
        POST + b"X: a\rContent-Length: 0\r\n\r\n",
        POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        CHUNKED + b"1 \r\nx\r\n0\r\n\r\n",
        CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"1\nx\n0\n\n",
        CHUNKED + b"1;a\nx\r\n0\r\n\r\n",
        CHUNKED + b"1\r\nxx0\r\n\r\n",
        CHUNKED + b"0\r\nContent-Length: 30\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_in_doubt_is_refused_and_none_is_read_after_it(
    gate: Gate, request_: bytes
) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(request_ + NEXT)
        reply = await wire.reply()
        assert reply.status in {400, 501}
        assert await wire.ended()
    assert "http://a/next" not in [request.url for request in gate.seen]


async def test_a_coding_that_nobody_takes_off_is_refused(gate: Gate) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT)
        assert (await wire.reply()).status == 501
        assert await wire.ended()
    assert gate.seen == []


async def test_trailers_do_not_become_headers_of_the_next_request(gate: Gate) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(CHUNKED + b"1;of=no\r\nx\r\n0\r\nX-Admin: yes\r\nX-Last: 1\r\n\r\n" + NEXT)
        assert (await wire.reply()).body == b"x"
        assert (await wire.reply()).status == 200
    assert gate.seen[1].headers.raw() == [("host", "a")]


@pytest.mark.parametrize("filler", [b"0\r\nX: ", b"0\r\nX: y\r\n", b"1;x="])
async def test_extensions_and_trailers_without_end_get_431(gate: Gate, filler: bytes) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(CHUNKED + filler)
        await soon(gate.arrivals.get())
        line = b"y" * 1000 if not filler.endswith(b"\n") else b"Y: " + b"y" * 1000 + b"\r\n"
        for _ in range(HEAD_BYTES // len(line)):
            wire.send(line)
            await wire.writer.drain()
        wire.send(line * 300)
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (431, "close")


@pytest.mark.parametrize("method", [b"POST", b"GET"])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: %d\r\n\r\n%b", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"],
)
async def test_the_body_of_a_request_that_offers_another_protocol_is_a_body(
    gate: Gate, method: bytes, body: bytes
) -> None:
    """Java's HttpClient offers h2c with its first request, whatever that is."""
    gate.dispatch = echo
    smuggled = GET % b"/smuggled"
    head = method + b" / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    whole = head + body % (len(smuggled), smuggled)
    async with gate.wire() as wire:
        wire.send(whole[:-10])
        await asyncio.sleep(0)
        wire.send(whole[-10:] + whole + NEXT)
        expected = smuggled if method == b"POST" else b""
        assert [(await wire.reply()).body for _ in range(3)] == [expected, expected, b""]
    assert [request.url[8:] for request in gate.seen] == ["/", "/", "/next"]


async def test_the_body_of_a_refused_offer_is_passed_over(gate: Gate) -> None:
    gate.dispatch = echo
    head = b"POST /cdn-cgi/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    async with gate.wire() as wire:
        wire.send(head + b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT * 2)
        assert [(await wire.reply()).status for _ in range(2)] == [404, 200]
    assert len(gate.seen) == 1


async def test_any_number_of_offers_of_another_protocol_may_be_sent_ahead(gate: Gate) -> None:
    gate.dispatch = echo
    offer = b"GET /cdn-cgi/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with gate.wire() as wire:
        wire.send(offer * 2_000 + NEXT)
        for _ in range(2_000):
            assert (await wire.reply()).status == 404
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize("path", ["/", "/cdn-cgi/"])
async def test_a_failed_head_request_is_answered_without_a_body(gate: Gate, path: str) -> None:
    gate.dispatch = fail
    async with gate.wire() as wire:
        assert (await wire.get(path, method="HEAD")).status in {404, 500}
        gate.dispatch = echo
        assert (await wire.get("/next")).status == 200


async def test_a_reserved_path_that_awaits_100_closes_the_connection(gate: Gate) -> None:
    """Whether the body comes nobody knows: the next request might be taken for it."""
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(b"POST /cdn-cgi/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n")
        wire.send(b"Expect: 100-continue\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (404, "close")
        assert await wire.ended()


async def test_an_old_client_is_not_told_to_continue(gate: Gate) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n")
        wire.send(b"Expect: 100-continue\r\n\r\nx")
        assert (await wire.reply()).body == b"x"


async def stream() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize("version", ["0.9", "1.0", "2.0"])
async def test_a_client_of_another_version_gets_no_chunks_and_no_second_answer(
    gate: Gate, version: str
) -> None:
    async def dispatch(request: Request) -> Response:
        return Response(stream())

    gate.dispatch = dispatch
    async with gate.wire() as wire:
        head = f"GET / HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        wire.send(head.encode() + NEXT)
        reply = await wire.head()
        assert (reply.header("transfer-encoding"), reply.header("connection")) == (None, "close")
        assert await soon(wire.reader.read()) == b"onetwo"


async def test_space_after_a_value_is_no_part_of_it(gate: Gate) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a \r\nContent-Length: 1 \t\r\nX: \r\nY:  z \r\n\r\nx")
        assert (await wire.reply()).body == b"x"
    assert gate.seen[0].headers.raw() == [
        ("host", "a"),
        ("content-length", "1"),
        ("x", ""),
        ("y", "z"),
    ]


@pytest.mark.parametrize("target", ["/", "a:80"])
async def test_the_gateway_is_no_proxy(gate: Gate, target: str) -> None:
    gate.dispatch = echo
    reply = await gate.get(target, method="CONNECT")
    assert reply.status in {400, 501}
    assert gate.seen == []


async def test_an_answer_is_not_lost_because_the_client_still_sends(gate: Gate) -> None:
    """Closing a socket with unread bytes resets it, and the answer with it."""

    async def hasty(request: Request) -> Response:
        return Response("no, thanks", status=403)

    gate.dispatch = hasty
    async with gate.wire() as wire:
        wire.send(POST + b"Connection: close\r\nContent-Length: 900000\r\n\r\n")
        wire.send(bytes(400_000))
        await wire.writer.drain()
        assert (await wire.head()).status == 403
        wire.send(bytes(400_000))
        await wire.writer.drain()
        assert await soon(wire.reader.read()) == b"no, thanks"
