"""An object's file as it was at a place in its history: a copy of today's pages, with the changes since undone.

A history may be far larger than memory, and so may one commit. So the copy is a file from the beginning: it
gets all of today's pages, and changes are gathered, and brought into it as soon as they are HELD_BYTES.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.storage.history import Commit, write_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import apsw

    from runtime.storage.history import Change, History, Segment

__all__ = ["Place", "put_together"]

HELD_BYTES: Final = 16 << 20
"""Of changes that are gathered, before they are brought into the copy."""

_CHUNK_BYTES: Final = 1 << 18
_VERSIONS: Final = 18, b"\1\1"
"""Where a database's first page asks for a log beside it, and what asks for none."""


class Place(NamedTuple):
    """A moment between two commits: after the one that ended with a frame of a segment."""

    segment: int
    frame: int


def put_together(
    connection: apsw.Connection, main_bytes: int, history: History, place: Place, target: Path
) -> None:
    """Write what a file was at a place into `target`, made anew (mode 0600), as a database that stands alone.

    The file's log must be brought in. What was written is not on disk yet, and has not been checked:
    damage to the history may go unseen. Raises OSError, apsw.Error, and ValueError for damage that is seen.
    """
    page_bytes: int = connection.execute("PRAGMA page_size").get
    most = max(1, HELD_BYTES // page_bytes)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for at in range(0, main_bytes, _CHUNK_BYTES):
            size = min(_CHUNK_BYTES, main_bytes - at)
            write_at(descriptor, connection.read("main", 0, at, size)[1], at)
        pages = main_bytes // page_bytes
        undo: dict[int, int] = {}
        for segment, start in history.segments():
            if segment.number < place.segment:
                break
            is_first = True
            for event in _since(history, segment, start, place):
                if not isinstance(event, Commit):
                    undo[event.page] = undo.get(event.page, 0) ^ event.delta
                    if len(undo) >= most:
                        _undo(descriptor, undo, page_bytes)
                elif is_first:  # of the oldest segment's, which comes last, it is what counts
                    pages, is_first = event.before, False
        _undo(descriptor, undo, page_bytes)
        os.ftruncate(descriptor, pages * page_bytes)
        at, value = _VERSIONS
        write_at(descriptor, value, at)
    finally:
        os.close(descriptor)


def _since(
    history: History, segment: Segment, start: int, place: Place
) -> Iterator[Change | Commit]:
    """Yield what is in a segment after a place."""
    before = 0
    if segment.number == place.segment:
        for number, event in enumerate(history.events(segment, start), 1):
            if isinstance(event, Commit):
                if event.frame > place.frame:
                    break
                before = number
    for number, event in enumerate(history.events(segment, start)):
        if number >= before:
            yield event


def _undo(descriptor: int, undo: dict[int, int], page_bytes: int) -> None:
    """Bring gathered changes into the copy, in the order of pages; a page that is not there is zeros."""
    for page in sorted(undo):
        at = (page - 1) * page_bytes
        now = os.pread(descriptor, page_bytes, at).ljust(page_bytes, b"\0")
        then = int.from_bytes(now, "big") ^ undo[page]
        try:
            write_at(descriptor, then.to_bytes(page_bytes, "big"), at)
        except OverflowError as error:
            raise ValueError(f"page {page} is larger in the history than in the file") from error
    undo.clear()
