"""What a script is given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from workers import Response

from .conftest import MAX_BODY, echo

if TYPE_CHECKING:
    from workers import Request

    from .conftest import Gate


async def hello(request: Request) -> Response:
    return Response("hello")


async def test_the_url_is_whole_and_as_the_client_wrote_it(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(b"GET /a%20b//c?x=1&x=%2F HTTP/1.1\r\nHost: example.com:8787\r\n\r\n")
        assert (await wire.reply()).body == b"hello"
    assert gate.seen[0].url == "http://example.com:8787/a%20b//c?x=1&x=%2F"
    assert gate.seen[0].method == "GET"


async def test_headers_keep_their_order_and_their_duplicates(gate: Gate) -> None:
    gate.dispatch = hello
    await gate.get("/", "X-B: 1", "X-A: caf\xe9", "X-B: 2")
    assert gate.seen[0].headers.raw() == [
        ("host", "gate"),
        ("x-b", "1"),
        ("x-a", "caf\xe9"),
        ("x-b", "2"),
    ]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n",
        b"GET / HTTP/1.1\r\nHost: user@a\r\n",
        b"GET / HTTP/1.1\r\nHost: a:99999\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        b"GET http://b/ HTTP/1.1\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: b\r\nHost: b\r\n",
        b"GET http:///x HTTP/1.1\r\nHost: a\r\n",
        b"GET http://user@b/ HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.0\r\n",
    ],
)
async def test_a_request_without_one_good_host_and_path_gets_400(gate: Gate, head: bytes) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(head + b"\r\n")
        assert (await wire.reply()).status == 400
    assert gate.seen == []


@pytest.mark.parametrize("host", ["a", "a.b-c_d:81", "127.0.0.1:1", "[::1]:8787", "[::1]"])
async def test_hosts_of_every_good_shape_are_taken(gate: Gate, host: str) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await wire.reply()).status == 200
    assert gate.seen[0].url == f"http://{host}/x"


@pytest.mark.parametrize("host", ["Example.COM", "example.com:80", "example.com:080"])
async def test_a_host_is_lower_case_and_loses_the_default_port(gate: Gate, host: str) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(f"GET /X HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await wire.reply()).status == 200
    assert gate.seen[0].url == "http://example.com/X"


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("http://b/x?y=1", "http://b/x?y=1"),
        ("HTTP://B.c:81/X", "http://b.c:81/X"),
        ("http://[::1]:8787", "http://[::1]:8787/"),
        ("http://b?y=/", "http://b/?y=/"),
        ("http://b/x#part", "http://b/x"),
        ("https://b/x", "http://b/x"),
        ("/x#part", "http://a/x"),
        ("/http://b/", "http://a/http://b/"),
    ],
)
async def test_the_host_of_a_whole_url_wins_over_the_header(
    gate: Gate, target: str, url: str
) -> None:
    """Two readers of one request must not take it for that of two hosts (RFC 9112, 3.2.2)."""
    gate.dispatch = hello
    async with gate.wire() as wire:
        for _ in range(2):
            wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert (await wire.reply()).status == 200
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await wire.reply()).status == 200
    assert [request.url for request in gate.seen] == [url, url, "http://a/"]
    for request in gate.seen:
        assert request.url.startswith(f"http://{request.headers.get('host').lower()}/")


async def test_requests_without_content_have_no_body(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        await wire.get()
        await wire.get(method="HEAD")
        await wire.get("/", "Content-Length: 0", method="POST")
        await wire.get(method="DELETE")
    assert [request.body for request in gate.seen] == [None] * 4


async def test_a_body_sent_along_with_get_is_passed_over(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345")
        assert (await wire.reply()).body == b"hello"
        assert (await wire.get()).body == b"hello"
    assert gate.seen[0].body is None


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 300_000, MAX_BODY])
async def test_a_body_of_any_size_arrives_as_it_was_sent(gate: Gate, size: int) -> None:
    gate.dispatch = echo
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        wire.send(body)
        assert (await wire.reply()).body == body
        assert (await wire.get("/", "Content-Length: 0", method="PUT")).status == 200


async def test_a_small_body_in_two_packets_is_read_whole(gate: Gate) -> None:
    gate.dispatch = echo
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n")
        wire.send(b"Expect: 100-continue\r\n\r\n")
        assert (await wire.head()).status == 100
        wire.send(b"abc")
        await wire.writer.drain()
        assert gate.seen == []
        wire.send(b"def")
        assert (await wire.reply()).body == b"abcdef"


async def test_a_chunked_body_reaches_the_script_while_it_is_being_sent(gate: Gate) -> None:
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    async def consume(request: Request) -> Response:
        async for chunk in request.body:
            chunks.put_nowait(bytes(chunk))
        return Response("done")

    gate.dispatch = consume
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for word in (b"one", b"three", b"seven"):
            wire.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert await chunks.get() == word
        wire.send(b"0\r\n\r\n")
        assert (await wire.reply()).body == b"done"


async def test_an_upload_is_read_no_faster_than_the_script_asks(gate: Gate) -> None:
    """The 100 that a patient client waits for is sent when the script wants the body, not before."""
    wanted = asyncio.Event()

    async def patient(request: Request) -> Response:
        await wanted.wait()
        return Response(str(len(await request.bytes())))

    gate.dispatch = patient
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n")
        wire.send(b"Expect: 100-continue\r\n\r\n")
        early = asyncio.ensure_future(wire.head())
        await gate.has_read()
        assert not early.done()
        wanted.set()
        assert (await early).status == 100
        wire.send(bytes(70_000))
        assert (await wire.reply()).body == b"70000"


async def test_a_body_nobody_asked_for_closes_a_connection_that_awaits_100(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n")
        wire.send(b"Expect: 100-continue\r\n\r\n")
        reply = await wire.reply()
        assert reply.body == b"hello"
        assert reply.header("connection") == "close"
        assert await wire.ended()


async def test_an_unread_upload_leaves_the_connection_usable(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n" + bytes(400_000))
        assert (await wire.reply()).body == b"hello"
        assert (await wire.get()).body == b"hello"


async def test_an_announced_body_over_the_limit_gets_413_before_the_script_runs(gate: Gate) -> None:
    gate.dispatch = hello
    async with gate.wire() as wire:
        size = MAX_BODY + 1
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        reply = await wire.reply()
        assert reply.status == 413
        assert str(MAX_BODY).encode() in reply.body
        assert await wire.ended()
    assert gate.seen == []


async def swallow(request: Request) -> Response:
    try:
        await request.bytes()
    except ValueError:
        return Response("I do not care")
    raise AssertionError


async def hang(request: Request) -> Response:
    try:
        await request.bytes()
    except ValueError:
        await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("reader", [echo, swallow, hang])
async def test_a_chunked_body_that_grows_over_the_limit_gets_413(
    gate: Gate, reader: object
) -> None:
    gate.dispatch = reader
    async with gate.wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        half = MAX_BODY // 2
        wire.send(b"%x\r\n%b\r\n" % (half, bytes(half)) * 3 + b"0\r\n\r\n")
        reply = await wire.reply()
        assert reply.status == 413
        assert str(MAX_BODY).encode() in reply.body
        assert await wire.ended()


async def test_reserved_paths_never_reach_the_script(gate: Gate) -> None:
    gate.dispatch = hello
    for path in ("/cdn-cgi/trace", "/%63dn-cgi/x", "/cdn-cgi/"):
        reply = await gate.get(path)
        assert reply.status == 404
        assert reply.body.count(b"\n") == 1
    assert (await gate.get("http://b/cdn-cgi/")).status == 404
    assert gate.seen == []
    assert (await gate.get("/cdn-cgi-not")).status == 200


async def test_a_websocket_handshake_is_declined_with_501(gate: Gate) -> None:
    gate.dispatch = hello
    reply = await gate.get(
        "/",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    assert (reply.status, gate.seen) == (501, [])
    assert b"WebSockets are not served" in reply.body
