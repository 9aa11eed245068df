"""The two ways in which programs keep many calls under way."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Call = Callable[[int], Awaitable[Any]]

IN_FLIGHT = 4_000
"""Calls under way at any time, when they are pipelined."""


async def window(methods: Sequence[Call], calls: int) -> None:
    """Call methods in turn, always with so many calls under way."""
    under_way: deque[Awaitable[Any]] = deque()
    for number in range(calls):
        if len(under_way) >= IN_FLIGHT:
            await under_way.popleft()
        under_way.append(asyncio.ensure_future(methods[number % len(methods)](1)))
    for call in under_way:
        await call


async def rounds(methods: Sequence[Call], calls: int) -> None:
    """Gather rounds of so many calls: what most programs do."""
    for first in range(0, calls, IN_FLIGHT):
        last = min(calls, first + IN_FLIGHT)
        await asyncio.gather(*(methods[n % len(methods)](1) for n in range(first, last)))
