"""Frames in all variety: good ones are understood however they come, each breach gets its close code.

A client says some messages, whole or in fragments, with pings and pongs between and in them, in bytes
that arrive in any portions. It must get every message back and every ping answered. Then it breaks
one rule of RFC 6455, or closes, and must get the close that is due, while a bystander is served on.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from .raw import Raw, connected, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Rooms

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

LIMIT = 32 * 1024 * 1024

small = st.binary(max_size=125)
payloads = small | st.binary(min_size=126, max_size=300)
controls = st.lists(st.tuples(st.sampled_from([PING, PONG]), small), max_size=2)


@st.composite
def messages(draw: Callable[..., Any]) -> list[tuple[int, bytes, bool, int]]:
    """The frames of a message: opcode, payload, fin, and how long its length is at least."""
    text = draw(st.booleans())
    pieces = [b"", *draw(st.lists(payloads, min_size=1, max_size=4))]
    if text:
        whole = b"echo " + b"".join(pieces).hex().encode() + "ü€😀".encode()
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    frames = []
    for index, piece in enumerate(pieces):
        opcode = CONT if index else TEXT if text else BINARY
        long = draw(st.sampled_from([0, 0, 126, 127]))
        frames.append((opcode, piece, index == len(pieces) - 1, long))
        if index < len(pieces) - 1:
            frames += [(control, data, True, 0) for control, data in draw(controls)]
    return frames


def breach(code: int, sent: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[int, bytes]]:
    """What a client must not send, with the code of the close that it gets."""
    return st.tuples(st.just(code), sent)


BEGUN = frame(TEXT, b"echo ", fin=False)
known = st.sampled_from([TEXT, BINARY, PING, PONG, CLOSE])
not_text = st.sampled_from(
    [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
no_codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535]
codes = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4000, 4999]

ENDS = st.one_of(
    breach(
        1002,
        st.builds(frame, st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), small)
        | st.builds(lambda o, p, r: frame(o, p, rsv=r), known, small, st.integers(1, 7))
        | st.builds(lambda o, p: frame(o, p, mask=False), known, small)
        | st.builds(lambda p, f: frame(CONT, p, fin=f), payloads, st.booleans())
        | st.builds(lambda o, p: BEGUN + frame(o, p), st.sampled_from([TEXT, BINARY]), payloads)
        | st.builds(frame, st.sampled_from([PING, PONG]), st.binary(min_size=126, max_size=200))
        | st.builds(
            lambda o, p: frame(o, p, fin=False), st.sampled_from([PING, PONG, CLOSE]), small
        )
        | st.builds(lambda b: frame(CLOSE, b), st.binary(min_size=1, max_size=1))
        | st.builds(lambda c: frame(CLOSE, struct.pack("!H", c)), st.sampled_from(no_codes)),
    ),
    breach(
        1007,
        st.builds(lambda p: frame(TEXT, b"echo " + p), not_text)
        | st.builds(lambda p: BEGUN + frame(PING) + frame(CONT, p), not_text)
        | st.builds(lambda c, p: frame(CLOSE, struct.pack("!H", c) + p), st.just(1000), not_text),
    ),
    breach(
        1009,
        st.integers(LIMIT + 1, 2**64 - 1).map(lambda n: b"\x82\xff" + struct.pack("!Q", n)),
    ),
    breach(1005, st.just(frame(CLOSE))),
    st.sampled_from(codes).flatmap(
        lambda c: st.tuples(
            st.just(c), st.sampled_from([b"", BEGUN]).map(lambda b: b + closing(c, "ade €"))
        )
    ),
)


def closing(code: int, reason: str) -> bytes:
    """A good close."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


async def send(raw: Raw, data: bytes, cuts: list[int]) -> None:
    """Send bytes in portions."""
    start = 0
    for cut in sorted(cuts):
        raw.send(data[start:cut])
        start = max(start, cut)
        await asyncio.sleep(0)
    raw.send(data[start:])


@settings(max_examples=120, deadline=None)
@given(
    said=st.lists(messages(), max_size=4),
    end=ENDS,
    cuts=st.lists(st.integers(0, 1500), max_size=6),
)
async def test_good_frames_are_understood_and_each_breach_gets_its_close_code(
    rooms: Rooms,
    said: list[list[tuple[int, bytes, bool, int]]],
    end: tuple[int, bytes],
    cuts: list[int],
) -> None:
    raw, bystander = await connected(rooms.url, "frames"), await connected(rooms.url, "others")
    frames = [each for message in said for each in message]
    data = b"".join(frame(o, p, fin=fin, long=long) for o, p, fin, long in frames)
    await send(raw, data, cuts)

    pings = [payload for opcode, payload, _, _ in frames if opcode == PING]
    wholes = []
    for message in said:
        whole = b"".join(payload for opcode, payload, _, _ in message if opcode < CLOSE)
        wholes.append((message[0][0], whole.removeprefix(b"echo ")))
    pongs, echoes = [], []
    while len(pongs) < len(pings) or len(echoes) < len(wholes):
        opcode, payload = await raw.frame()
        if opcode == PONG:
            pongs.append(payload)
        else:
            echoes.append((opcode, payload))
    assert (pongs, echoes) == (pings, wholes)

    code, breaking = end
    await send(raw, breaking, cuts)
    assert await raw.closed() == code
    bystander.send(frame(TEXT, b"echo served"))
    assert await bystander.frame() == (TEXT, b"served")
    for each in (raw, bystander):
        each.writer.close()
