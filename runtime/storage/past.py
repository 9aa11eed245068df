"""What an object's file was before: bookmarks, and going back to one.

Commits cost nothing more. Each time before the log is checkpointed, what it has is archived
(`archive`), so that no frame gets into the main file, and none is lost, unrecorded. A bookmark is a place in
the history: a segment, and a frame within it; that of the log at hand is the next one.

To go back, the pages of then are put together in a copy (`rebuild`) and brought in with SQLite's backup, as one
transaction: a commit like any other, whole or absent after a kill, and part of the history itself. It is
the first of its segment, so that the place before it can be named before it is known: `EVE`.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from re import compile as pattern
from typing import TYPE_CHECKING, Final

import apsw

from runtime.storage.archive import archive, frames_in_log, salts_of_log
from runtime.storage.history import Commit, History, Segment
from runtime.storage.rebuild import Place, put_together

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

__all__ = ["HISTORY", "RESTORING", "Past", "Place"]

HISTORY: Final = "-history"
RESTORING: Final = "-restoring"
"""What is added to the name of an object's file: its history, and the copy that a restore makes."""

DAY_MS: Final = 86_400_000

BUDGET_BYTES: Final = 64 << 20
BUDGET_TIMES: Final = 4
"""A history may be so large, or so many times its file, whichever is more; then the oldest goes."""

EVE: Final = 0xFFFFFFFF
"""Stands for a frame: the place is the one right before the next restore, which begins a later segment."""

ALL: Final = Place(1 << 32, 0)
"""A place after all that bookmarks can name."""

_TEXT: Final = pattern(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{32})").fullmatch


class Past:
    """The history of one object's file. Methods raise OSError, apsw.Error, and ValueError."""

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        days: int,
        fdatasync: Callable[[int], None],
        ordered: Callable[[], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ordered` tells which bookmark the object is to go back to: none that it needs may be dropped."""
        self._path = path
        self._connection = connection
        self._days = days
        self._ordered = ordered
        self._clock = clock
        self._history = History(Path(f"{path}{HISTORY}"), fdatasync)
        self._fdatasync = fdatasync
        self._times: dict[int, int] = {}
        """When each commit in the log was made, by its last frame."""
        self._marks: set[int] = set()
        """The frames of the log that bookmarks have."""
        self.frames = 0
        """How many the log has: as the last commit left it, 0 once it was brought in."""
        self._archived = 0
        """How many of them the newest segment has."""
        connection.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _name: str, frames: int) -> int:
        self.frames = frames
        self._times[frames] = int(self._clock() * 1000)
        return apsw.SQLITE_OK

    # --- recording -------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether there is no history of what the main file has. To be asked before `record`.

        It was copied alone, or kept none before; bookmarks that it gave mean nothing from then on.
        """
        # An empty database has one page, and a new one gets its tables by the log.
        if self._history.size:
            return False
        page_bytes: int = self._connection.execute("PRAGMA page_size").get
        return self._path.stat().st_size > page_bytes

    def brought_in(self) -> None:
        """Take note that the log begins anew."""
        self.frames = self._archived = 0

    def record(self) -> None:
        """Archive what the log has. To be called before each checkpoint; not within a transaction."""
        try:
            frames = frames_in_log(self._connection)
        except apsw.LockedError:  # a statement of the script is being read
            frames = self.frames
        if frames:
            log = f"{self._path}-wal"
            descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Else a power cut could leave a history of commits that are lost.
                self._fdatasync(descriptor)
                latest = os.fstat(descriptor).st_mtime_ns // 1_000_000
            finally:
                os.close(descriptor)
            main_bytes = self._path.stat().st_size
            times, marks = self._times, self._marks
            if archive(self._connection, self._history, frames, main_bytes, times, marks, latest):
                self._prune(main_bytes)
        self._archived = frames
        self._times.clear()
        self._marks.clear()

    def _prune(self, main_bytes: int) -> None:
        """Drop what is too old or too much, when that is half of the history.

        An order to go back is kept: what is after its bookmark stays.
        """
        size = self._history.size
        budget = max(BUDGET_BYTES, BUDGET_TIMES * main_bytes)
        since = int(self._clock() * 1000) - self._days * DAY_MS
        text = self._ordered()
        needed = None if text is None else int(text[:8], 16)
        keep = 0
        for segment, start in self._history.segments():
            is_needed = needed is not None and segment.number >= needed
            if not is_needed and (segment.ended < since or size - start > budget):
                break
            keep = start
        if keep * 2 > size:
            self._history.forget_before(keep)

    def copy_to(self, path: Path) -> Generator[float, None, None]:
        """Copy the history for a copy of the file, as of now, a piece at a time; see `History.copy_to`.

        To be called when the log was archived.
        """
        if self._history.size:
            yield from self._history.copy_to(Path(f"{path}{HISTORY}"))

    def end(self) -> None:
        """Forget everything that was before now. What the log has is not archived either."""
        last = self._history.last()
        frames = frames_in_log(self._connection)
        salts, page_bytes = salts_of_log(self._connection) if frames else (bytes(8), 4096)
        number = 1 if last is None else last.number + 1
        now = int(self._clock() * 1000)
        pages = self._connection.execute("PRAGMA page_count").get
        self._history.restart(
            Segment(number, salts, frames + 1, frames, now, now, page_bytes, pages)
        )
        self._archived = frames
        self._times.clear()
        self._marks.clear()

    @property
    def upcoming(self) -> int:
        """The number of the segment that the log will be."""
        last = self._history.last()
        return 1 if last is None else last.number + 1

    @property
    def oldest(self) -> int:
        """The number of the oldest segment that there is, or will be."""
        return min((found.number for found, _ in self._history.segments()), default=1)

    # --- bookmarks -------------------------------------------------------------------------------

    def now(self) -> Place:
        """Return the place after the last commit."""
        if 0 < self.frames == self._archived:  # the log may begin anew, and count from 1
            return Place(self.upcoming - 1, self.frames)
        self._marks.add(self.frames)
        return Place(self.upcoming, self.frames)

    def at(self, ms: int) -> Place:
        """Return the place after the last commit that was made up to a time. Raises ValueError."""
        if ms > self._clock() * 1000:
            raise ValueError("getBookmarkForTime() cannot look into the future")
        for frame, made in reversed(self._times.items()):
            if made <= ms:
                self._marks.add(frame)
                return Place(self.upcoming, frame)
        oldest = None
        for segment, start in self._history.segments():
            if segment.first > segment.last:  # what `end` leaves
                break
            oldest = segment.begun
            if segment.begun <= ms:
                frame = segment.first - 1  # the segment before, if its commits were not told apart
                for event in self._history.events(segment, start):
                    if isinstance(event, Commit) and event.time <= ms:
                        frame = event.frame
                return Place(segment.number, frame)
        if oldest is None and self._times:
            oldest = next(iter(self._times.values()))
        raise ValueError(
            "the history of this object does not go back to that time"
            + ("" if oldest is None else f": it begins at {oldest} (milliseconds since 1970)")
        )

    def eve(self) -> Place:
        """Return the place that there will be right before the next restore."""
        return Place(self.upcoming, EVE)

    def settled(self, place: Place, restores: Iterable[int]) -> Place:
        """Return which place it is. `restores` has the segments that begin with a restore, in order.

        An eve is, until there is a restore after it, the place after the last commit.
        """
        if place.frame != EVE:
            return place
        for number in restores:
            if number > place.segment:
                return Place(number, 0)
        return Place(self.upcoming, self.frames)

    def check(self, place: Place) -> None:
        """Raise ValueError for a place that is not in the history."""
        now = Place(self.upcoming, self.frames)
        if place > now:
            raise ValueError("this bookmark is not of this object's history: it lies in its future")
        if place.segment == now.segment:
            return
        for segment, _ in self._history.segments():
            if segment.number == place.segment and place.frame <= segment.last:
                empty = segment.first > segment.last  # what `end` leaves
                if place.frame == segment.last if empty else place > (1, 0):
                    return
                break
        raise ValueError(
            f"this bookmark is too old: the history of this object is kept for {self._days} days, "
            f"up to {BUDGET_BYTES >> 20} MiB or {BUDGET_TIMES} times its file, and ends with deleteAll()"
        )

    # --- going back ------------------------------------------------------------------------------

    def go_back(self, place: Place, amend: Callable[[apsw.Connection], None]) -> None:
        """Make the file what it was at a place, in one commit. `amend` changes the copy before.

        The log must be archived and checkpointed, and no transaction open. Raises ValueError, and
        changes nothing, when the history does not give a whole database.
        """
        self.check(place)
        if self.frames:
            raise apsw.BusyError("the log could not be brought in")
        copy_path = Path(f"{self._path}{RESTORING}")
        try:
            main_bytes = self._path.stat().st_size
            put_together(self._connection, main_bytes, self._history, place, copy_path)
            with closing(apsw.Connection(str(copy_path))) as copy:
                try:
                    copy.execute(
                        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF"
                    ).fetchall()
                    amend(copy)
                    found = copy.execute("PRAGMA integrity_check(1)").get
                except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
                    found = str(error)
                if found != "ok":
                    raise ValueError(f"its history is damaged: {found}")
                with self._connection.backup("main", copy, "main") as backup:
                    backup.step(-1)
        finally:
            with suppress(FileNotFoundError):
                copy_path.unlink()


def bookmark(raw: bytes, era: int, place: Place) -> str:
    """Return a place in the history of an object as text, ordered like the commits."""
    return f"{place.segment:08x}-{place.frame:08x}-{era:08x}-{_seal(raw, era, place)}"


def place_of(raw: bytes, eras: Mapping[int, Place], text: object) -> Place:
    """Return the place of a bookmark. Raises TypeError and ValueError when it is none of this object.

    `eras` has those of the object's file, each with the last place of it that is in the file's history.
    """
    if not isinstance(text, str):
        raise TypeError(f"a bookmark is a str, not {type(text).__name__}")
    match = _TEXT(text)
    if match is None:
        raise ValueError(f"{text!r} is no bookmark")
    place, era = Place(int(match[1], 16), int(match[2], 16)), int(match[3], 16)
    end = eras.get(era)
    if end is None or match[4] != _seal(raw, era, place):
        raise ValueError(
            "this bookmark is not of this object, or of a time before all of it was deleted"
        )
    if place > end:
        raise ValueError("this bookmark was given after the backup that this object comes from")
    return place


def ended(text: str) -> dict[int, Place]:
    """Return the eras that a text lists, each with its last place; see `and_ended`."""
    rows = ([int(part, 16) for part in row.split("-")] for row in text.split())
    return {era: Place(segment, frame) for segment, frame, era in rows}


def and_ended(text: str, era: int, end: Place) -> str:
    """Return a list of eras with one more, that has ended at a place."""
    return f"{text} {end.segment:08x}-{end.frame:08x}-{era:08x}".strip()


def _seal(raw: bytes, era: int, place: Place) -> str:
    return sha256(b"%b %d %d %d" % (raw, era, *place)).hexdigest()[:32]
