"""Group commit: the one thread of a process that writes to a namespace.

Writes gather while a commit is under way and go together in the next, so that the more there are,
the more share one sync of the disk. A write is answered when the transaction with it is durable, or
when it failed; a failure takes nothing back that was answered before. Writes to one key take effect
in the order of their submission: only the last of a batch is written, the others are as if they had
been overwritten at once.

One thread for each namespace, so that a namespace whose lock another process holds delays no other.
It starts at the first write, never earlier: a process that only reads, or is about to fork, has none.
While nothing is to be written it tidies the namespace, in steps so small that no write waits for long.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from runtime.kv.changes import DELETE, EXPIRED, PUT, Changed
from runtime.kv.tiers import Staged
from workers.errors import KVError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runtime.kv.changes import Publisher
    from runtime.kv.tiers import DurableTier, ReadTier

BATCH_WRITES = 1024
BATCH_BYTES = 16 * 1024 * 1024
"""What one commit takes at most (one write may exceed the bytes), so that the other processes that
write to the namespace wait for milliseconds only."""

TIDY_SECONDS = 30.0
"""How long a tidy namespace is left alone."""


@dataclass(slots=True, eq=False)
class Write(Staged):
    """A write on its way, and who waits for it."""

    future: asyncio.Future[None] | Future[None] = field(kw_only=True)
    loop: asyncio.AbstractEventLoop | None = field(default=None, kw_only=True)
    """The loop of an asyncio future."""

    @property
    def size(self) -> int:
        """How much of `BATCH_BYTES` the write takes."""
        if self.file is not None:
            return self.file.size
        return len(self.entry.value) if self.entry is not None else 0

    def drop(self) -> None:
        """Leave nothing of a write that will not be made."""
        if self.file is not None:
            self.file.discard()


class _Barrier:
    """Stands in the queue behind all writes submitted before it."""

    def __init__(self, *, last: bool, tidy: bool) -> None:
        self.reached: Future[None] = Future()
        self.last = last
        self.tidy = tidy


class Committer:
    """The writer thread of one namespace; see the module's text."""

    def __init__(
        self,
        durable: DurableTier,
        clock: Callable[[], float],
        tier: ReadTier,
        publisher: Publisher,
        name: str,
    ) -> None:
        self._durable = durable
        self._clock = clock
        self._tier = tier
        self._publisher = publisher
        self._name = name
        self._queue: SimpleQueue[Write | _Barrier] = SimpleQueue()
        self._submitting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._untidy = True

    def submit(self, *writes: Write) -> None:
        """Put writes in line. Raises KVError after `close`."""
        with self._submitting:
            if self._closed:
                for write in writes:
                    write.drop()
                raise KVError(f"the KV namespace {self._name} is closed")
            self._start()
            for write in writes:
                self._queue.put(write)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"roost-kv-{self._name}", daemon=True
            )
            self._thread.start()

    def drain(self) -> None:
        """Block until every write submitted so far is answered."""
        self._wait()

    def tidy(self) -> None:
        """Block until nothing expired is left on disk, and nothing that a crash left behind.

        Raises what the disk raises, KVError after `close`.
        """
        with self._submitting:
            if self._closed:
                raise KVError(f"the KV namespace {self._name} is closed")
            self._start()
        self._wait(tidy=True)

    def close(self) -> None:
        """Block until every write is answered, and end the thread. No write is accepted any more."""
        self._wait(last=True)
        if self._thread is not None:
            self._thread.join()

    def _wait(self, *, last: bool = False, tidy: bool = False) -> None:
        barrier = _Barrier(last=last, tidy=tidy)
        with self._submitting:
            if self._closed or self._thread is None:
                self._closed = self._closed or last
                return
            self._closed = last
            self._queue.put(barrier)
        barrier.reached.result()

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch, barrier = self._gather()
            if batch:
                self._write(batch)
            del batch  # values may be large, and the next write may be long in coming
            if barrier is not None:
                self._reach(barrier)
                if barrier.last:
                    return

    def _reach(self, barrier: _Barrier) -> None:
        try:
            while barrier.tidy and self._tidy():
                pass
            if barrier.last:
                self._durable.close_writer()
        except BaseException as error:
            barrier.reached.set_exception(error)
        else:
            barrier.reached.set_result(None)

    def _gather(self) -> tuple[list[Write], _Barrier | None]:
        """Wait for a write, and take with it what stands in line behind it."""
        batch: list[Write] = []
        room = BATCH_BYTES
        item = self._next()
        while not isinstance(item, _Barrier):
            batch.append(item)
            room -= item.size
            if len(batch) == BATCH_WRITES or room <= 0:
                return batch, None
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, None
        return batch, item

    def _next(self) -> Write | _Barrier:
        """Wait for what is to be done next, and tidy meanwhile."""
        wait = 0.0 if self._untidy else TIDY_SECONDS
        while True:
            try:
                return self._queue.get(timeout=wait)
            except Empty:
                self._untidy = False
                with contextlib.suppress(sqlite3.Error, OSError):  # later, then
                    self._untidy = self._tidy()
                wait = 0.0 if self._untidy else TIDY_SECONDS

    def _tidy(self) -> bool:
        """Do a bounded piece of housekeeping; whether there is more."""
        now = self._clock()
        first = self._durable.first_expiry()
        if first is None or first > now:
            return self._durable.tidy()
        with self._durable.lock():
            self._publisher.begin()
            expired = self._durable.expire(now)
            self._publisher.tell(Changed(EXPIRED, key) for key in expired)
        return True

    def _write(self, batch: Sequence[Write]) -> None:
        """Commit a batch and answer its writes."""
        failures: dict[Write, BaseException] = {}
        staged: dict[bytes, Staged] = {}
        stage = self._durable.stage
        for write in batch:
            try:
                stage(write)
            except BaseException as error:
                failures[write] = error  # an earlier write of the batch to this key still stands
            else:
                overwritten = staged.get(write.key)
                if overwritten is not None:
                    self._durable.unstage(overwritten)
                staged[write.key] = write
        if staged:
            try:
                self._commit(staged)
            except BaseException as error:
                failures = dict.fromkeys(batch, error) | failures
        _answer(batch, failures)

    def _commit(self, staged: dict[bytes, Staged]) -> None:
        writes = staged.values()
        with self._durable.lock():
            self._publisher.begin()
            self._tier.hold(staged.keys())
            expired = self._durable.commit(writes, self._clock())
            self._tier.settle(writes)
            self._publisher.tell(_changes(writes, expired))


def _changes(writes: Iterable[Staged], expired: list[bytes]) -> Iterator[Changed]:
    for staged in writes:
        if staged.entry is None:
            yield Changed(DELETE, staged.key)
        else:
            yield Changed(PUT, staged.key, staged.entry.expires)
    for key in expired:
        yield Changed(EXPIRED, key)


def _answer(batch: Sequence[Write], failures: dict[Write, BaseException]) -> None:
    """Tell all who wait; each event loop is woken once."""
    waiting: dict[asyncio.AbstractEventLoop | None, list[Write]] = {}
    for write in batch:
        waiting.setdefault(write.loop, []).append(write)
    for loop, writes in waiting.items():
        if loop is None:
            _resolve(writes, failures)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, writes, failures)


def _resolve(writes: Sequence[Write], failures: dict[Write, BaseException]) -> None:
    for write in writes:
        if write.future.done():  # cancelled: whether the write happened is not told
            continue
        cause = failures.get(write) if failures else None
        if cause is None:
            write.future.set_result(None)
        else:
            operation = "PUT" if write.entry is not None else "DELETE"
            error = KVError(f"KV {operation} failed: {cause}")
            error.__cause__ = cause
            write.future.set_exception(error)
