"""Transactions: writes that are kept together or undone together, within a turn or across waits.

A transaction is a savepoint of the write set and of the object's SQL. A synchronous one is over
before anything else happens. An asynchronous one runs alone (`alone` keeps the object's input gate
closed) and begins when everything written before was taken for commit; until it ends, nothing is
told to the engine, so that no commit has a part of it and nothing it says waits for itself.

The input gate holds events, not the Tasks that the object's code has made, nor `waitUntil()`. So what
runs outside of an open transaction waits for its end with each use of storage: what it wrote would be
undone with the transaction, and yet be acknowledged.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.storage.object_storage import ObjectStorage

__all__ = ["Alone", "Depth", "Transaction", "nowhere", "run_transaction", "run_transaction_sync"]

T = TypeVar("T")


class Alone(Protocol):
    """Runs an async function while no other event of the object starts or goes on.

    After earlier ones that have not ended, unless one of these made the call.
    """

    def __call__(self, body: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """Run it, after the current turn; what it raises is the caller's."""


class Depth(Protocol):
    """Tells how deep in critical sections the running code is: what `alone` runs is one deeper."""

    def __call__(self) -> int:
        """Return 0 for code in none that is open."""


_METHODS: Final = frozenset(
    {
        "get",
        "put",
        "delete",
        "list",
        "getAlarm",
        "get_alarm",
        "setAlarm",
        "set_alarm",
        "deleteAlarm",
        "delete_alarm",
    }
)


def nowhere(_body: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    """Refuse: this storage belongs to no activation."""
    raise RuntimeError("asynchronous transactions need an activation to run in")


class Transaction:
    """The `txn` of `transaction(closure)`: the object's storage, until the closure ends."""

    __slots__ = ("_level", "_state", "_storage")

    def __init__(self, storage: ObjectStorage) -> None:
        """Begin it: open a savepoint."""
        storage.savepoint()
        self._storage = storage
        self._level = storage.savepoints
        self._state = "open"

    @property
    def has_nested(self) -> bool:
        """Whether one within it runs, so that the newest savepoint is not its own."""
        return self._state == "open" and self._storage.savepoints > self._level

    def rollback(self) -> None:
        """Undo what was written since the transaction began; only the closure's end may follow.

        Raises RuntimeError while a transaction within it runs.
        """
        self._check("rollback")
        if self.has_nested:
            raise RuntimeError(
                "Cannot roll back an outer transaction while a nested transaction is still running."
            )
        self._state = "rolled back"
        self._storage.end_savepoint(keep=False)

    def end(self, *, keep: bool) -> None:
        """Keep or undo what was written, unless that was done."""
        if self._state == "open":
            self._storage.end_savepoint(keep=keep)
        self._state = "ended"

    def deleteAll(self, *_: Any, **__: Any) -> None:
        """Refuse: RuntimeError."""
        raise RuntimeError("Cannot call deleteAll() within a transaction")

    delete_all = deleteAll

    def _check(self, method: str) -> None:
        if self._state == "rolled back":
            raise RuntimeError(f"Cannot {method}() on rolled back transaction")
        if self._state == "ended":
            raise RuntimeError(
                f"Cannot call {method}() on transaction that has already committed: did you move "
                "`txn` outside of the closure?"
            )

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise AttributeError(
                f"a transaction has no {name}; it has get, put, delete, list, getAlarm, setAlarm, "
                "deleteAlarm and rollback"
            )
        self._check(name)
        return getattr(self._storage, name)


def run_transaction(
    storage: ObjectStorage, closure: Callable[[Transaction], Awaitable[T] | T], alone: Alone
) -> Awaitable[T]:
    """Run a closure as a transaction, within the one that calls it if one does."""
    storage.check()

    async def body() -> T:
        if not storage.transactions:
            await storage.taken()
        storage.check()
        transaction = Transaction(storage)
        storage.transactions += 1
        around, storage.innermost = storage.innermost, storage.depth()
        keep = False
        try:
            try:
                result = closure(transaction)
                if isawaitable(result):
                    result = await result
            finally:
                while transaction.has_nested:  # and nobody awaits it
                    await alone(_nothing)
            keep = True
        finally:
            transaction.end(keep=keep)
            storage.transactions -= 1
            storage.innermost = around
            if not storage.transactions and not storage.has_failed:
                storage.announce()
        return result

    return alone(body)


async def _nothing() -> None:
    """Stand for what runs when all before it has ended."""


def run_transaction_sync(storage: ObjectStorage, closure: Callable[[], T]) -> T:
    """Run a closure between a savepoint and its end."""
    storage.refuse_outside()
    storage.savepoint()
    keep = False
    try:
        result = closure()
        keep = True
    finally:
        storage.end_savepoint(keep=keep)
    return result
