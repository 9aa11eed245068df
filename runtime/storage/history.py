"""What an object's file was before: a list of segments, each what a stretch of commits changed.

A segment has, for each page that a commit wrote, the XOR of the page before and after. XOR undoes
itself: the pages of today and all that was changed since a moment give the pages of that moment, in
whatever order. So a history needs no copy of the file to begin with, its oldest segments may go at
any time, and a small change is a few bytes: the rest of its page is zeros, which zlib removes.

On disk a segment is head, changes, head again and a checksum of it, so that the list is read from its
end, and one that a kill cut off is found and cut away. This module knows bytes; `archive` fills it.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = ["NEW", "Change", "Commit", "History", "Segment", "write_at"]

NEW: Final = "-new"
"""What is added to the name of a history: the one that is about to take its place."""

_MAGIC: Final = b"RHI1"
_HEAD: Final = Struct("<4sQ8sIIQQIIQ")
_CHECK: Final = Struct("<I")
_TAIL_BYTES: Final = _HEAD.size + _CHECK.size
_CHANGE: Final = Struct("<II")  # page, bytes of its delta
_COMMIT: Final = Struct("<IIQ")  # stands for the delta of page 0

_CHUNK: Final = 1 << 18


class Segment(NamedTuple):
    """The head of a segment."""

    number: int
    """Of this segment; they are counted from 1."""
    salts: bytes
    """What SQLite calls the log that the commits were read from."""
    first: int
    last: int
    """The first and last frame of that log in the segment."""
    begun: int
    ended: int
    """When the first and the last commit were made, in milliseconds since 1970."""
    page_bytes: int
    pages: int
    """How many pages the file had after the last commit."""
    length: int = 0
    """Bytes of the changes, compressed."""


class Change(NamedTuple):
    """A page that a commit wrote."""

    page: int
    delta: int
    """The XOR of the page before and after, as a number."""


class Commit(NamedTuple):
    """The end of a commit; its changes come before it."""

    frame: int
    """The last frame of the log that it wrote: its place within the segment."""
    before: int
    """How many pages the file had before it."""
    time: int
    """When it was made, in milliseconds since 1970."""


class History:
    """The segments of one object's file. Every method raises OSError."""

    __slots__ = ("_last", "_path", "_sync")

    def __init__(self, path: Path, sync: Callable[[int], None] = os.fdatasync) -> None:
        self._path = path
        self._sync = sync
        self._last: Segment | None = None

    def last(self) -> Segment | None:
        """Return the newest segment, and cut away what a kill has left behind it."""
        if self._last is None:
            with suppress(FileNotFoundError):
                descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    end = os.fstat(descriptor).st_size
                    found = _segment_before(descriptor, end)
                    if found is None and end:
                        found, good = _search(descriptor)
                        os.ftruncate(descriptor, good)
                    self._last = found
                finally:
                    os.close(descriptor)
        return self._last

    def append(self, segment: Segment, events: Iterable[Change | Commit]) -> Segment:
        """Add a segment durably, with its length filled in."""
        self.last()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            start = os.fstat(descriptor).st_size
            at = start + _HEAD.size
            squeeze = zlib.compressobj(1)
            length = 0
            for piece in _pieces(events, squeeze):
                write_at(descriptor, piece, at + length)
                length += len(piece)
            whole = segment._replace(length=length)
            head = _HEAD.pack(_MAGIC, *whole)
            write_at(descriptor, head + _CHECK.pack(zlib.crc32(head)), at + length)
            write_at(descriptor, head, start)
            self._sync(descriptor)
            if not start:
                self._sync_name()
        except BaseException:
            with suppress(OSError):
                os.ftruncate(descriptor, start)
            raise
        finally:
            os.close(descriptor)
        self._last = whole
        return whole

    def segments(self) -> Iterator[tuple[Segment, int]]:
        """Yield the segments, the newest first, each with where it begins in the file."""
        with suppress(FileNotFoundError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                end = os.fstat(descriptor).st_size
                while (found := _segment_before(descriptor, end)) is not None:
                    end -= _TAIL_BYTES + found.length + _HEAD.size
                    yield found, end
            finally:
                os.close(descriptor)

    def events(self, segment: Segment, start: int) -> Iterator[Change | Commit]:
        """Yield what is in a segment, in its order. Raises ValueError when it is damaged."""
        with self._path.open("rb") as file:
            file.seek(start + _HEAD.size)
            expand = zlib.decompressobj()
            left = segment.length
            data = b""
            while not expand.eof or data:
                chunk = expand.unconsumed_tail
                if not chunk:
                    chunk = file.read(min(left, _CHUNK))
                    left -= len(chunk)
                try:
                    data += expand.decompress(chunk, _CHUNK)  # zeros shrink a thousandfold
                except zlib.error as error:
                    raise ValueError(f"segment {segment.number} is damaged: {error}") from error
                used = yield from _parse(data)
                if not used and not chunk:
                    raise ValueError(f"segment {segment.number} is cut off")
                data = data[used:]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def forget_before(self, start: int) -> None:
        """Drop all segments before the one that begins at `start`."""
        new = Path(f"{self._path}{NEW}")
        with self._path.open("rb") as old, open(new, "wb", opener=_private) as file:
            old.seek(start)
            while chunk := old.read(1 << 20):
                file.write(chunk)
            file.flush()
            self._sync(file.fileno())
        new.replace(self._path)
        self._sync_name()

    def copy_to(self, target: Path) -> Generator[float, None, None]:
        """Copy what there is now into a new file (mode 0600), a piece at a time.

        Between the pieces it yields how many seconds others may have; meanwhile any method may be called.
        """
        # What was added stays where it is, in a file that may lose its name.
        with self._path.open("rb") as old, open(target, "xb", opener=_private) as file:
            left = os.fstat(old.fileno()).st_size
            while left and (chunk := old.read(min(left, 1 << 20))):
                file.write(chunk)
                left -= len(chunk)
                yield 0.0

    def restart(self, segment: Segment) -> None:
        """Drop everything; segments are counted on after this one, which has no changes."""
        new = Path(f"{self._path}{NEW}")
        with suppress(FileNotFoundError):
            new.unlink()
        self._last = History(new, self._sync).append(segment, ())
        new.replace(self._path)
        self._sync_name()

    def _sync_name(self) -> None:
        # A history that a power cut takes, or puts an older one in the place of, would have a gap.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_at(descriptor: int, data: bytes, at: int) -> None:
    """Write all of data at a place of a file. Raises OSError, also when a disk that is full takes a part."""
    if os.pwrite(descriptor, data, at) < len(data):
        raise OSError(ENOSPC, "No space left on device")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _pieces(events: Iterable[Change | Commit], squeeze: zlib._Compress) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Change):
            delta = event.delta.to_bytes((event.delta.bit_length() + 7) // 8, "big")
            data = _CHANGE.pack(event.page, len(delta)) + delta
        else:
            data = _CHANGE.pack(0, _COMMIT.size) + _COMMIT.pack(*event)
        if piece := squeeze.compress(data):
            yield piece
    yield squeeze.flush()


def _parse(data: bytes) -> Generator[Change | Commit, None, int]:
    """Yield the whole events at the beginning of data; returns how many bytes they took."""
    at, end = 0, len(data)
    while at + _CHANGE.size <= end:
        page, length = _CHANGE.unpack_from(data, at)
        start = at + _CHANGE.size
        if start + length > end:
            break
        if page:
            yield Change(page, int.from_bytes(data[start : start + length], "big"))
        else:
            yield Commit(*_COMMIT.unpack_from(data, start))
        at = start + length
    return at


def _segment_before(descriptor: int, end: int) -> Segment | None:
    """Return the segment whose tail ends at a place, if that is one."""
    if end < _TAIL_BYTES + _HEAD.size:
        return None
    tail = os.pread(descriptor, _TAIL_BYTES, end - _TAIL_BYTES)
    if len(tail) < _TAIL_BYTES:
        return None
    head, (check,) = tail[: _HEAD.size], _CHECK.unpack_from(tail, _HEAD.size)
    if head[:4] != _MAGIC or zlib.crc32(head) != check:
        return None
    found = Segment(*_HEAD.unpack(head)[1:])
    start = end - _TAIL_BYTES - found.length - _HEAD.size
    return found if start >= 0 and os.pread(descriptor, _HEAD.size, start) == head else None


def _search(descriptor: int) -> tuple[Segment | None, int]:
    """Return the last whole segment, read from the beginning, and where it ends."""
    found, end = None, 0
    while len(head := os.pread(descriptor, _HEAD.size, end)) == _HEAD.size and head[:4] == _MAGIC:
        length = Segment(*_HEAD.unpack(head)[1:]).length
        following = _segment_before(descriptor, end + _HEAD.size + length + _TAIL_BYTES)
        if following is None:
            break
        found, end = following, end + _HEAD.size + length + _TAIL_BYTES
    return found, end
