"""The chat and the ticker, as their clients see them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from websockets.asyncio.client import connect

from examples.demo.server import started

from .conftest import Rooms, soon

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

EXAMPLES = Path(__file__).parents[2] / "examples"


async def heard(ws: ClientConnection, **wanted: Any) -> dict[str, Any]:
    """The next message that has some values."""
    while True:
        message: dict[str, Any] = json.loads(await soon(ws))
        if wanted.items() <= message.items():
            return message


async def test_the_chat_keeps_history_and_tells_who_is_here(tmp_path: Path) -> None:
    with started(EXAMPLES / "chat", tmp_path / "data", 2) as server:
        chat = Rooms(server.url, tmp_path / "data", tmp_path)
        assert "<title>Chat on Roost</title>" in await chat.get("")
        async with chat.open("rooms/a?name=Ada") as ada:
            assert (await heard(ada, type="history"))["messages"] == []
            async with chat.open("rooms/a?name=Bea") as bea:
                await heard(ada, type="people", names=["Ada", "Bea"])
                await ada.send(json.dumps({"text": "hello", "id": "a-0"}))
                await heard(ada, name="Ada", text="hello", id="a-0", number=1)
                await heard(bea, name="Ada", text="hello", id="a-0", number=1)
                await ada.send(json.dumps({"text": "hello", "id": "a-0"}))
                await heard(ada, number=1)
                for nonsense in ("{", "[]", '{"text": 1, "id": 1}', b"\xff"):
                    await bea.send(nonsense)
                    await heard(bea, type="error")
            await heard(ada, type="people", names=["Ada"])
            async with chat.open("rooms/a?name=Bea") as bea:
                history = (await heard(bea, type="history"))["messages"]
                assert [m["text"] for m in history] == ["hello"]
                async with chat.runtime() as runtime:
                    pids = [host.pid for host in runtime.status()]
                for pid in pids:
                    await chat.kill(pid)
                await bea.send(json.dumps({"text": "still here", "id": "b-0"}))
                assert (await heard(ada, text="still here"))["number"] == 2


async def test_the_ticker_broadcasts_a_price_to_who_watches_it(tmp_path: Path) -> None:
    def put(url: str, price: str) -> Any:
        with urlopen(Request(url, price.encode(), method="PUT"), timeout=20) as answer:
            return json.load(answer)

    with started(EXAMPLES / "ticker", tmp_path / "data", 1) as server:
        ticker = Rooms(server.url, tmp_path / "data", tmp_path)
        assert "<title>Ticker on Roost</title>" in await ticker.get("")
        assert await asyncio.to_thread(put, f"{server.url}/ROOST", "42.10") == {"watching": 0}
        assert await ticker.get("ROOST") == "42.10"
        address = server.url.replace("http", "ws")
        async with (
            connect(f"{address}/?symbols=ROOST,OWL") as both,
            connect(f"{address}/?symbols=OWL") as owl,
        ):
            assert (await heard(both, symbol="ROOST"))["price"] == "42.10"
            assert await asyncio.to_thread(put, f"{server.url}/OWL", "7") == {"watching": 2}
            assert await heard(both, symbol="OWL", price="7")
            assert await heard(owl, price="7")
            assert await asyncio.to_thread(put, f"{server.url}/ROOST", "43") == {"watching": 1}
            await heard(both, symbol="ROOST", price="43")
