"""Runs the code of events, a turn at a time, without a Task for what never waits.

A turn is what a method does between two awaits that really wait. Most methods have one turn: a
plain `def`, or a coroutine whose awaits are all of storage. Such an event costs no asyncio Task.

Yet the code must find a current task (asyncio.timeout, aiohttp and TaskGroup ask for it), and go
on in the same Task and context after it waited. So a stage keeps one spare Task, parked. The
first turn of a coroutine runs as if inside the spare; if it finishes, the spare is as new; if it
waits, the spare takes the coroutine over, and a new spare is parked. (asyncio's eager tasks would
create a Task a call, and exist only since Python 3.12.) A spare that an event has left a mark on, a
context variable or a cancellation, serves no other.

After each wait, the code goes on only through the input gate of its owner.

`settle(waiting)` may bring about, there and then, what suspended code waits for, and says whether it did:
then the code goes on without a round through the loop. It may run other events meanwhile, each in a
spare of its own; code that has gone on so to its end has never needed its Task.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from runtime.wire.codec import PLAIN
from workers.current import current_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextvars import Context

    from runtime.host.gates import InputGate
    from workers.current import Event


class Owner(Protocol):
    """Whose code it is: an activation, or the entrypoint."""

    @property
    def gate(self) -> InputGate:
        """The gate through which waiting code goes on."""

    @property
    def event(self) -> Event:
        """What `workers` offers to the running code."""

    def ended(self, ticket: Any, value: Any) -> None:
        """Take the value that an event returned."""

    def failed(self, ticket: Any, error: BaseException) -> None:
        """Take the exception that an event raised."""

    def suspended(self, ticket: Any, task: asyncio.Task[None]) -> None:
        """Take note that an event waits; `task` runs the rest of it."""

    def released(self, ticket: Any) -> None:
        """Take note that an event that waited is about to end or fail."""


class _Spare:
    """A parked Task, and the coroutine it takes over, if it does."""

    __slots__ = (
        "context",
        "coroutine",
        "event",
        "owner",
        "settle",
        "task",
        "ticket",
        "waiting",
        "wake",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: Context, settle: Callable[[Any], bool]
    ) -> None:
        self.settle = settle
        self.coroutine: CoroutineType[Any, Any, Any] | None = None
        self.event: Event | None = None
        self.owner: Owner
        self.ticket: Any = None
        self.waiting: Any = None
        self.wake: asyncio.Future[None] = loop.create_future()
        self.context = context
        self.task: asyncio.Task[None] = loop.create_task(_Rest(self), context=context)


class Stage:
    """Where the events of one host run. One thread, one loop; events never nest."""

    __slots__ = ("_free", "_inherited", "_loop", "_plain", "_pristine", "_settle", "_spare")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[Any], bool] = lambda _waiting: False,
    ) -> None:
        self._loop = loop
        self._settle = settle
        # Every event begins with a copy of this, whatever code made the loop come here.
        self._plain = copy_context()
        self._plain.run(current_event.set, None)
        self._pristine = len(self._plain)
        self._inherited = [(v, x) for v, x in self._plain.items() if v is not current_event]
        self._free: list[_Spare] = []
        """Further spares, as many as events have waited for each other at once."""
        self._spare = self._park()

    def run(  # noqa: C901  in one piece, because each call of a function takes 0.05 µs
        self,
        owner: Owner,
        ticket: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        """Run the first turn of an event; its owner hears how the event ended, now or later."""
        spare = self._spare
        context = spare.context
        if spare.event is not owner.event:
            spare.event = owner.event
            context.run(current_event.set, spare.event)
        try:
            if kwargs:
                value = context.run(function, *args, **kwargs)
            else:
                value = context.run(function, *args)
            kind = type(value)
            if kind not in PLAIN and kind is not CoroutineType and hasattr(kind, "__await__"):
                value, kind = _wait_for(value), CoroutineType
            if kind is CoroutineType:
                if spare.task.cancelling():  # by code that had kept it from a turn before
                    spare = self._spare = self._park()
                    context = spare.context
                    spare.event = owner.event
                    context.run(current_event.set, spare.event)
                _enter_task(self._loop, spare.task)
                try:
                    waiting = context.run(value.send, None)
                except StopIteration as stop:
                    value = stop.value
                else:
                    spare.coroutine = value
                    spare.waiting = waiting
                    spare.owner = owner
                    spare.ticket = ticket
                finally:
                    _leave_task(self._loop, spare.task)
        except BaseException as error:  # sys.exit() in a method must not end the host
            owner.failed(ticket, error)
        else:
            if spare.coroutine is None:
                owner.ended(ticket, value)
        if spare.coroutine is not None:
            self._spare = self._free.pop() if self._free else self._park()
            owner.suspended(ticket, spare.task)
            if not self._goes_on(spare) and not spare.wake.done():
                spare.wake.set_result(None)
        elif self._is_used(context):
            # The code set context variables: the next event must not find them.
            spare.task.cancel()
            self._spare = self._park()

    def _goes_on(self, spare: _Spare) -> bool:
        """Run the turns of a suspended event for which nothing has to be waited; whether it has ended.

        The rest, if there is one, is the Task's, like what a cancellation meanwhile has to say.
        """
        code, owner, context = spare.coroutine, spare.owner, spare.context
        assert code is not None
        while self._settle(spare.waiting) and not owner.gate.locks and not spare.task.cancelling():
            spare.waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do)
            _enter_task(self._loop, spare.task)
            try:
                spare.waiting = context.run(code.send, None)
            except StopIteration as stop:
                _leave_task(self._loop, spare.task)
                owner.released(spare.ticket)
                owner.ended(spare.ticket, stop.value)
            except BaseException as failure:
                _leave_task(self._loop, spare.task)
                owner.released(spare.ticket)
                owner.failed(spare.ticket, failure)
            else:
                _leave_task(self._loop, spare.task)
                continue
            spare.coroutine = spare.waiting = spare.ticket = None
            if self._is_used(context) or spare.task.cancelling():
                spare.task.cancel()
            else:
                self._free.append(spare)
            return True
        return False

    def _is_used(self, context: Context) -> bool:
        """Whether an event has left something in a context."""
        return len(context) != self._pristine or (
            bool(self._inherited) and self._is_altered(context)
        )

    def _park(self) -> _Spare:
        return _Spare(self._loop, self._plain.copy(), self._settle)

    def _is_altered(self, context: Context) -> bool:
        """Whether an event has set a variable that the script had set when it was imported."""
        return any(context[variable] is not value for variable, value in self._inherited)

    async def close(self) -> None:
        """End the parked Tasks."""
        parked = [spare.task for spare in (self._spare, *self._free)]
        for task in parked:
            task.cancel()
        await asyncio.gather(*parked, return_exceptions=True)


async def _wait_for(value: Awaitable[Any]) -> Any:
    """Make a coroutine of whatever else a method may return to be awaited."""
    return await value


class _Rest(Coroutine[Any, Any, None]):
    """The coroutine of a spare's Task: whatever of an event is left after its first turn.

    Unlike an ordinary one, it hears of a cancellation that comes before its Task has begun: there is
    an event by then, perhaps, which has to end.
    """

    def __init__(self, spare: _Spare) -> None:
        self._code = _go_on(spare)

    def send(self, value: Any) -> Any:
        """Go on to the next wait."""
        self.send = self._code.send  # type: ignore[assignment,method-assign]  # a call less for each wait
        return self._code.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        if "send" not in self.__dict__:
            waiting = self.send(None)
            if hasattr(waiting, "cancel") and waiting.cancel():
                return waiting  # the error reaches the code through it, as in any Task
        return self._code.throw(*error)

    def close(self) -> None:
        """End without going on."""
        self._code.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._code


def _go_on(spare: _Spare) -> Generator[Any, Any, None]:  # noqa: C901  (each generator more costs 0.1 µs a turn)
    """Park until there is a coroutine to take over, then run the rest of its turns."""
    error: BaseException | None = None
    try:
        yield from spare.wake
    except asyncio.CancelledError as cancelled:
        error = cancelled
    code = spare.coroutine
    if code is None:  # never taken into use
        return
    owner, waiting = spare.owner, spare.waiting
    if error is not None and hasattr(waiting, "cancel") and waiting.cancel():
        error = None  # it reaches the code through what the code waits for, as in any Task
    while True:
        if error is None and spare.settle(waiting):
            waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do)
        elif error is None:
            try:
                # The wait that the first turn began is handed on as if it began here.
                if getattr(waiting, "_asyncio_future_blocking", None) is False:
                    waiting._asyncio_future_blocking = True  # noqa: SLF001
                yield waiting
            except GeneratorExit:
                code.close()
                raise
            except BaseException as thrown:
                error = thrown
        while owner.gate.locks:
            try:
                yield from owner.gate.wait()
            except asyncio.CancelledError as cancelled:
                error = cancelled
        try:
            waiting = code.send(None) if error is None else code.throw(error)
        except StopIteration as stop:
            owner.released(spare.ticket)
            owner.ended(spare.ticket, stop.value)
            return
        except BaseException as failure:
            owner.released(spare.ticket)
            owner.failed(spare.ticket, failure)
            return
        error = None
