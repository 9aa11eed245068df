"""The items of a generator as a stream of bytes, and back.

A method that returns a generator streams its items to its caller, who holds it back by reading slowly
and ends it by closing. Items travel in pieces: as many as the generator gives without waiting, at most
2 ms long, so that an item never waits for the next one, and many cheap ones share a message. A piece is
one or more times a length (8 bytes) and the pickle of a list; the stream below may cut it anywhere.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import deque
from contextlib import suppress
from sys import getsizeof
from types import AsyncGeneratorType, GeneratorType, coroutine
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

from runtime.wire.codec import PLAIN, pack_each
from workers.errors import HostLost, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable

    from runtime.wire.streams import Inflow

GENERATORS = frozenset({GeneratorType, AsyncGeneratorType})
"""What a method may return to stream its items."""

Items: TypeAlias = "GeneratorType[Any, None, Any] | AsyncGeneratorType[Any, None]"

PIECE_NS = 2_000_000
PIECE_ITEMS = 1024
PIECE_BYTES = 256 * 1024
"""When a piece is full: by time, number, and about the bytes of its items."""

_LENGTH_BYTES = 8


async def pieces(items: Items) -> AsyncIterator[bytes]:
    """Yield the pieces of a generator; closes it at the end. Raises what it raises."""
    batch = _Batch()
    began = time.monotonic_ns()
    clock = time.monotonic_ns
    waits = isinstance(items, AsyncGeneratorType)
    try:
        while True:
            try:
                if waits:
                    step = items.__anext__().__await__()  # type: ignore[union-attr]
                    try:
                        waiting = step.send(None)
                    except StopIteration as stop:
                        item = stop.value
                    else:
                        if batch.count:
                            try:
                                yield batch.take()
                            except BaseException:  # closed, while the generator waits
                                with suppress(asyncio.CancelledError, StopAsyncIteration):
                                    await _give_up(step, waiting)
                                raise
                        item = await _go_on(step, waiting)
                        began = clock()
                else:
                    item = next(items)  # type: ignore[arg-type]
            except (StopIteration, StopAsyncIteration):
                break
            batch.add(item)
            if batch.count == PIECE_ITEMS or batch.size > PIECE_BYTES or clock() - began > PIECE_NS:
                yield batch.take()
                await asyncio.sleep(0)  # others get their turn
                began = clock()
        if batch.count:
            yield batch.take()
    except Exception:
        if batch.count:  # what was given before the failure arrives before it
            yield batch.take()
        raise
    finally:
        if waits:
            await items.aclose()  # type: ignore[union-attr]
        else:
            items.close()  # type: ignore[union-attr]


@coroutine
def _go_on(step: Generator[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    """Wait for a step that has begun to wait; returns its item."""
    if getattr(waiting, "_asyncio_future_blocking", None) is False:
        waiting._asyncio_future_blocking = True  # noqa: SLF001  (handed on as if it began here)
    return (yield from _follow(step, waiting))


@coroutine
def _give_up(step: Generator[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    """End a step that has begun to wait, as if its task was cancelled."""
    if hasattr(waiting, "cancel"):
        waiting._asyncio_future_blocking = False  # noqa: SLF001
        waiting.cancel()
    try:
        waiting = step.throw(asyncio.CancelledError())
    except StopIteration as stop:
        return stop.value
    return (yield from _follow(step, waiting))


def _follow(step: Generator[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            sent = yield waiting
        except BaseException as thrown:
            error = thrown
            try:
                waiting = step.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                waiting = step.send(sent)
            except StopIteration as stop:
                return stop.value


class _Batch:
    """The items that have gathered, as they were when they were given."""

    __slots__ = ("_done", "_plain", "count", "size")

    def __init__(self) -> None:
        self._plain: list[Any] = []
        self._done: list[bytes] = []
        self.count = self.size = 0

    def add(self, item: Any) -> None:
        """Add an item. Raises TypeError, naming its type, when it cannot be sent."""
        kept = _still(item)
        if kept is not None or item is None:
            self._plain.append(kept)
            self.size += getsizeof(kept)
        else:
            data = pack_each([item], in_band=True)[0]
            self._end_plain()
            self._done.append(_piece(data))
            self.size += len(data)
        self.count += 1

    def take(self) -> bytes:
        """Return what has gathered, and begin anew."""
        self._end_plain()
        data = b"".join(self._done)
        self._done.clear()
        self.count = self.size = 0
        return data

    def _end_plain(self) -> None:
        if self._plain:
            self._done.append(_piece(pickle.dumps(self._plain, 5)))
            self._plain.clear()


def _still(item: Any) -> Any:
    """Return a simple item as it is now, since the generator may change it when it goes on; or None.

    To pickle each alone takes 5 µs more.
    """
    kind = type(item)
    if kind in PLAIN:
        return item
    if kind is dict:
        simple = PLAIN.issuperset(map(type, item)) and PLAIN.issuperset(map(type, item.values()))
        return item.copy() if simple else None
    if kind in {tuple, list} and PLAIN.issuperset(map(type, item)):
        return item[:]
    return None


def _piece(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


class Pieces:
    """Puts pieces together again from the chunks of a stream."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterable[Any]:
        """Take a chunk; returns the items that are complete with it."""
        buffer = self._buffer
        buffer += chunk
        items: list[Any] = []
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(buffer[at : at + _LENGTH_BYTES], "little")
            if end > len(buffer):
                break
            with memoryview(buffer) as view:
                items += pickle.loads(view[at + _LENGTH_BYTES : end])
            at = end
        del buffer[:at]
        return items


class RemoteItems:
    """The items of a remote generator: an asynchronous iterator.

    To end the generator early, close the iterator or drop it. Raises what the generator raised,
    after the items before it; HostLost when its host died.
    """

    __slots__ = ("_inflow", "_items", "_object_id", "_pieces")

    def __init__(self, inflow: Inflow, object_id: str | None = None) -> None:
        self._object_id = object_id
        self._inflow = inflow
        self._pieces = Pieces()
        self._items: deque[Any] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            try:
                chunk = await anext(self._inflow)
            except (HostLost, RuntimeClosed) as error:
                if error.durable_object_id is not None:
                    raise
                raise type(error)(str(error), durable_object_id=self._object_id) from None
            self._items.extend(self._pieces.feed(chunk))
        return self._items.popleft()

    def take(self) -> list[Any]:
        """Return the items that have arrived, without waiting for more."""
        items = [*self._items]
        self._items.clear()
        return items

    def close(self) -> None:
        """Say that no more is wanted; the generator is closed. Safe to call at any time."""
        self._items.clear()
        self._inflow.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("the items of a generator stay where they are; read them, or yield them on")

    async def aclose(self) -> None:
        """Close, as asynchronous code does it."""
        self.close()
