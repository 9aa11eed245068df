"""Clients that break the rules of RFC 6455 get the close that it asks for, and harm nobody."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from typing import TYPE_CHECKING

import pytest

from .conftest import soon
from .raw import ask, connected, frame

if TYPE_CHECKING:
    from .conftest import Rooms

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(TEXT, b"echo \xff"), 1007, id="text that is not UTF-8"),
        pytest.param(
            frame(TEXT, b"echo \xf0\x9f", fin=False) + frame(0, b"\xff"), 1007, id="in fragments"
        ),
        pytest.param(frame(TEXT, b"a", mask=False), 1002, id="without a mask"),
        pytest.param(frame(3, b"a"), 1002, id="unknown data opcode"),
        pytest.param(frame(11, b"a"), 1002, id="unknown control opcode"),
        pytest.param(frame(TEXT, b"a", rsv=4), 1002, id="compressed, which was not agreed"),
        pytest.param(frame(0, b"a"), 1002, id="continuation of nothing"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, id="two beginnings"),
        pytest.param(frame(PING, b"a" * 126), 1002, id="ping over 125 bytes"),
        pytest.param(frame(PING, fin=False), 1002, id="ping in fragments"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="close with one byte"),
        pytest.param(frame(CLOSE, struct.pack("!H", 1005)), 1002, id="close with a code for none"),
        pytest.param(frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007, id="reason not UTF-8"),
        pytest.param(frame(CLOSE, struct.pack("!H", 4999) + b"x"), 4999, id="a good close"),
        pytest.param(frame(CLOSE), 1005, id="a close without a code"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(CLOSE, struct.pack("!H", 1001)),
            1001,
            id="a close between fragments",
        ),
        pytest.param(b"\x81\xff" + b"\xff" * 8, 1009, id="2**64 bytes announced"),
    ],
)
async def test_a_breach_gets_its_close_code(rooms: Rooms, sent: bytes, code: int) -> None:
    raw = await connected(rooms.url)
    raw.send(sent)
    assert await raw.closed() == code


async def test_a_ping_is_answered_with_its_payload_also_between_fragments(rooms: Rooms) -> None:
    raw = await connected(rooms.url)
    raw.send(frame(TEXT, b"echo a", fin=False) + frame(PING, b"are you there") + frame(0, b"b"))
    assert await raw.frame() == (PONG, b"are you there")
    assert await raw.frame() == (TEXT, b"ab")


async def test_bytes_may_come_in_any_portions(rooms: Rooms) -> None:
    raw = await connected(rooms.url)
    data = frame(TEXT, b"echo " + b"x" * 200) + frame(BINARY, b"y" * 70_000)
    for start in range(300):
        raw.send(data[start : start + 1])
        if start % 10 == 0:
            await asyncio.sleep(0)
    raw.send(data[300:])
    assert await raw.frame() == (TEXT, b"x" * 200)
    assert await raw.frame() == (BINARY, b"y" * 70_000)


async def test_frames_sent_with_the_handshake_are_not_lost(rooms: Rooms) -> None:
    reader, writer = await ask(rooms.url, "early")
    writer.write(frame(TEXT, b"echo early"))
    await reader.readuntil(b"\r\n\r\n")
    assert (await reader.readexactly(7)) == b"\x81\x05early"
    writer.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_version": None}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": "short"}, 400),
        ({"connection": "keep-alive"}, 426),
        ({"method": "POST"}, 405),
    ],
)
async def test_a_wrong_handshake_never_reaches_the_script(
    rooms: Rooms, change: dict[str, str | None], status: int
) -> None:
    reader, writer = await ask(rooms.url, "wrong", **change)
    assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in await asyncio.wait_for(reader.read(), 20)
    writer.close()


async def test_random_frames_never_harm_the_gateway(rooms: Rooms) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    async with rooms.open("bystander") as ws:
        for _ in range(60):
            raw = await connected(rooms.url, "fuzz")
            for _ in range(rng.randrange(1, 8)):
                raw.send(some_frame(rng))
            raw.send(frame(CLOSE, struct.pack("!H", 1000)))
            if rng.random() < 0.1:
                raw.writer.transport.abort()
                continue
            with contextlib.suppress(OSError):  # it was closed already
                raw.writer.write_eof()
            code = await raw.closed()
            assert code in {1000, 1002, 1006, 1007, 1009, 1005} or 3000 <= code < 5000, seed
            raw.writer.close()
        await ws.send("echo fine")
        assert await soon(ws) == "fine", seed


def some_frame(rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(20))
    opcode = rng.choice([0, TEXT, TEXT, TEXT, BINARY, BINARY, PING, PONG, CLOSE, rng.randrange(16)])
    payload = rng.choice(
        [b"echo hi", b"", rng.randbytes(rng.randrange(140)), "echo ü".encode(), b"\x0f\xa0bye"]
    )
    good = rng.random() < 0.8
    return frame(
        opcode,
        payload,
        fin=good or rng.random() < 0.5,
        mask=good or rng.random() < 0.5,
        rsv=0 if good else rng.randrange(8),
    )
