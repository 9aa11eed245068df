"""The future of a call that was submitted from a plain program.

A `concurrent.futures.Future` has a condition, a lock and two lists, 13 objects: to make them takes 3 µs, and
the garbage collector, which goes through them again and again, 15 more where 100,000 calls are under way.
Nearly always nobody looks before the result is there. So this one has them from when somebody does; `wait()`,
`as_completed()` and asyncio find what they find in any other.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, FINISHED, LOGGER, PENDING, RUNNING
from threading import Condition
from typing import TYPE_CHECKING, Any

from runtime.wire.items import RemoteItems

if TYPE_CHECKING:
    from runtime.client.calls import Calls
    from runtime.wire.link import Link
    from runtime.wire.messages import Message


class Pending(Future[Any]):
    """The future of a submitted call: `result()`, `add_done_callback()`, `cancel()`."""

    call: int
    link: Link | None = None
    message: Message = ()
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _made: Condition | None = None
    """What the base class calls `_condition`; without it nobody waits for this, and nobody wants to hear."""

    def __init__(self, calls: Calls) -> None:  # not the base's, which makes it all
        self._calls = calls

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        with self._calls.lock:
            if self._made is None:
                self._waiters: list[Any] = []
                self._done_callbacks: list[Any] = []
                self._made = Condition(self._calls.lock)
            return self._made

    def done(self) -> bool:
        """Whether there is a result, or the wait was cancelled."""
        return self._state not in {PENDING, RUNNING}

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, when it is there; at most so many seconds later.

        Raises TimeoutError, CancelledError, or what the call raised.
        """
        if self._state == FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)

    def cancel(self) -> bool:
        """Cancel the wait, and the call if it can still be cancelled at its host."""
        calls = self._calls
        with self._condition:
            if self._state != PENDING:
                return self.cancelled()
            calls.under_way -= 1
            self._state = CANCELLED
            self._condition.notify_all()
            self.set_running_or_notify_cancel()  # for those that wait for several
        super()._invoke_callbacks()  # type: ignore[misc]
        calls.cancelled(self)
        return True

    def set_result(self, result: Any) -> None:
        """Take the result, unless another thread has just cancelled the wait.

        The items of a generator become an iterator that blocks.
        """
        calls = self._calls
        if type(result) is RemoteItems:
            result = calls.blocking(result)
        with calls.lock:
            if self._state != PENDING:
                return
            calls.under_way -= 1
            if self._made is None:
                self._result = result
                self._state = FINISHED
                return
            self._state = RUNNING  # so that nobody cancels it any more
        super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Take the error, unless another thread has just cancelled the wait."""
        calls = self._calls
        with calls.lock:
            if self._state != PENDING:
                return
            calls.under_way -= 1
            self._state = RUNNING
        super().set_exception(exception)

    def _invoke_callbacks(self) -> None:
        """Call the callbacks in the loop's thread, which sys.exit() in one of them must not end."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:
                LOGGER.exception("exception calling callback for %r", self)
