"""What a client may take of a gateway: message size, unread messages, silence, connections."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .conftest import Rooms, serve, soon
from .raw import Raw, connected, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

LIMITS = """
message_bytes = 1000
buffer_bytes = 100000
connections = 4
origins = ["https://good.example"]
lossy = ["ticks"]
"""

BEHIND = 300
"""Messages, of 50,000 bytes, that a client does not read: more than the kernel takes of them."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """A worker whose gateway allows little."""
    folder = tmp_path_factory.mktemp("narrow")
    with serve(folder, hosts=1, websockets=LIMITS) as server:
        yield Rooms(server.url, folder / "data", folder)


async def test_a_larger_message_closes_with_1009_also_in_fragments(narrow: Rooms) -> None:
    async with narrow.open("large?name=whole") as ws:
        await ws.send("echo " + "x" * 995)
        assert await soon(ws) == "x" * 995
        await ws.send("echo " + "x" * 996)
        with pytest.raises(ConnectionClosed):
            await soon(ws)
        assert ws.close_code == 1009
    async with narrow.open("large") as ws:
        await ws.send(["x" * 600, "y" * 600])
        with pytest.raises(ConnectionClosed):
            await soon(ws)
        assert ws.close_code == 1009


async def unread(rooms: Rooms, path: str, reader: ClientConnection) -> Raw:
    """A client that has read none of many messages, which another one has read, each in its turn."""
    raw = await connected(rooms.url, path)
    raw.writer.transport.pause_reading()
    for number in range(BEHIND):
        await reader.send(f"numbered {number} 50000")
        assert (await soon(reader)).startswith(f"{number} ")
    return raw


async def test_a_client_that_does_not_read_is_closed_and_the_others_go_on(narrow: Rooms) -> None:
    async with narrow.open("slow", max_size=None) as reader:
        raw = await unread(narrow, "slow?name=slow", reader)
        raw.writer.transport.resume_reading()
        numbers = []
        while (got := await raw.frame())[0] == 1:
            numbers.append(int(got[1].partition(b" ")[0]))
        assert numbers == list(range(len(numbers))), "what was sent before comes whole"
        assert len(numbers) < BEHIND
        assert got == (8, struct.pack("!H", 1013) + b"messages come faster than they are read")
        raw.send(frame(8, struct.pack("!H", 1013)))
        assert await raw.reader.read() == b""
        assert (await soon(reader)).startswith("left slow 1013")


async def test_one_message_may_be_larger_than_what_may_wait(narrow: Rooms) -> None:
    raw = await connected(narrow.url, "huge")
    raw.send(frame(1, b"big 20000000"))
    assert await raw.frame() == (1, b"z" * 20_000_000)
    raw.send(frame(1, b"echo more"))
    assert await raw.frame() == (1, b"more")
    raw.writer.close()


async def read(raw: Raw) -> list[int]:
    """Read on: the numbers of the messages that were not dropped, up to the newest."""
    raw.writer.transport.resume_reading()
    numbers: list[int] = []
    while not numbers or numbers[-1] != BEHIND - 1:
        opcode, payload = await raw.frame()
        assert opcode == 1
        numbers.append(int(payload.partition(b" ")[0]))
        assert len(payload) == 50_001 + len(str(numbers[-1])), "no message is cut"
    return numbers


async def test_a_lossy_client_that_does_not_read_misses_the_oldest_messages(
    narrow: Rooms,
) -> None:
    async with narrow.open("lossy", max_size=None) as reader:
        raw = await unread(narrow, "lossy?tags=ticks", reader)
        numbers = await read(raw)
        assert numbers == sorted(set(numbers)), "in their order"
        missed = BEHIND - len(numbers)
        assert missed > 0
        answer = ""
        until = asyncio.get_running_loop().time() + 20
        while answer != f"[{missed}]":  # it is told within a second
            assert asyncio.get_running_loop().time() < until, (missed, answer)
            await reader.send("dropped ticks")
            answer = await soon(reader)
        raw.send(frame(1, b"echo still here"))
        assert await raw.frame() == (1, b"still here")
        raw.writer.close()


async def test_what_waits_for_a_lossy_client_is_sent_before_the_close(narrow: Rooms) -> None:
    async with narrow.open("farewell", max_size=None) as reader:
        raw = await unread(narrow, "farewell?tags=ticks", reader)
        raw.send(frame(1, b"close 4000 enough"))
        await reader.send("echo meanwhile")
        assert await soon(reader) == "meanwhile"
        await read(raw)
        assert await raw.frame() == (8, b"\x0f\xa0enough")
        raw.writer.close()


async def test_a_new_activation_knows_what_was_dropped_before(tmp_path: Path) -> None:
    limits = 'lossy = ["ticks"]\nbuffer_bytes = 100000'
    with serve(tmp_path / "lossy", hosts=1, idle_s=0, websockets=limits) as server:
        rooms = Rooms(server.url, tmp_path / "lossy" / "data", tmp_path)
        async with rooms.open("lossy", max_size=None) as reader:
            raw = await unread(rooms, "lossy?tags=ticks", reader)
            missed = BEHIND - len(await read(raw))
            await rooms.asleep()
            await reader.send("dropped ticks")
            assert await soon(reader) == f"[{missed}]"
            raw.writer.close()


async def test_a_silent_client_is_cut_off_and_one_that_answers_pings_is_not(
    tmp_path: Path,
) -> None:
    with serve(tmp_path / "silent", hosts=1, websockets="ping_s = 0.2") as server:
        await silence(Rooms(server.url, tmp_path, tmp_path))


async def silence(rooms: Rooms) -> None:
    async with rooms.open("silent") as alive:
        raw = await connected(rooms.url, "silent?name=dead")
        opcode, _ = await raw.frame()
        assert opcode == 9, "it is asked first"
        assert (await soon(alive)).startswith("left dead 1006")
        assert await raw.closed() == 1006
        raw.writer.close()
        await alive.send("echo here")
        assert await soon(alive) == "here"


async def test_one_connection_too_many_is_refused_and_room_is_found_again(narrow: Rooms) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(narrow.open("full"))
        with pytest.raises(InvalidStatus) as refused:
            await stack.enter_async_context(narrow.open("full"))
        assert refused.value.response.status_code == 503
    async with narrow.open("full") as ws:
        assert (await narrow.facts(ws))["state"] == 1


async def test_only_pages_of_allowed_origins_may_connect(narrow: Rooms) -> None:
    async with narrow.open("origin", origin="https://good.example") as ws:
        await ws.send("echo welcome")
        assert await soon(ws) == "welcome"
    with pytest.raises(InvalidStatus) as refused:
        async with narrow.open("origin", origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with narrow.open("origin"):  # no browser: it sends none
        pass


async def test_a_flood_waits_unread_and_is_handled_whole_and_in_order(narrow: Rooms) -> None:
    raw = await connected(narrow.url, "flood")
    count = 5_000
    raw.send(b"".join(frame(1, b"add %d" % number) for number in range(3)))
    raw.send(b"".join(frame(1, b"echo %d" % number) for number in range(count)))
    for number in range(3):
        assert await raw.frame() == (1, b"added %d" % number)
    received = []
    while len(received) < count:
        opcode, payload = await raw.frame()
        if opcode == 1:
            received.append(int(payload))
        else:
            raw.send(frame(10))
    assert received == list(range(count))
    raw.writer.close()


async def test_pings_without_an_end_do_not_fill_memory(narrow: Rooms) -> None:
    raw = await connected(narrow.url, "pings")
    raw.writer.transport.pause_reading()

    async def ping() -> None:
        while True:
            raw.send(frame(9, b"p" * 125) * 100)
            await raw.writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(ping(), 20)


async def test_the_stopping_gateway_says_1001_and_objects_hear_of_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("stopping")
    with serve(folder, hosts=1) as server:
        rooms = Rooms(server.url, folder / "data", folder)
        async with rooms.open("stop?name=ann") as ws:
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            with pytest.raises(ConnectionClosed):
                await soon(ws)
            assert ws.close_code == 1001
            assert await stopping == 0
    with serve(folder, hosts=1) as server:
        rooms = Rooms(server.url, folder / "data", folder)
        assert (await rooms.call("stop", "left"))[0] == ["ann"]


def test_limits_are_checked_where_they_stand() -> None:
    from runtime.config import from_keywords
    from workers import ConfigError

    given = {"ping_s": 5, "origins": ["https://a.example"], "compress": True, "lossy": ["ticks"]}
    limits = from_keywords(websockets=given).websockets
    assert (limits.compress, limits.lossy) == (True, ("ticks",))
    assert (limits.ping_s, limits.origins) == (5.0, ("https://a.example",))
    with pytest.raises(ConfigError, match=r"websockets\.origins\[0\].*an origin such as"):
        from_keywords(websockets={"origins": ["a.example"]})
    with pytest.raises(ConfigError, match=r"websockets\.compress: expected true or false"):
        from_keywords(websockets={"compress": 1})
    with pytest.raises(ConfigError, match=r"websockets\.lossy\[0\].*a tag of acceptWebSocket"):
        from_keywords(websockets={"lossy": ["x" * 257]})
    with pytest.raises(ConfigError, match="did you mean 'ping_s'"):
        from_keywords(websockets={"pings": 1})
    assert json.dumps(limits.origins)
