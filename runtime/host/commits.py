"""Group commit: one disk sync for all objects of a tick.

The loop writes the journal, or commits into a file's write-ahead log, which does not touch the disk; the
sync thread then makes that durable while the loop goes on, and only then do the output gates open. Writes that come
meanwhile gather for the next round, so that the busier a host is, the more commits share a sync.
Files are synced side by side, each by one thread. One round is under way at a time.

This is the thin shell around `storage.CommitGroup`, which decides what is committed and what failed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runtime.storage import CommitGroup
from workers.errors import ObjectReset

if TYPE_CHECKING:
    import asyncio

    from runtime.host.activation import Activation
    from runtime.storage import Journal, Round


SYNCS = 8
"""Files that are synced at once. A disk takes several in little more than the time of one: here 0.2 ms
a file one after the other, 0.07 ms eight at once. Beside the journal these are the files of slots with
more than puts and deletes, and of objects with SQL."""


class Commits:
    """See the module's text. Belongs to its host's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: Journal) -> None:
        self._loop = loop
        self._group = CommitGroup(journal)
        # No executor: its futures take two rounds through the loop, and a tenth of a round's work.
        self._rounds: SimpleQueue[Round | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._others = ThreadPoolExecutor(SYNCS - 1, thread_name_prefix="roost-sync")
        self._marked: dict[Activation, None] = {}
        self._flying: dict[Activation, None] = {}
        self._scheduled = False

    @property
    def idle(self) -> bool:
        """Whether everything written is durable."""
        return not (self._marked or self._flying)

    def mark(self, activation: Activation) -> None:
        """Take an activation that has written into the next round, at the end of this tick."""
        self._marked[activation] = None
        self._group.mark(activation.storage)
        if not self._scheduled and not self._flying:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def forget(self, activation: Activation) -> None:
        """Leave an activation out of the next round: what it wrote is void."""
        self._marked.pop(activation, None)

    def _start(self) -> None:
        self._scheduled = False
        self._flying, self._marked = self._marked, {}
        if not self._flying:
            return
        for activation in self._flying:
            activation.output.taken()
        under_way = self._group.start_round()
        if under_way.needs_sync:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._sync_rounds, name="roost-sync", daemon=True
                )
                self._thread.start()
            self._rounds.put(under_way)
        else:
            self._ended(under_way, None)

    def _sync_rounds(self) -> None:
        """Make one round after the other durable. The sync thread."""
        while (under_way := self._rounds.get()) is not None:
            died: BaseException | None = None
            try:
                self._sync(under_way)
            except BaseException as error:
                died = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._ended, under_way, died)

    def _sync(self, under_way: Round) -> None:
        """Make a round durable. On the sync thread, and on others beside it."""
        for parts in under_way.stages:
            shares = [parts[first::SYNCS] for first in range(min(SYNCS, len(parts)))]
            others = [self._others.submit(under_way.sync, share) for share in shares[1:]]
            if shares:
                under_way.sync(shares[0])
            for other in others:
                other.result()

    def _ended(self, under_way: Round, error: BaseException | None) -> None:
        failed = self._group.end_round(under_way, error)
        flying, self._flying = self._flying, {}
        for activation in flying:
            cause = failed.get(id(activation.storage)) if failed else None
            if cause is None:
                activation.confirmed()
            else:
                reset = ObjectReset(
                    f"{activation.class_name} {activation.id} was reset, because its writes could "
                    f"not be committed: {cause}"
                )
                reset.__cause__ = cause
                activation.commit_failed(reset)
        if self._marked and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def close(self) -> None:
        """End the sync threads, after their last sync."""
        if self._thread is not None:
            self._rounds.put(None)
            self._thread.join()
        self._others.shutdown()
