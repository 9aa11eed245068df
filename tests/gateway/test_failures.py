"""What is shown when something went wrong, and what is not."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING, Any

from runtime.gateway.error_page import as_html, as_text, describe
from workers import Response
from workers.errors import HostLost, Overloaded, attach_remote

if TYPE_CHECKING:
    import pytest

    from workers import Request

    from .conftest import Gate

OBJECT = "ab" * 32
HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"


def failing(exc: Exception) -> Any:
    async def dispatch(request: Request) -> Response:
        raise exc

    return dispatch


def remote() -> ValueError:
    exc = ValueError("<script>alert(1)</script>")
    attach_remote(exc, 'Traceback: File "room.py" <b>line 7</b>', OBJECT)
    return exc


async def test_in_dev_a_browser_gets_a_page_with_everything_escaped(gate: Gate) -> None:
    gate.dispatch = failing(remote())
    reply = await gate.get("/<i>?q='\"<u>", HTML)
    assert reply.status == 500
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in (reply.header("content-security-policy") or "")
    page = reply.body.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "room.py" in page
    assert OBJECT in page
    assert "ValueError" in page
    assert "GET http://gate/" in page
    for raw in ("<script", "<b>", "<i>", "<u>"):
        assert raw not in page


async def test_in_dev_curl_gets_plain_text(gate: Gate) -> None:
    gate.dispatch = failing(remote())
    reply = await gate.get("/x", "Accept: */*")
    assert reply.header("content-type") == "text/plain; charset=utf-8"
    text = reply.body.decode()
    assert text.startswith("ValueError: <script>alert(1)</script>\n")
    assert "room.py" in text
    assert OBJECT in text


async def test_a_local_exception_shows_its_local_traceback(gate: Gate) -> None:
    gate.dispatch = failing(KeyError("k"))
    assert "test_failures.py" in (await gate.get()).body.decode()


async def test_in_serve_nothing_is_told_but_an_incident_that_the_log_explains(
    serving: Gate, log: pytest.LogCaptureFixture
) -> None:
    serving.dispatch = failing(remote())
    reply = await serving.get("/", HTML)
    assert reply.status == 500
    assert reply.header("content-type") == "text/plain; charset=utf-8"
    text = reply.body.decode()
    match = re.fullmatch(r"500 Internal Server Error\nincident ([0-9a-f]{8})\n", text)
    assert match is not None
    assert f"incident={match[1]}" in log.text
    assert "room.py" in log.text
    assert OBJECT in log.text


async def test_an_overloaded_object_answers_503_with_retry_after(gate: Gate, serving: Gate) -> None:
    for each in (gate, serving):
        each.dispatch = failing(Overloaded("Too many requests queued."))
        reply = await each.get()
        assert (reply.status, reply.header("retry-after")) == (503, "1")


async def test_a_retryable_failure_answers_503_with_its_text_in_dev_only(
    gate: Gate, serving: Gate
) -> None:
    for each in (gate, serving):
        each.dispatch = failing(HostLost("Network connection lost."))
    reply = await gate.get()
    assert (reply.status, reply.header("retry-after")) == (503, None)
    assert b"Network connection lost." in reply.body
    reply = await serving.get()
    assert reply.status == 503
    assert b"connection lost" not in reply.body


async def test_what_is_not_a_response_is_named(gate: Gate) -> None:
    async def forgetful(request: Request) -> Any:
        return None

    gate.dispatch = forgetful
    reply = await gate.get()
    assert reply.status == 500
    assert b"fetch() must return a workers.Response, not NoneType" in reply.body


async def test_a_response_sent_twice_is_an_error_not_an_empty_page(gate: Gate) -> None:
    response = Response("once")

    async def again(request: Request) -> Response:
        return response

    gate.dispatch = again
    async with gate.wire() as wire:
        assert (await wire.get()).body == b"once"
        reply = await wire.get()
        assert (reply.status, b"already used" in reply.body) == (500, True)


async def test_a_websocket_that_nobody_asked_for_is_the_scripts_error(gate: Gate) -> None:
    async def upgrade(request: Request) -> Response:
        return Response(None, status=101, web_socket=object())

    gate.dispatch = upgrade
    reply = await gate.get()
    assert reply.status == 500
    assert b"the request did not ask for an upgrade" in reply.body


def test_an_exception_that_cannot_be_printed_still_has_a_page() -> None:
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    facts = describe(Mute(), status=500, method="GET", url="/")
    assert "Mute" in as_text(facts)
    assert "Mute" in as_html(facts)


GOOD = b"POST /p?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nabcde"


def malformed(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    data = bytearray(GOOD)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        if kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 8)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(data)


async def test_the_server_answers_after_200_malformed_requests(gate: Gate) -> None:
    rng = random.Random(20)

    async def hello(request: Request) -> Response:
        await request.bytes()
        return Response("still here")

    async def throw(data: bytes) -> bytes:
        async with gate.wire() as wire:
            wire.send(data)
            wire.writer.write_eof()
            try:
                return await wire.reader.read()
            except ConnectionResetError:
                return b""

    gate.dispatch = hello
    for _ in range(10):
        answers = await asyncio.gather(*(throw(malformed(rng)) for _ in range(20)))
        assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers if answer)
        assert not any(b"HTTP/1.1 500" in answer for answer in answers)
        assert (await gate.get()).body == b"still here"
