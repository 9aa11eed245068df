"""What storage calls return: awaitables of what has been done already.

As in the original, a call acts at once, also when nobody awaits it; awaiting it never waits. So
these are no coroutines, which would do nothing, and warn, without an await.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

__all__ = ["DONE", "Ready", "ready"]

T = TypeVar("T")


class _Done:
    """An awaitable of None: of an iterator at its end, which a C method hands out (0.03 µs, not 0.07)."""

    __slots__ = ()

    __await__ = staticmethod(iter(()).__iter__)


DONE: Final = cast("Awaitable[None]", _Done())


class Ready(Generic[T]):
    """An awaitable of a value."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, T]:
        yield from ()
        return self._value


async def ready(value: T) -> T:
    """Return the value: an awaitable as well, in half the time (0.14 µs), for what only reads."""
    return value
