"""Several gateways on one port: an object's clients are spread over them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cold.memory import tree

from .conftest import Rooms, serve, soon

if TYPE_CHECKING:
    from examples.demo.server import Server

CLIENTS = 30


async def gateways_of(server: Server, rooms: Rooms) -> list[int]:
    """The gateways' pids: beside the hosts there is the watcher, which starts last."""
    async with rooms.runtime() as runtime:
        hosts = [host.pid for host in runtime.status()]
    return sorted(set(tree(server.process.pid)) - {server.process.pid, *hosts})[:2]


async def test_clients_of_two_gateways_share_an_object_until_one_gateway_dies(
    tmp_path: Path,
) -> None:
    with serve(tmp_path / "two", gateways=2, idle_s=0) as server:
        rooms = Rooms(server.url, tmp_path / "two" / "data", tmp_path / "two")
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(rooms.open(f"many?name={number}"))
                for number in range(CLIENTS)
            ]
            await clients[0].send("all hello")
            assert [await soon(ws) for ws in clients] == ["hello"] * CLIENTS
            await rooms.asleep()
            facts = await rooms.facts(clients[0])
            assert facts["born"] == CLIENTS, "a new activation asks both"

            os.kill((await gateways_of(server, rooms))[0], signal.SIGKILL)
            alive, dead = [], 0
            ends: list[Any] = await asyncio.gather(*map(last_words, clients))
            for ws, words in zip(clients, ends, strict=True):
                if words is None:
                    dead += 1
                else:
                    alive.append(ws)
            assert 0 < dead < CLIENTS
            async with rooms.open("many?name=new") as new:
                async with asyncio.timeout(20):
                    while (await rooms.facts(new))["all"] != len(alive) + 1:
                        pass  # the object hears of the lost ones when the death is noticed


async def last_words(ws: Any) -> str | None:
    """Echo until the connection has answered, or was found dead; None for a dead one."""
    try:
        await ws.send("echo alive")
        while (words := await soon(ws)) != "alive":
            assert words.startswith("left ")
    except Exception:
        return None
    return words


def test_a_port_that_is_in_use_is_refused_also_to_several_gateways(tmp_path: Path) -> None:
    with serve(tmp_path / "one", gateways=2) as server:
        port = server.url.rpartition(":")[2]
        roost = str(Path(sys.executable).with_name("roost"))
        second = subprocess.run(
            [roost, "serve", "--port", port, "--gateways", "2", "--data-dir", tmp_path / "data"],
            cwd=tmp_path / "one",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in second.stderr
