"""The two gates of an activation, without any I/O.

The input gate decides what may start: while it is locked (the constructor, blockConcurrencyWhile)
no new event starts and no suspended event goes on, so the code inside sees the object alone.

The output gate decides what may leave: once the object has written, nothing it says leaves (a
result, a call to another object, a fetch, a KV write) until that write is durable. Otherwise
somebody could have seen a state that a crash then takes back. What waits leaves in the order in
which it was said.

A gate knows nothing of storage; it is told. Semantics: workerd's InputGate and OutputGate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class InputGate:
    """Locks nest; the gate is open again when the last is gone."""

    __slots__ = ("_broken", "_new_future", "_waiters", "locks")

    locks: int
    """How many critical sections are open."""

    def __init__(self, new_future: Callable[[], asyncio.Future[None]]) -> None:
        self.locks = 0
        self._broken = False
        self._new_future = new_future
        self._waiters: dict[asyncio.Future[None], None] = {}

    def lock(self) -> None:
        """Close the gate."""
        if not self._broken:
            self.locks += 1

    def unlock(self) -> None:
        """Open the gate, unless another lock holds it. What waited is woken in order."""
        if not self._broken:
            self.locks -= 1
            if self.locks == 0:
                self._wake()

    def broken(self) -> None:
        """Take note that the object was reset: the gate opens for good, so that all may end."""
        self.locks = 0
        self._broken = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Return a future of the gate's opening. Who wakes must look again: it may be locked."""
        waiter = self._new_future()
        self._waiters[waiter] = None
        return waiter


class OutputGate(Generic[T]):
    """Keeps what was said since the last durable write, in order."""

    __slots__ = ("_flying", "_next", "_unconfirmed", "open")

    open: bool
    """Whether nothing needs to wait: everything written is durable, or nobody waits for it."""

    def __init__(self) -> None:
        self.open = True
        self._next: list[T] | None = None  # waits for a commit that has not begun
        self._flying: list[T] | None = None  # waits for the commit that is under way
        self._unconfirmed = False  # something is written for which nothing waits, and not taken

    @property
    def settled(self) -> bool:
        """Whether everything written is durable."""
        return self.open and self._flying is None and not self._unconfirmed

    @property
    def flying(self) -> bool:
        """Whether a commit is under way."""
        return self._flying is not None

    def wrote(self) -> None:
        """Take note of a write: what is said from now on waits for it."""
        self.open = False
        if self._next is None:
            self._next = []

    def wrote_unconfirmed(self) -> None:
        """Take note of a write for which nothing waits."""
        self._unconfirmed = True

    def wait_for_all(self) -> None:
        """Have what is said from now on wait for all that is written."""
        if self._unconfirmed:
            self.wrote()
        elif self._flying is not None:
            self.open = False

    @property
    def last(self) -> T | None:
        """What was held last, if it still waits."""
        waiting = self._next if self._next is not None else self._flying
        return waiting[-1] if waiting else None

    def hold(self, said: T) -> None:
        """Keep something that was said. Only while the gate is not open."""
        waiting = self._next if self._next is not None else self._flying
        assert waiting is not None
        waiting.append(said)

    def taken(self) -> None:
        """Take note that the commit of all writes so far has begun. One is under way at a time."""
        assert self._flying is None
        self._flying = self._next if self._next is not None else []
        self._next = None
        self._unconfirmed = False

    def confirmed(self) -> list[T]:
        """Take note that the commit is durable; returns what may leave now."""
        leaving, self._flying = self._flying or [], None
        self.open = self._next is None
        return leaving

    def stop_flying(self) -> None:
        """Take note that the commit under way failed; what waited for it still waits."""
        self._next = [*(self._flying or ()), *(self._next or ())]
        self._flying = None

    def broken(self) -> list[T]:
        """Take note that writes are lost; returns all that must never leave.

        The gate stays closed: whoever says something after this is a remnant of the lost state.
        """
        lost = [*(self._flying or ()), *(self._next or ())]
        self._flying = self._next = None
        self.open = self._unconfirmed = False
        return lost
