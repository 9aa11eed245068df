"""Concurrent HTTP clients, each with a connection of its own, that visit rooms.

A client asks, waits for the answer, and goes to the next room. A request that got no answer (the
connection broke, or a status of 500 and above) is noted and made again: as with any network, its
client cannot know whether the visit was counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PATIENCE: Final = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a room answered to one visit."""

    room: str
    id: str
    instance: str
    """Of the object that answered; a new one with every activation."""
    pid: int
    visits: int
    theme: str | None
    at: float
    """When it came, in seconds of the monotonic clock."""
    seconds: float
    """How long it took."""


@dataclass(slots=True)
class Round:
    """All visits of all clients."""

    answers: list[Answer] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by room."""
    seconds: float = 0.0


async def visit(
    url: str,
    rooms: Sequence[str],
    clients: int,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Round:
    """Have every client visit every room once, each in an order of its own.

    `on_answer` is called with the number of answers so far.
    """
    round_ = Round()

    async def client(number: int) -> None:
        own = random.Random(number).sample(rooms, len(rooms))
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
            for room in own:
                round_.answers.append(await _answer(session, url, room, round_.failed))
                on_answer(len(round_.answers))

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    round_.seconds = time.monotonic() - began
    return round_


async def _answer(
    session: aiohttp.ClientSession, url: str, room: str, failed: Counter[str]
) -> Answer:
    """Visit a room, again if need be, until it answers."""
    while True:
        began = time.monotonic()
        try:
            async with session.get(url, params={"roomId": room}) as response:
                if response.status < 500:
                    response.raise_for_status()
                    told = await response.json()
                    at = time.monotonic()
                    return Answer(at=at, seconds=at - began, **told)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            pass
        failed[room] += 1


async def refusal(url: str) -> tuple[int, str]:
    """Ask for no room; return the status and the text of the answer."""
    async with aiohttp.ClientSession(timeout=_PATIENCE) as session, session.get(url) as response:
        return response.status, await response.text()
