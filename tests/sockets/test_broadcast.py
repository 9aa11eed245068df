"""One message to many: to whom, in what order, in how many messages, and when."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.host.gates import OutputGate
from runtime.host.voice import Voice
from runtime.wire import messages as m

from .conftest import soon

if TYPE_CHECKING:
    from .conftest import Rooms


async def test_a_broadcast_reaches_all_but_those_left_out(rooms: Rooms) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(rooms.open("broadcast")) for _ in range(20)]
        await clients[0].send("all news")
        assert [await soon(ws) for ws in clients] == ["news"] * 20
        await clients[0].send("others rest")
        assert await soon(clients[0]) == "19"
        assert [await soon(ws) for ws in clients[1:]] == ["rest"] * 19
        await clients[0].send("loop plain")
        assert [json.loads(await soon(ws)) for ws in clients] == [{"text": "plain"}] * 20


async def test_every_socket_gets_broadcasts_in_their_order(rooms: Rooms) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(rooms.open("order")) for _ in range(20)]
        await asyncio.gather(*(ws.send("count 50") for ws in clients[:4]))

        async def heard(ws: Any) -> list[str]:
            return [await soon(ws) for _ in range(200)]

        for found in await asyncio.gather(*map(heard, clients)):
            assert found == [str(number) for number in range(50)] * 4


class Wire:
    """Stands at the end of a host: a channel that remembers what was posted to it."""

    def __init__(self) -> None:
        self.out: list[Any] = []
        self.sent: list[Any] = []

    def post(self, message: Any) -> None:
        self.out.append(message)

    @property
    def last(self) -> Any:
        return self.out[-1] if self.out else None

    def flush(self) -> None:
        self.sent += [(kind, list(numbers), text) for kind, numbers, text in self.out]
        self.out = []


def test_a_loop_over_sockets_is_one_message_a_gateway() -> None:
    first, second, voice = Wire(), Wire(), Voice()
    for number in range(1000):
        voice.send(first, number, "same text")
    for number in range(1000):
        voice.send(second, number, "same text")
    first.flush()
    second.flush()
    assert first.sent == second.sent == [(m.SEND, list(range(1000)), "same text")]


def test_text_and_bytes_of_the_same_letters_are_two_messages() -> None:
    wire, voice = Wire(), Voice()
    voice.send(wire, 1, "")
    voice.send(wire, 2, b"")
    wire.flush()
    assert wire.sent == [(m.SEND, [1], ""), (m.SEND, [2], b"")]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 2), st.sampled_from("ab")),
        st.sampled_from([("wrote",), ("taken",), ("confirmed",), ("broken",)]),
        st.tuples(st.just("flush"), st.integers(0, 1)),
    ),
    max_size=60,
)


class Model:
    """What should be heard: text after text, by the write that it waits for."""

    def __init__(self) -> None:
        self.heard: dict[tuple[int, int], list[str]] = {}
        self.waiting: list[tuple[int, int, str]] = []  # for a commit that has not begun
        self.flying: list[tuple[int, int, str]] = []  # for the one that is under way
        self.wrote = self.under_way = False

    def send(self, wire: int, number: int, text: str) -> None:
        if self.wrote:
            self.waiting.append((wire, number, text))
        elif self.under_way:
            self.flying.append((wire, number, text))
        else:
            self.heard.setdefault((wire, number), []).append(text)

    def taken(self) -> None:
        self.flying, self.waiting = self.waiting, []
        self.wrote, self.under_way = False, True

    def confirmed(self) -> None:
        flying, self.flying, self.under_way = self.flying, [], False
        for wire, number, text in flying:
            self.heard.setdefault((wire, number), []).append(text)


def heard_at(wires: tuple[Wire, Wire]) -> dict[tuple[int, int], list[str]]:
    """What each socket of each gateway has heard in the end."""
    heard: dict[tuple[int, int], list[str]] = {}
    for index, wire in enumerate(wires):
        wire.flush()
        for _, numbers, text in wire.sent:
            for number in numbers:
                heard.setdefault((index, number), []).append(text)
    return heard


@given(STEPS)
def test_each_socket_hears_in_order_and_only_what_is_durable(steps: list[Any]) -> None:
    output: OutputGate[Any] = OutputGate()

    def say(said: Any) -> None:
        if output.open:
            said.leave()
        else:
            output.hold(said)

    wires, voice, model = (Wire(), Wire()), Voice(say, output), Model()
    for step, *facts in steps:
        if step == "send":
            wire, number, text = facts
            voice.send(wires[wire], number, text)
            model.send(wire, number, text)
        elif step == "wrote":
            output.wrote()
            model.wrote = True
        elif step == "taken" and model.wrote and not model.under_way:
            output.taken()
            model.taken()
        elif step == "confirmed" and model.under_way:
            for said in output.confirmed():
                said.leave()
            model.confirmed()
        elif step == "broken":
            for said in output.broken():
                said.fail(RuntimeError())
            break  # what is said from here on is a lost state's
        elif step == "flush":
            wires[facts[0]].flush()
    assert heard_at(wires) == model.heard
