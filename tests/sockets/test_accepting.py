"""What a script says to WebSockets, and what clients hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .conftest import soon

if TYPE_CHECKING:
    from .conftest import Rooms


async def test_a_message_calls_the_object_and_its_answer_comes_back(rooms: Rooms) -> None:
    async with rooms.open("echo") as ws:
        await ws.send("echo grüße \U0001f41d")
        assert await soon(ws) == "grüße \U0001f41d"
        await ws.send(b"\x00\xff")
        assert await soon(ws) == b"\x00\xff"
        await ws.send(["echo in ", "frag", "ments"])
        assert await soon(ws) == "in fragments"


async def test_what_is_sent_before_the_upgrade_is_answered_comes_first(rooms: Rooms) -> None:
    async with rooms.open("greet?greet=hello") as ws:
        assert await soon(ws) == "hello"


async def test_tags_find_sockets_and_an_attachment_is_kept(rooms: Rooms) -> None:
    async with (
        rooms.open("tags?tags=a,b&name=one") as one,
        rooms.open("tags?tags=b&name=two") as two,
    ):
        facts = await rooms.facts(one)
        assert facts["tags"] == ["a", "b"]
        assert facts["attachment"] == {"name": "one"}
        assert (facts["all"], facts["state"]) == (2, 1)
        await one.send("tag b")
        assert [await soon(one), await soon(one)] == ["to b", "2 of b"]
        assert await soon(two) == "to b"
        await one.send("tag a")
        assert [await soon(one), await soon(one)] == ["to a", "1 of a"]
        await two.send("tag none")
        assert await soon(two) == "0 of none"


async def test_the_standard_api_hears_with_listeners(rooms: Rooms) -> None:
    async with rooms.open("standard?api=standard") as ws:
        await ws.send("a")
        assert await soon(ws) == "heard a"
        await ws.close(4001, "enough")
    last = None
    while last != [4001, "enough", True]:
        last = (await rooms.call("standard", "left"))[1]


async def test_the_entrypoint_can_keep_a_socket_itself(rooms: Rooms) -> None:
    async with rooms.open("own") as ws:
        await ws.send("quiet")
        assert await soon(ws) == "QUIET"


async def test_the_object_learns_how_a_client_left(rooms: Rooms) -> None:
    async with rooms.open("leave") as stays:
        async with rooms.open("leave?name=ann") as ws:
            await ws.close(4000, "bye")
        assert await soon(stays) == "left ann 4000 bye"
        async with rooms.open("leave?name=bob") as ws:
            await ws.close()
        assert await soon(stays) == "left bob 1000 "
        async with rooms.open("leave?name=cut") as ws:
            ws.transport.abort()
        assert (await soon(stays)).startswith("left cut 1006")
        assert (await rooms.call("leave", "left"))[0] == ["ann", "bob", "cut"]
        assert (await rooms.facts(stays))["all"] == 1


async def test_the_object_closes_with_code_and_reason(rooms: Rooms) -> None:
    async with rooms.open("close") as ws:
        await ws.send("close 4321 because")
        with pytest.raises(ConnectionClosed):
            await soon(ws)
        assert (ws.close_code, ws.close_reason) == (4321, "because")


async def test_a_subprotocol_is_the_one_the_script_chose(rooms: Rooms) -> None:
    async with rooms.open("sub", subprotocols=["v2.room", "v1.room"]) as ws:
        assert ws.subprotocol == "v2.room"
        assert (await rooms.facts(ws))["protocol"] == "v2.room"


async def test_a_script_may_refuse_the_upgrade(rooms: Rooms) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with rooms.open("pid"):
            pass
    assert refused.value.response.status_code == 200


async def test_a_failing_handler_harms_nobody(rooms: Rooms) -> None:
    async with rooms.open("fail") as ws:
        await ws.send("fail")
        await ws.send("echo still here")
        assert await soon(ws) == "still here"


async def test_what_the_api_refuses_it_says_in_the_originals_words(rooms: Rooms) -> None:
    not_accepted = (
        "You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending "
        "messages."
    )
    assert [tuple(each) for each in await rooms.call("errors", "errors")] == [
        ("TypeError", not_accepted),
        (
            "TypeError",
            (
                "Failed to execute 'acceptWebSocket' on 'DurableObjectState': parameter 1 is not of "
                "type 'WebSocket' (it is object)."
            ),
        ),
        ("ValueError", "a Hibernatable WebSocket cannot have more than 10 tags"),
        ("ValueError", f'"{"x" * 257}" is longer than the max tag length (256 characters).'),
        (
            "RuntimeError",
            "you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket.",
        ),
        (
            "TypeError",
            "Cannot call `acceptWebSocket()` if the WebSocket was already accepted via `accept()`",
        ),
        ("RuntimeError", "only hibernatable websockets can have tags."),
        (
            "ValueError",
            (
                "A WebSocket 'attachment' cannot be larger than 16384 bytes.'attachment' was 17018 "
                "bytes."
            ),
        ),
        (
            "TypeError",
            (
                "A WebSocket sends str, bytes, bytearray or memoryview, not dict (json.dumps() it "
                "first?)."
            ),
        ),
        ("TypeError", "Invalid WebSocket close code: 1005."),
        ("TypeError", "A WebSocket close reason cannot be longer than 123 bytes."),
        (
            "TypeError",
            "If you specify a WebSocket close reason, you must also specify a code.",
        ),
        ("TypeError", "Can't call WebSocket send() after close()."),
        (
            "ValueError",
            "Request cannot be larger than 2048 bytes. A request of size 3000 was provided.",
        ),
        ("ValueError", "Event timeout should not exceed 604800000 ms."),
        ("tags", ["a", "b"]),
        ("TypeError", "Can't accept() WebSocket after enabling hibernation."),
        ("ValueError", "A Response with the status 101 needs a web_socket"),
        ("TypeError", not_accepted),
    ]


async def test_auto_responses_come_without_the_object_and_leave_their_time(rooms: Rooms) -> None:
    async with rooms.open("auto") as ws, rooms.open("auto") as other:
        await ws.send("auto ping pong")
        assert await soon(ws) == "set"
        heard = (await rooms.facts(ws))["heard"]
        await other.send("ping")
        assert await soon(other) == "pong"
        assert (await rooms.facts(ws))["heard"] == heard + 1
        await ws.send("stamp")
        assert await soon(ws) == "none"
        stamp = "none"
        while stamp == "none":
            await other.send("stamp")
            stamp = await soon(other)
        assert float(stamp) > 1.6e9
        await ws.send("auto")
        assert await soon(ws) == "set"
        await ws.send("echo ping")
        assert await soon(ws) == "ping"


async def test_an_object_accepts_32768_sockets_and_no_more(rooms: Rooms) -> None:
    count, refused = await rooms.call("crowd", "crowd")
    assert count == 32_768
    assert refused == "only 32768 websockets can be accepted on a single Durable Object instance"
