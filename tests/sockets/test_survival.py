"""Sockets outlive what their objects run in: eviction, death, reload."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed

from .conftest import Rooms, serve, soon, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def drowsy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """A worker whose objects leave memory at once, and whose hosts may be killed."""
    folder = tmp_path_factory.mktemp("drowsy")
    with serve(folder, idle_s=0) as server:
        yield Rooms(server.url, folder / "data", folder)


async def test_an_evicted_object_finds_its_sockets_tags_and_attachments_again(
    drowsy: Rooms,
) -> None:
    async with (
        drowsy.open("sleep?tags=a,b&name=one") as one,
        drowsy.open("sleep?name=two", subprotocols=["p1"]) as two,
    ):
        await one.send("attach new")
        assert await soon(one) == "attached"
        await one.send("auto ping pong")
        assert await soon(one) == "set"
        await drowsy.asleep()
        await two.send("ping")
        assert await soon(two) == "pong"  # nobody woke for it
        facts = await drowsy.facts(one)
        assert facts["born"] == 2, "the constructor finds all sockets"
        assert (facts["heard"], facts["tags"], facts["attachment"]) == (1, ["a", "b"], "new")
        await two.send("stamp")
        assert float(await soon(two)) > 1.6e9
        facts = await drowsy.facts(two)
        assert (facts["protocol"], facts["attachment"]) == ("p1", {"name": "two"})


async def test_a_call_wakes_an_object_with_its_sockets_too(drowsy: Rooms) -> None:
    async with drowsy.open("called"):
        await drowsy.asleep()
        assert await drowsy.call("called", "noted") == 1
    while await drowsy.call("called", "noted"):
        await drowsy.asleep()


async def test_the_end_of_a_socket_wakes_its_object(drowsy: Rooms) -> None:
    async with drowsy.open("end") as stays:
        async with drowsy.open("end?name=ann"):
            await drowsy.asleep()
        assert await soon(stays) == "left ann 1000 "


async def test_an_object_with_a_standard_socket_stays_in_memory(drowsy: Rooms) -> None:
    async with drowsy.open("awake?api=standard") as ws:
        await drowsy.call("elsewhere", "noted")
        async with drowsy.runtime() as runtime:
            await until(lambda: sum(host.objects for host in runtime.status()) == 1)
        await ws.send("a")
        assert await soon(ws) == "heard a"


async def test_sockets_outlive_their_host_and_messages_wait_for_the_next(drowsy: Rooms) -> None:
    async with drowsy.open("killed?tags=t&name=one") as ws:
        first = await drowsy.facts(ws)
        async with drowsy.runtime() as runtime:
            generation = max(host.generation for host in runtime.status())
            os.kill(first["pid"], signal.SIGKILL)
            # Give the gateway the news, so that what follows is sent after the death for sure.
            await until(lambda: max(h.generation for h in runtime.status()) > generation)
        for number in range(50):
            await ws.send(f"echo {number}")
        received = [await soon(ws) for _ in range(50)]
        assert [text for text in received if not text.startswith("error")] == [
            str(n) for n in range(50)
        ]
        facts = await drowsy.facts(ws)
        assert facts["pid"] != first["pid"]
        assert (facts["born"], facts["tags"], facts["attachment"]) == (1, ["t"], {"name": "one"})


async def test_a_message_under_way_when_its_host_dies_is_reported_and_not_run_again(
    drowsy: Rooms,
) -> None:
    async with drowsy.open("inflight") as ws, drowsy.open("inflight") as other:
        await ws.send("add before")
        assert await soon(ws) == "added before"
        await ws.send("die")
        assert await soon(ws) == "error HostLost True"
        await other.send("log")
        assert json.loads(await soon(other)) == ["before"]


async def test_a_reset_takes_back_what_was_sent_and_keeps_the_socket(drowsy: Rooms) -> None:
    async with drowsy.open("reset?name=one") as ws:
        await ws.send("add before")
        assert await soon(ws) == "added before"
        await ws.send("abort")
        assert await soon(ws) == "error HostLost True"
        await ws.send("log")
        assert json.loads(await soon(ws)) == ["before"]
        assert (await drowsy.facts(ws))["attachment"] == {"name": "one"}


async def test_a_standard_socket_ends_with_its_host(drowsy: Rooms) -> None:
    async with drowsy.open("standard?api=standard") as ws, drowsy.open("standard") as other:
        pid = (await drowsy.facts(other))["pid"]
        await drowsy.kill(pid)
        with pytest.raises(ConnectionClosed):
            await soon(ws)
        assert ws.close_code == 1012
        assert (await drowsy.facts(other))["born"] == 1


async def test_a_reload_drops_no_socket(drowsy: Rooms) -> None:
    async with drowsy.open("reload?name=one") as ws:
        before = await drowsy.facts(ws)
        script = drowsy.folder / "worker.py"
        script.write_text(script.read_text().replace('"added ', '"stored '))
        answers: list[str] = []
        number = 0
        while not (answers and answers[-1].startswith("stored")):
            await ws.send(f"add {number}")
            answers.append(await soon(ws))
            number += 1
        assert [a.split(" ")[1] for a in answers] == [str(n) for n in range(number)]
        await ws.send("log")
        assert json.loads(await soon(ws)) == [str(n) for n in range(number)]
        facts = await drowsy.facts(ws)
        assert facts["pid"] != before["pid"]
        assert facts["attachment"] == {"name": "one"}
