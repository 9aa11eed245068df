"""`watch`: every change of a namespace, as it is committed, to whoever iterates.

One thread of a process hears what is told of a namespace (`changes`), while somebody watches it, and
hands it on to the watches that it is for. A watch keeps so many changes for a reader who is slower; when
there are more, it forgets them all and says so with one change of the kind "missed".

The thread also sees to it that entries that expire do so in time while they are watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self
from weakref import WeakSet

from runtime.kv.changes import DELETE, EXPIRED, PUT, Changed, Subscription
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

KEPT: Final = 1024
"""How many changes a watch keeps for its reader."""

LOOK_SECONDS = 1.0
"""How often somebody who watches looks for what nobody tells: dead writers, and expired entries."""

_KINDS: Final[dict[int, Literal["put", "delete", "expired"]]] = {
    PUT: "put",
    DELETE: "delete",
    EXPIRED: "expired",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A committed change of a KV namespace. Who reads the key now finds this value or a later one."""

    kind: Literal["put", "delete", "expired", "missed"]
    """"missed": changes were lost, of any keys; what is read from now on includes them."""
    key: str | None
    """None if changes were missed."""
    expiration: float | None = None
    """When what was put will expire, in seconds since the epoch."""


MISSED: Final = Change("missed", None)


class _Watch:
    """What both faces are: the changes that wait for the reader."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._waiting: deque[Change] = deque()
        self.ended = False
        self._lock = threading.Lock()

    def offer(self, changes: Sequence[Changed], *, missed: bool) -> None:
        """Take what is for this watch; never waits."""
        prefix = self.prefix
        mine = [change for change in changes if change.key.startswith(prefix)]
        if not mine and not missed:
            return
        with self._lock:
            waiting = self._waiting
            if missed or len(waiting) + len(mine) > KEPT:
                waiting.clear()
                waiting.append(MISSED)
            # Of a commit larger than that, what is left out is covered by what was just said.
            waiting.extend(_shown(change) for change in mine[-KEPT:])
            self._wake()

    def close(self) -> None:
        """End the watch. Its iteration ends, also where it waits."""
        with self._lock:
            self.ended = True
            self._waiting.clear()
            self._wake()

    def _wake(self) -> None:
        """Wake the readers. Under the lock."""
        raise NotImplementedError

    def _next(self) -> Change | None:
        """Return the next change, None when there is none yet. Under the lock."""
        return self._waiting.popleft() if self._waiting else None


def _shown(change: Changed) -> Change:
    return Change(_KINDS[change.kind], change.key.decode("utf-8", "replace"), change.expires)


class Watch(_Watch):
    """The changes of a namespace for asyncio: `async for change in env.KV.watch("user:")`.

    It begins when it is made, and ends when nobody has it any more, with `close`, at the end of an
    `async with`, or with its process, which ends the iteration.
    """

    def __init__(self, prefix: bytes) -> None:
        super().__init__(prefix)
        self._loop = asyncio.get_running_loop()
        self._readers: list[asyncio.Future[None]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while True:
            with self._lock:
                change = self._next()
                if change is not None:
                    return change
                if self.ended:
                    raise StopAsyncIteration
                reader = self._loop.create_future()
                self._readers.append(reader)
            await reader

    def _wake(self) -> None:
        if self._readers:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(_resolve, self._readers)
            self._readers = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def aclose(self) -> None:
        """See `close`."""
        self.close()


def _resolve(readers: Sequence[asyncio.Future[None]]) -> None:
    for reader in readers:
        if not reader.done():
            reader.set_result(None)


class SyncWatch(_Watch):
    """The changes of a namespace for code that blocks: `for change in rt.env.KV.watch("user:")`.

    As `Watch`; `close` may be called from another thread.
    """

    def __init__(self, prefix: bytes) -> None:
        super().__init__(prefix)
        self._came = threading.Condition(self._lock)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        with self._lock:
            while (change := self._next()) is None:
                if self.ended:
                    raise StopIteration
                self._came.wait()
            return change

    def _wake(self) -> None:
        self._came.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watching:
    """All watches of a namespace in this process, and the thread that hears for them."""

    def __init__(
        self,
        directory: Path,
        words: memoryview,
        clock: Callable[[], float],
        first_expiry: Callable[[], float | None],
        tidy: Callable[[], None],
    ) -> None:
        """Prepare. `first_expiry` says when the first entry expires, `tidy` removes what has."""
        self._directory = directory
        self._words = words
        self._clock = clock
        self._first_expiry = first_expiry
        self._tidy = tidy
        self._lock = threading.Lock()
        self._watches: WeakSet[_Watch] = WeakSet()
        self._subscription: Subscription | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, watch: _Watch) -> None:
        """Begin a watch; one that begins after `end` has ended already. Raises OSError."""
        with self._lock:
            if self._closed:
                watch.close()
                return
            if self._subscription is None:
                self._subscription = Subscription(self._directory, self._words)
                self._thread = threading.Thread(
                    target=self._run,
                    args=(self._subscription,),
                    name=f"roost-kv-watch-{self._directory.name}",
                    daemon=True,
                )
                self._thread.start()
            self._watches.add(watch)

    def end(self) -> None:
        """End all watches, and those that begin from now on. Waits for nothing."""
        with self._lock:
            self._closed = True
            watches = list(self._watches)
            self._watches.clear()
            if self._subscription is not None:
                self._subscription.wake()
        for watch in watches:
            watch.close()

    def close(self) -> None:
        """End all watches, and wait for the end of the thread."""
        thread = self._thread
        self.end()
        if thread is not None:
            thread.join()

    # --- the thread ------------------------------------------------------------------------------

    def _run(self, subscription: Subscription) -> None:
        try:
            self._hear(subscription)
        except BaseException:
            with self._lock:
                watches = list(self._watches)
                self._end(subscription)
            for watch in watches:  # nobody waits for what will not come
                watch.close()
            raise

    def _end(self, subscription: Subscription) -> None:
        self._subscription = self._thread = None
        subscription.close()

    def _hear(self, subscription: Subscription) -> None:
        expiry = 0.0
        while True:
            if not subscription.wait(LOOK_SECONDS):
                subscription.look_for_the_dead()
            # In this order: whoever ends has said so before the wake that is heard here, and whoever
            # began before a change that is heard here gets it.
            changes, missed = subscription.hear()
            with self._lock:
                watches = [watch for watch in self._watches if not watch.ended]
                if not watches:
                    self._end(subscription)
                    return
            if changes or missed:
                for watch in watches:
                    watch.offer(changes, missed=missed)
                expiry = min([expiry, *(each.expires for each in changes if each.expires)])
            del watches  # whoever nobody else has ends here
            if expiry <= self._clock():
                expiry = self._expire()

    def _expire(self) -> float:
        """Remove what has expired, so that it is told; returns when the next entry will."""
        with contextlib.suppress(KVError):  # closed, or the disk: later, then
            first = self._first_expiry()
            if first is not None and first <= self._clock():
                self._tidy()
                first = self._first_expiry()
            return float("inf") if first is None else first
        return 0.0
