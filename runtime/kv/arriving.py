"""A value that arrives in pieces: held in memory while it is small, then in a file.

The sources are what scripts have at hand: bodies and other async iterables, iterators, and objects
with a `read`. Whatever ends a source before its end (an error in it, a cancelled caller, a value that
grows past the limit) leaves nothing behind, and the key as it was.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from runtime.kv.answers import CHUNK_BYTES
from runtime.kv.tiers import HELD_BYTES
from runtime.kv.validation import VALUE_BYTES, piece_bytes, too_long
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from runtime.kv.value_file import ValueFile


class Arriving:
    """The value so far; see the module's text."""

    file: ValueFile | None
    """Where the value is once it is large."""

    def __init__(self, new_file: Callable[[], ValueFile]) -> None:
        self.file = None
        self._new_file = new_file
        self._pieces: list[bytes] = []
        self._length = 0

    def add(self, piece: object) -> None:
        """Take the next piece: str or bytes. Raises TypeError for others, KVError past 25 MiB."""
        raw = piece_bytes(piece)
        self._length += len(raw)
        if self._length > VALUE_BYTES:
            raise too_long(self._length)
        self._pieces.append(raw)
        if self.file is None and self._length <= HELD_BYTES:
            return
        try:
            if self.file is None:
                self.file = self._new_file()
            for each in self._pieces:
                self.file.write(each)
        except OSError as cause:
            raise KVError(f"KV PUT failed: {cause}") from cause
        self._pieces.clear()

    def in_memory(self) -> bytes:
        """Return the value, or nothing if it is in a file."""
        return b"".join(self._pieces)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self.file is not None:
            self.file.discard()


def is_stream(value: object) -> bool:
    """Whether a value comes in pieces to code that blocks."""
    if isinstance(value, (str, bytes)):
        return False
    return hasattr(value, "read") or hasattr(type(value), "__next__")


def is_async_stream(value: object) -> bool:
    """Whether a value comes in pieces to code that can wait."""
    if isinstance(value, (str, bytes)):
        return False
    return is_stream(value) or hasattr(type(value), "__aiter__")


def arrive(value: Any, new_file: Callable[[], ValueFile]) -> Arriving:
    """Take in a stream to its end. Raises what the stream raises, and as `Arriving.add`."""
    arriving = Arriving(new_file)
    try:
        for piece in _pieces(value):
            arriving.add(piece)
    except BaseException:
        arriving.discard()
        raise
    return arriving


async def arrive_async(value: Any, new_file: Callable[[], ValueFile]) -> Arriving:
    """As `arrive`. A source that blocks blocks the caller's loop."""
    arriving = Arriving(new_file)
    pieces = _async_pieces(value)
    try:
        async for piece in pieces:
            arriving.add(piece)
    except BaseException:
        arriving.discard()
        raise
    finally:
        await pieces.aclose()
    return arriving


def _pieces(value: Any) -> Iterator[object]:
    if not hasattr(value, "read"):
        yield from value
        return
    while piece := value.read(CHUNK_BYTES):
        yield piece


async def _async_pieces(value: Any) -> AsyncGenerator[object, None]:
    if hasattr(value, "read"):
        while piece := await _now(value.read(CHUNK_BYTES)):
            yield piece
    elif hasattr(type(value), "__aiter__"):
        try:
            async for piece in value:
                yield piece
        finally:
            close = getattr(value, "aclose", None)
            if close is not None:
                await close()
    else:
        for piece in value:
            yield piece


async def _now(answer: Any) -> Any:
    return await answer if isawaitable(answer) else answer
