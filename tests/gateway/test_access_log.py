"""One line a request."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

from runtime.gateway import AccessLog
from workers import Response

from .conftest import passing, running, soon


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


AT = 1_700_000_000.0


async def test_a_line_holds_time_method_path_status_bytes_and_duration() -> None:
    stream = io.StringIO()
    log = AccessLog(stream, clock=lambda: AT)
    log("GET", "/a?b=1", 200, 12, 0.00125)
    log("POST", "/", 503, 0, 1.5)
    assert stream.getvalue() == ""
    log.flush()
    assert stream.getvalue() == (
        "2023-11-14T22:13:20Z GET /a?b=1 200 12B 1.25ms\n"
        "2023-11-14T22:13:20Z POST / 503 0B 1500.00ms\n"
    )


async def test_lines_are_written_by_themselves_a_moment_later() -> None:
    stream, written = io.StringIO(), asyncio.Event()
    log = AccessLog(stream, delay=0)
    log("GET", "/", 200, 0, 0.0)
    asyncio.get_running_loop().call_later(0.001, written.set)
    await soon(written.wait())
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(("status", "colour"), [(200, 32), (302, 36), (404, 33), (500, 31)])
async def test_a_terminal_sees_the_status_in_colour(status: int, colour: int) -> None:
    stream = Terminal()
    log = AccessLog(stream, clock=lambda: AT)
    log("GET", "/", status, 0, 0.0)
    log.flush()
    assert f"\x1b[{colour}m{status}\x1b[0m" in stream.getvalue()


async def test_quiet_keeps_only_the_failures() -> None:
    stream = io.StringIO()
    log = AccessLog(stream, quiet=True)
    log("GET", "/fine", 200, 0, 0.0)
    log("GET", "/missing", 404, 0, 0.0)
    log("GET", "/broken", 500, 0, 0.0)
    log.flush()
    assert re.findall(r"GET (\S+)", stream.getvalue()) == ["/broken"]


async def test_a_stream_that_refuses_lines_harms_nobody() -> None:
    log = AccessLog(Broken())
    log("GET", "/", 200, 0, 0.0)
    log.flush()


async def test_every_answer_is_logged_with_what_was_sent() -> None:
    entries: list[tuple[object, ...]] = []

    async def dispatch(request: object) -> Response:
        async def chunks():
            yield b"12"
            yield b"345"

        return Response(chunks())

    async with running("dev", access_log=lambda *entry: entries.append(entry)) as gate:
        gate.dispatch = dispatch
        async with gate.wire() as wire:
            await wire.get("/s?x=1")
            await wire.get("/cdn-cgi/x")
    assert [entry[:3] for entry in entries] == [("GET", "/s?x=1", 200), ("GET", "/cdn-cgi/x", 404)]
    assert entries[0][3] == 5
    assert all(isinstance(entry[4], float) and entry[4] >= 0 for entry in entries)


async def test_a_client_that_left_before_its_answer_is_logged_as_499() -> None:
    logged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    started = asyncio.Event()

    async def hang(request: object) -> Response:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    def note(method: str, target: str, status: int, sent: int, seconds: float) -> None:
        logged.set_result(status)

    async with running("serve", access_log=note) as gate:
        gate.dispatch = hang
        async with gate.wire() as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await soon(started.wait())
        assert await passing(gate, logged) == 499
