"""What a connection keeps to: order, patience, and its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runtime.gateway.connection import HEAD_BYTES, HEAD_SECONDS, KEEP_ALIVE
from workers import Response

from .conftest import GET, hold, pass_seconds, soon

if TYPE_CHECKING:
    from workers import Request

    from .conftest import Gate


async def name(request: Request) -> Response:
    return Response(request.url.rpartition("/")[2])


async def test_requests_sent_ahead_are_answered_in_their_order(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        wire.send(b"".join(GET % (b"/%d" % number) for number in range(100)))
        assert [(await wire.reply()).body for _ in range(100)] == [b"%d" % n for n in range(100)]


async def test_any_number_of_refused_requests_may_be_sent_ahead(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        wire.send(GET % b"/cdn-cgi/x" * 5_000 + GET % b"/last")
        for _ in range(5_000):
            assert (await wire.reply()).status == 404
        assert (await wire.reply()).body == b"last"


async def test_what_is_no_http_is_answered_after_the_requests_before_it(gate: Gate) -> None:
    release = hold(gate)
    async with gate.wire() as wire:
        wire.send(GET % b"/" + b"nonsense\r\n\r\n")
        await gate.has_read()
        release.set()
        assert (await wire.reply()).body == b"done"
        assert (await wire.reply()).status == 400
        assert await wire.ended()


async def test_a_body_that_is_no_http_gets_400_while_the_script_waits_for_it(gate: Gate) -> None:
    async def read(request: Request) -> Response:
        return Response(await request.text())

    gate.dispatch = read
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx")
        assert (await wire.reply()).status == 400
        assert await wire.ended()


async def test_a_client_that_reads_nothing_is_served_no_more_until_it_does(gate: Gate) -> None:
    """Its answers would pile up in memory."""

    async def large(request: Request) -> Response:
        return Response(bytes(1_000_000))

    gate.dispatch = large
    async with gate.wire() as wire:
        wire.send(GET % b"/" * 50)
        await soon(gate.arrivals.get())
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(gate.seen) < 20
        for _ in range(50):
            assert len((await wire.reply()).body) == 1_000_000


async def test_an_upgrade_to_what_is_not_served_is_passed_over(gate: Gate) -> None:
    gate.dispatch = name
    h2c = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with gate.wire() as wire:
        wire.send(h2c + GET % b"/2")
        assert [(await wire.reply()).body for _ in range(2)] == [b"1", b"2"]


async def test_a_head_that_never_ends_gets_431(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        line = b"X: " + b"y" * 1000 + b"\r\n"
        for _ in range(HEAD_BYTES // len(line)):
            wire.send(line)
            await wire.writer.drain()
        wire.send(line * 300)
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (431, "close")


@pytest.mark.parametrize(("value", "scheme"), [("https", "https"), ("http", "http"), ("x", "http")])
async def test_a_proxy_on_this_machine_says_how_the_client_came(
    gate: Gate, value: str, scheme: str
) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        await wire.get("/1", f"X-Forwarded-Proto: {value}")
        await wire.get("/2")
    assert [request.url for request in gate.seen] == [f"{scheme}://gate/1", "http://gate/2"]


async def test_a_script_that_changes_its_headers_changes_those_of_no_other_request(
    gate: Gate,
) -> None:
    async def alter(request: Request) -> Response:
        request.headers.set("x-seen", "yes")
        return Response("ok")

    gate.dispatch = alter
    async with gate.wire() as wire:
        await wire.get("/", "X-A: 1")
        await wire.get("/", "X-A: 1")
    for request in gate.seen:
        assert request.headers.raw() == [("host", "gate"), ("x-a", "1"), ("x-seen", "yes")]


async def test_an_idle_connection_is_closed_after_a_while(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        assert (await wire.get("/1")).body == b"1"
        await pass_seconds(gate, KEEP_ALIVE)
        assert (await wire.get("/2")).body == b"2"
        await pass_seconds(gate, KEEP_ALIVE + 1)
        assert await wire.ended()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_a_client_that_never_sends_its_head_is_not_waited_for(
    gate: Gate, said: bytes
) -> None:
    async with gate.wire() as wire:
        wire.send(said)
        await gate.has_read()
        await pass_seconds(gate, HEAD_SECONDS + 2)
        assert await wire.ended()


async def test_a_request_may_take_as_long_as_it_likes(gate: Gate) -> None:
    release = hold(gate)
    async with gate.wire() as wire:
        wire.send(GET % b"/" + b"GET / HTT")
        await soon(gate.arrivals.get())
        await pass_seconds(gate, HEAD_SECONDS * 2)
        release.set()
        assert (await wire.reply()).body == b"done"


async def test_stopping_closes_idle_connections_and_lets_requests_end(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as idle, gate.wire() as busy:
        await idle.get("/1")
        await gate.arrivals.get()
        release = hold(gate)
        busy.send(GET % b"/")
        await soon(gate.arrivals.get())
        stopping = asyncio.ensure_future(gate.server.stop(5))
        assert await idle.ended()
        assert not stopping.done()
        release.set()
        reply = await busy.reply()
        assert (reply.body, reply.header("connection")) == (b"done", "close")
        assert await busy.ended()
        await soon(stopping)


async def test_a_request_that_outlasts_the_grace_period_gets_503(gate: Gate) -> None:
    async with gate.wire() as wire:
        hold(gate)
        wire.send(GET % b"/")
        await soon(gate.arrivals.get())
        await soon(gate.server.stop(0.01))
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (503, "close")
        assert await wire.ended()


async def test_a_head_that_begins_behind_another_request_has_no_more_time(gate: Gate) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        wire.send(b"GET /1 HTTP/1.1\r\nHo")
        await gate.has_read()
        wire.send(b"st: a\r\n\r\nGET /2 HTTP/1.1\r\nHo")
        assert (await wire.reply()).body == b"1"
        await pass_seconds(gate, HEAD_SECONDS - 1)
        wire.send(b"st: a\r\n")
        await gate.has_read()
        await pass_seconds(gate, 3)
        assert await wire.ended()


BODIES = [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]


@pytest.mark.parametrize("body", BODIES)
async def test_a_body_that_the_script_waits_for_must_come(gate: Gate, body: bytes) -> None:
    """Else it would hold the script's call for ever."""
    ended = asyncio.Event()

    async def read(request: Request) -> Response:
        try:
            return Response(await request.text())
        finally:
            ended.set()

    gate.dispatch = read
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + body)
        if b"chunked" in body:
            await soon(gate.arrivals.get())
        else:
            await gate.has_read()
        await pass_seconds(gate, HEAD_SECONDS + 2)
        assert await wire.ended()
    if b"chunked" in body:
        await soon(ended.wait())


@pytest.mark.parametrize("body", BODIES)
async def test_a_client_that_is_let_wait_has_its_time_afterwards(gate: Gate, body: bytes) -> None:
    """It says 100 bytes when it is asked to, which is late."""
    wanted = asyncio.Event()

    async def patient(request: Request) -> Response:
        await wanted.wait()
        return Response(await request.bytes())

    gate.dispatch = patient
    first = GET % b"/"
    async with gate.wire() as wire:
        wire.send(first + b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + body)
        await soon(gate.arrivals.get())
        await pass_seconds(gate, HEAD_SECONDS * 2)
        wanted.set()
        assert (await wire.reply()).status == 200
        assert (await wire.head()).status == 100
        await pass_seconds(gate, HEAD_SECONDS - 1)
        whole = bytes(100) if b"chunked" not in body else b"64\r\n" + bytes(100) + b"\r\n0\r\n\r\n"
        wire.send(whole)
        assert (await wire.reply()).body == bytes(100)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_body_that_nobody_wants_must_come_to_its_end(gate: Gate, method: bytes) -> None:
    gate.dispatch = name
    async with gate.wire() as wire:
        wire.send(method + b" /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx")
        assert (await wire.reply()).body == b"1"
        await pass_seconds(gate, HEAD_SECONDS + 2)
        assert await wire.ended()
