"""Which alarms of one slot are next: a heap over the first of them, and a file with all.

In memory are the alarms up to a border, a pair (due, object id); those beyond it are read, a page at
a time, when the ones before it have been taken. So a slot with any number of alarms costs a page of
memory and, at start, one look at an index. Plain synchronous code; the file is a function here.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AlarmHeap"]

Entry: TypeAlias = "tuple[int, bytes]"
"""(due, in milliseconds since 1970; object id)."""

PAGE: Final = 1000
"""How many alarms are read at a time."""

_START: Final = (-1, b"")


class AlarmHeap:
    """See the module's text. `load(after, limit)` gives the file's alarms beyond a border."""

    __slots__ = ("_beyond", "_border", "_due", "_heap", "_load", "_own", "_page")

    def __init__(self, load: Callable[[Entry, int], list[Entry]], *, page: int = PAGE) -> None:
        self._load = load
        self._page = page
        self._heap: list[Entry] = []
        self._due: dict[bytes, int] = {}  # of what is in the heap; others there are stale
        self._own: set[bytes] = set()  # taken, or set `anyway`: of these the file does not count
        self._border: Entry = _START
        self._beyond = True  # the file may have alarms beyond the border

    def __len__(self) -> int:
        return len(self._due)

    def set(self, object_id: bytes, due: int | None, *, anyway: bool = False) -> None:
        """Take note of an alarm that the file has, or (None) has no more.

        `anyway` keeps it in memory wherever the border is: what the file says of it is otherwise.
        """
        if anyway:
            self._own.add(object_id)
        else:
            self._own.discard(object_id)
        if due is None:
            self._due.pop(object_id, None)
            return
        if self._due.get(object_id) == due:
            return
        self._due.pop(object_id, None)
        entry = due, object_id
        if anyway or not self._beyond or entry <= self._border:
            self._due[object_id] = due
            heappush(self._heap, entry)
            if len(self._heap) > 4 * self._page:
                self._trim()

    def first(self) -> int | None:
        """Return when the next alarm is due, or None when there is none."""
        while True:
            while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                heappop(self._heap)
            # What was set `anyway` may lie behind alarms that were not yet read.
            if self._heap and (not self._beyond or self._heap[0] <= self._border):
                return self._heap[0][0]
            if not self._beyond:
                return None
            self._read()

    def pop(self, now: int) -> bytes | None:
        """Take out and return the object whose alarm is next, if it is due.

        It is not returned again before it was set again, whatever the file says.
        """
        due = self.first()
        if due is None or due > now:
            return None
        _, object_id = heappop(self._heap)
        del self._due[object_id]
        self._own.add(object_id)
        return object_id

    def _read(self) -> None:
        entries = self._load(self._border, self._page)
        self._beyond = len(entries) == self._page
        if entries:
            self._border = entries[-1]
        for due, object_id in entries:
            if object_id not in self._due and object_id not in self._own:
                self._due[object_id] = due
                heappush(self._heap, (due, object_id))

    def _trim(self) -> None:
        """Leave the last alarms to the file, when too many were set before the border."""
        alive = sorted({entry for entry in self._heap if self._due.get(entry[1]) == entry[0]})
        self._heap = alive
        in_file = [entry for entry in alive if entry[1] not in self._own]
        if len(in_file) > 2 * self._page:
            self._border = in_file[self._page - 1]
            self._heap = [
                entry for entry in alive if entry <= self._border or entry[1] in self._own
            ]
            self._due = {object_id: due for due, object_id in self._heap}
            self._beyond = True
