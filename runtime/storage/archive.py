"""From SQLite's write-ahead log to a history: which pages each commit changed, and how.

A page's version before a commit is the one before it in the log, else the main file's. So a log must be
archived before any of it is brought into the main file, and its owner sees to that. What was archived
already, before a kill or a checkpoint that failed, is known by the log's salts.

The log's format: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

import apsw

from runtime.storage.history import Change, Commit, Segment

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from runtime.storage.history import History

__all__ = ["archive", "frames_in_log", "salts_of_log"]

GRAIN_MS: Final = 100
"""How close to each other the commits are that the history does not tell apart."""

_MAIN: Final = 0
_LOG: Final = 1
_HEADER_BYTES: Final = 32
_PAGE_BYTES_AT: Final = 8
_SALTS: Final = slice(16, 24)
_FRAME: Final = Struct(">II16x")  # page, pages of the file after a commit (else 0)


def frames_in_log(connection: apsw.Connection) -> int:
    """Return how many frames of committed transactions the log has."""
    return max(0, connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])


def salts_of_log(connection: apsw.Connection) -> tuple[bytes, int]:
    """Return what names the log, and the size of a page."""
    header = connection.read("main", _LOG, 0, _HEADER_BYTES)[1]
    return header[_SALTS], int.from_bytes(header[_PAGE_BYTES_AT : _PAGE_BYTES_AT + 4], "big")


def archive(
    connection: apsw.Connection,
    history: History,
    frames: int,
    main_bytes: int,
    times: Mapping[int, int],
    marks: Container[int],
    latest: int,
) -> Segment | None:
    """Add a segment of all that the log has and the history has not; None if there is nothing.

    The log has so many frames, at least one, and must be durable. `times` has when the commits were made that end with a frame, in
    milliseconds. Of those within GRAIN_MS the last one is kept, and those that `marks` has, and the first
    of all, before which there was nothing to go back to. Of commits that `times` has not, each is kept,
    and it is known that they were made up to `latest`.
    """
    salts, page_bytes = salts_of_log(connection)
    last = history.last()
    done, pages = 0, main_bytes // page_bytes
    if last is not None and last.salts == salts:
        done, pages = last.last, last.pages  # what is in the main file may be newer
    if done >= frames:
        return None
    log = _Log(connection, page_bytes, main_bytes // page_bytes)
    heads = [log.head(frame) for frame in range(1, frames + 1)]
    ends = [frame for frame in range(done + 1, frames + 1) if heads[frame - 1][1]]
    kept = {
        frame
        for frame, following in zip(ends, [*ends[1:], 0], strict=True)
        if frame in marks
        or (last is None and frame == ends[0])
        or not following
        or frame not in times
        or following not in times
        or times[frame] // GRAIN_MS != times[following] // GRAIN_MS
    }
    segment = Segment(
        number=1 if last is None else last.number + 1,
        salts=salts,
        first=done + 1,
        last=frames,
        begun=times.get(ends[0], latest),
        ended=times.get(frames, latest),
        page_bytes=page_bytes,
        pages=heads[-1][1],
    )
    wanted = {frame: times.get(frame, latest) for frame in kept}
    return history.append(segment, log.events(heads, done, pages, wanted))


class _Log:
    """Reads the log's frames in their order, and of each page the version before."""

    def __init__(self, connection: apsw.Connection, page_bytes: int, main_pages: int) -> None:
        self._connection = connection
        self._page_bytes = page_bytes
        self._main_pages = main_pages
        self._newest: dict[int, int] = {}
        """The newest frame of each page, of those read so far."""

    def _offset(self, frame: int) -> int:
        return _HEADER_BYTES + (frame - 1) * (_FRAME.size + self._page_bytes)

    def head(self, frame: int) -> tuple[int, int]:
        """Return the page of a frame, and how many the file has if a commit ends here, else 0."""
        found = self._connection.read("main", _LOG, self._offset(frame), _FRAME.size)[1]
        page, pages = _FRAME.unpack(found)
        return page, pages

    def _content(self, frame: int) -> int:
        at = self._offset(frame) + _FRAME.size
        return int.from_bytes(self._connection.read("main", _LOG, at, self._page_bytes)[1], "big")

    def _newest_of(self, page: int) -> int:
        frame = self._newest.get(page)
        if frame is not None:
            return self._content(frame)
        if page > self._main_pages:
            return 0
        at = (page - 1) * self._page_bytes
        found = self._connection.read("main", _MAIN, at, self._page_bytes)[1]
        return int.from_bytes(found, "big")

    def _beyond(self, pages: int) -> Iterator[Change]:
        """Yield what there is behind the file's end, which the next checkpoint cuts off."""
        for page in range(pages + 1, max(self._main_pages, *self._newest, 0) + 1):
            delta = self._newest_of(page)
            if delta:
                yield Change(page, delta)

    def events(
        self, heads: Sequence[tuple[int, int]], done: int, pages: int, kept: Mapping[int, int]
    ) -> Iterator[Change | Commit]:
        """Yield the changes of the frames after `done`, when the file had so many pages.

        `kept` has the commits to tell apart, each with its time. A page that a commit cuts off stays as
        it is, and may be part of the file again without being written, up to the checkpoint. A segment
        has it cut off by its last commit, so that one that goes on with a log that was never
        checkpointed begins by bringing it back.
        """
        for frame, (page, _) in enumerate(heads[:done], 1):
            self._newest[page] = frame
        if done:
            yield from self._beyond(pages)
        changed: dict[int, int] = {}
        for frame, (page, after) in enumerate(heads[done:], done + 1):
            changed[page] = frame
            if frame not in kept:
                continue
            for page, newest in changed.items():  # noqa: PLW2901
                delta = self._newest_of(page) ^ self._content(newest)
                self._newest[page] = newest
                if delta:
                    yield Change(page, delta)
            changed.clear()
            if frame == len(heads):
                yield from self._beyond(after)
            yield Commit(frame, pages, kept[frame])
            pages = after
