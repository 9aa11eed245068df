"""permessage-deflate: only where both want it, one frame for all, and no way around the limits."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from runtime.gateway.frames import PLAIN, SMALL, Frames

from .conftest import Rooms, serve, soon
from .raw import Raw, ask, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 10_000
LONG = "one and the same thing, " * 200


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """A worker whose gateway compresses."""
    folder = tmp_path_factory.mktemp("pressed")
    limits = f"compress = true\nmessage_bytes = {LIMIT}"
    with serve(folder, hosts=1, websockets=limits) as server:
        yield Rooms(server.url, folder / "data", folder)


def packed(data: bytes) -> bytes:
    """What a client sends of a message."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def offered(rooms: Rooms, path: str, offer: str = "permessage-deflate") -> tuple[str, Raw]:
    """Offer compression: the head of the answer, and the connection."""
    reader, writer = await ask(rooms.url, path, sec_websocket_extensions=offer)
    head = await reader.readuntil(b"\r\n\r\n")
    return head.decode().lower(), Raw(reader, writer)


async def test_messages_are_compressed_both_ways_and_no_side_keeps_its_context(
    pressed: Rooms,
) -> None:
    head, raw = await offered(pressed, "both", "permessage-deflate; client_max_window_bits")
    assert (
        "sec-websocket-extensions: permessage-deflate; "
        "server_no_context_takeover; client_no_context_takeover\r\n" in head
    )
    for _ in range(2):  # the second is compressed without the first
        raw.send(frame(1, packed(f"echo {LONG}".encode()), rsv=4))
        first, length = await raw.reader.readexactly(2)
        assert first == 0xC1, "a whole text, compressed"
        answer = await raw.reader.readexactly(length)
        assert len(answer) < len(LONG) // 20
        assert zlib.decompress(answer + b"\0\0\xff\xff\x03\0", wbits=-15).decode() == LONG
    raw.send(frame(1, b"echo small"))
    assert await raw.frame() == (1, b"small")
    raw.writer.close()


async def test_a_broadcast_reaches_clients_of_all_windows_and_of_none(pressed: Rooms) -> None:
    def windows(bits: int) -> ClientPerMessageDeflateFactory:
        return ClientPerMessageDeflateFactory(server_max_window_bits=bits)

    async with (
        pressed.open("mixed") as plain,
        connect(pressed.address("mixed")) as full,
        connect(pressed.address("mixed"), extensions=[windows(9)], compression=None) as narrow,
    ):
        assert [len(ws.protocol.extensions) for ws in (plain, full, narrow)] == [0, 1, 1]
        for text in (LONG, "short", "ü" * 4000):
            await full.send(f"all {text}")
            assert [await soon(ws) for ws in (plain, full, narrow)] == [text] * 3
        await narrow.send(bytes(5000))
        assert await soon(narrow) == bytes(5000)


async def test_a_window_that_zlib_cannot_make_is_not_agreed(pressed: Rooms) -> None:
    head, raw = await offered(pressed, "eight", "permessage-deflate; server_max_window_bits=8")
    assert "sec-websocket-extensions" not in head
    raw.send(frame(1, packed(b"echo x"), rsv=4))
    assert await raw.closed() == 1002


async def test_compression_is_off_unless_it_is_asked_for(rooms: Rooms) -> None:
    async with connect(rooms.address("off")) as ws:
        assert ws.protocol.extensions == []
        await ws.send(f"echo {LONG}")
        assert await soon(ws) == LONG


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(1, packed(bytes(LIMIT + 1)), rsv=4), 1009, id="a bomb"),
        pytest.param(
            frame(1, packed(bytes(LIMIT)), rsv=4, fin=False) + frame(0, packed(b"x")),
            1009,
            id="a bomb in fragments",
        ),
        pytest.param(frame(1, b"\xff" * 20, rsv=4), 1002, id="not deflated"),
        pytest.param(frame(1, packed(b"echo \xff"), rsv=4), 1007, id="not UTF-8"),
        pytest.param(
            frame(1, packed(b"echo x")[:3], rsv=4, fin=False) + frame(0, packed(b"x"), rsv=4),
            1002,
            id="a second fragment that says so too",
        ),
        pytest.param(frame(9, packed(b"ping"), rsv=4), 1002, id="a ping"),
    ],
)
async def test_what_is_inflated_is_checked_like_any_message(
    pressed: Rooms, sent: bytes, code: int
) -> None:
    _, raw = await offered(pressed, "checked")
    raw.send(sent)
    assert await raw.closed() == code


async def test_a_message_of_the_largest_size_passes(pressed: Rooms) -> None:
    async with connect(pressed.address("largest")) as ws:
        await ws.send("echo " + "x" * (LIMIT - 5))
        assert await soon(ws) == "x" * (LIMIT - 5)
        await ws.send("echo " + "x" * (LIMIT - 4))
        with pytest.raises(ConnectionClosed):
            await soon(ws)
        assert ws.close_code == 1009


@given(st.binary(max_size=2000) | st.text(max_size=500), st.integers(9, 15), st.integers(1, 50))
def test_a_frame_is_made_once_for_a_window_and_inflates_to_the_message(
    piece: bytes | str, window: int, times: int
) -> None:
    message = piece * times
    data = message.encode() if isinstance(message, str) else message
    frames = Frames(message)
    made = frames[window]
    assert frames[window] is made
    assert len(made) <= len(frames[PLAIN])
    if made[0] & 0x40:
        assert len(data) > SMALL
        size = {126: 4, 127: 10}.get(made[1], 2)
        assert zlib.decompress(made[size:] + b"\0\0\xff\xff\x03\0", wbits=-window) == data
    else:
        assert made is frames[PLAIN]
