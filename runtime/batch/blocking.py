"""A map of a plain program: an iterator, that reads and sends whenever a result is asked for.

Answers arrive in the client's background thread, which only puts them into a queue; everything
else happens in the thread that iterates.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

from runtime.batch.pump import NOTHING
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.batch.checkpoint import Checkpoint
    from runtime.batch.job import Job
    from runtime.batch.place import Carries
    from runtime.batch.pump import Flight, Tally
    from runtime.wire.link import Link

SERVE: Final = 64
"""Results yielded before hosts get new work."""


class _Waiter:
    """Waits for the answer of one run. A Future is 13 objects, and takes 10 µs more in all."""

    __slots__ = (
        "_answers",
        "_calls",
        "call",
        "error",
        "flight",
        "link",
        "message",
        "over",
        "reply",
    )

    def __init__(self, flight: Flight, answers: SimpleQueue[_Waiter], calls: Carries) -> None:
        self.flight = flight
        self.call = 0
        self.link: Link | None = None
        self.message: tuple[Any, ...] = ()
        self.over = False
        self.reply: Any = None
        self.error: BaseException | None = None
        self._answers = answers
        self._calls = calls

    def done(self) -> bool:
        """Whether the wait is over, one way or another."""
        return self.over

    def set_result(self, result: Any) -> None:
        """Take the answer. In the client's thread, as is `set_exception`."""
        if self._calls.carried(self):
            self.reply = result
            self._answers.put(self)

    def set_exception(self, exception: BaseException) -> None:
        """Take the failure of the whole run."""
        if self._calls.carried(self):
            self.error = exception
            self._answers.put(self)

    def cancel(self) -> None:
        """End the wait, and the run if it can still be cancelled at its host."""
        if self._calls.carried(self):
            self._calls.cancelled(self)


class Results(Iterator[Any]):
    """The results of a map, as they come: (key, result). One thread at a time may iterate.

    Close it, leave its `with` block, or simply drop it, to stop the map: what was not sent is not
    sent, what is under way is cancelled, and the checkpoint is saved.
    """

    def __init__(self, job: Job, calls: Carries) -> None:
        if isinstance(job.items, AsyncIterable):
            job.close()
            raise TypeError(
                "an asynchronous iterable of items needs a loop: use AsyncRuntime, or aconnect()"
            )
        self._job = job
        self._pump = job.pump
        self._calls = calls
        self._answers: SimpleQueue[_Waiter] = SimpleQueue()
        self._under_way: set[_Waiter] = set()
        self._yielded = 0
        job.maps.add(self)

    @property
    def tally(self) -> Tally:
        """How the map stands, in numbers."""
        return self._pump.tally

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The map's checkpoint, if it has one."""
        return self._job.checkpoint

    @property
    def at_hand(self) -> bool:
        """Whether the next result is there already."""
        return self._pump.has_results

    def observe(self, on_run: Callable[[Any, float], None]) -> None:
        """Have a function told of every run that ended: its key, and its seconds at the host."""
        self._pump.on_run = on_run

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._job.closed:
            error, self._job.input_error = self._job.input_error, None
            raise error or StopIteration
        try:
            return self._next()
        except BaseException as stop:
            self._stop()
            if isinstance(stop, KeyboardInterrupt):
                stop.add_note(self._job.where())
            raise

    def _next(self) -> Any:
        pump = self._pump
        pump.settle()
        self._yielded += 1
        if self._yielded % SERVE == 0:
            self._serve()
        while True:
            result = pump.take()
            if result is not NOTHING:
                return result
            self._serve()
            if pump.has_results:
                continue
            if pump.finished:
                error, self._job.input_error = self._job.input_error, None
                raise error or StopIteration
            if not pump.wants or self._job.starved:
                self._wait()

    def _serve(self) -> None:
        """Take what has been answered, read a portion, send what can be sent.

        Results that are there do not wait for an input that is slow.
        """
        answers = self._answers
        while not answers.empty():
            self._answered(answers.get())
        if not (self._job.slow and self._pump.has_results):
            self._job.read_some()
        for flight in self._pump.flights():
            packed = self._pump.pack(flight)
            if packed is not None:
                method = self._job.plan.method
                waiter = _Waiter(flight, answers, self._calls)
                try:
                    self._calls.carry(waiter, flight.lane.target, method, packed)
                except Exception as error:  # the runtime was closed
                    self._pump.fail(flight, error)
                    continue
                self._under_way.add(waiter)
        if self._pump.fatal is not None:
            raise self._pump.fatal
        self._job.turn()

    def _wait(self) -> None:
        """Wait for an answer, or for the time of something else."""
        try:
            self._answered(self._answers.get(timeout=self._job.wait()))
        except Empty:
            return

    def _answered(self, waiter: _Waiter) -> None:
        self._under_way.remove(waiter)
        if waiter.error is None:
            self._pump.answer(waiter.flight, waiter.reply)
        else:
            self._pump.fail(waiter.flight, waiter.error)

    def _stop(self) -> None:
        """Cancel what is under way and save the checkpoint."""
        under_way, self._under_way = self._under_way, set()
        for waiter in under_way:
            waiter.cancel()
        self._job.close()

    def settle(self) -> None:
        """Say that the result that was yielded last is dealt with, before asking for the next."""
        self._pump.settle()

    def close(self) -> None:
        """Stop the map. Again: does nothing.

        The result that was yielded last counts as dealt with only if another was asked for.
        """
        if not self._job.closed:
            self._stop()

    def cut_off(self) -> None:
        """Stop the map because its runtime is closed; whoever goes on to iterate is told so."""
        if not self._job.closed:
            self._job.input_error = RuntimeClosed("the runtime was closed before the map ended")
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_job"):
            self.close()
