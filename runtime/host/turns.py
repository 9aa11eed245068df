"""Runs the code of events, a turn at a time, without a Task for what never waits.

A turn is what a method does between two awaits that really wait. Most methods have one turn: a
plain `def`, or a coroutine whose awaits are all of storage. Such an event costs no asyncio Task.

Yet the code must find a current task (asyncio.timeout, aiohttp and TaskGroup ask for it), the same
before and after it waited. So a stage keeps spare Tasks, parked. A coroutine runs as if inside a spare,
and goes on by a callback of the future that it waits for; at its end the spare is as new. Only what a
callback cannot do is left to the Task, which takes the coroutine over for good: to throw a cancellation
that found nothing to cancel, to wait for a round of the loop, and to refuse what is no future of it.
(asyncio's eager tasks would create a Task a call, and exist only since Python 3.12.) A spare that an event
has left cancelled, or that somebody holds on to, serves no other.

The context is its owner's, which tells code whose event it is. The owner's events share it for as long
as none leaves a mark on it, a context variable; one that waits takes it along, and another is made.

After each wait, the code goes on only through the input gate of its owner.

`settle(waiting)` may bring about, there and then, what suspended code waits for, and says whether it did:
then the code goes on without a round through the loop. It may run other events meanwhile, each in a
spare of its own.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from contextvars import copy_context
from sys import getrefcount
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import getweakrefcount

from runtime.wire.codec import PLAIN
from workers.current import current_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from runtime.host.gates import InputGate
    from runtime.host.timed import Watch
    from workers.current import Event


class Owner(Protocol):
    """Whose code it is: an activation, or the entrypoint."""

    @property
    def gate(self) -> InputGate:
        """The gate through which waiting code goes on."""

    @property
    def event(self) -> Event:
        """What `workers` offers to the running code."""

    scope: Context | None
    """The context of the next event; made by the stage when there is none."""

    def ended(self, ticket: Any, value: Any) -> None:
        """Take the value that an event returned."""

    def failed(self, ticket: Any, error: BaseException) -> None:
        """Take the exception that an event raised."""

    def suspended(self, ticket: Any, task: asyncio.Task[None]) -> None:
        """Take note that an event waits; `task` runs the rest of it."""

    def released(self, ticket: Any) -> None:
        """Take note that an event that waited is about to end or fail."""


class _Returned:
    """What a driver yields when its coroutine has returned; taken at once, for all drivers use the same."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None


@coroutine
def _drive(returned: _Returned) -> Generator[Any, Any, None]:
    """Run one coroutine after another: of each yield what it waits for, and `returned` at its end.

    An exception of a coroutine is the end of its driver too.
    """
    code = yield
    while True:
        returned.value = yield from code
        code = None
        code = yield returned


SPARES: Final = 256
"""Parked Tasks that are kept, at most."""


class _Wake(asyncio.Future[None]):
    """What a parked Task waits for, and so what hears that the Task is cancelled."""

    __slots__ = ("spare",)

    spare: _Spare | None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel what the event waits for, as in any Task; if that is there already, the Task takes over."""
        spare = self.spare
        if spare is not None:
            waiting = spare.waiting
            if hasattr(waiting, "cancel") and waiting.cancel(*(() if msg is None else (msg,))):
                return True
            spare.references = 0
        return super().cancel(msg)


class _Spare:
    """A parked Task, and a driver, whose coroutine it may take over."""

    __slots__ = (
        "arrived",
        "busy",
        "context",
        "drive",
        "owner",
        "references",
        "send",
        "stage",
        "task",
        "ticket",
        "waiting",
        "wake",
        "weak_references",
    )

    busy: bool
    """Whether its coroutine waits."""
    arrived: bool
    """Whether what that waits for is there."""
    task: Any
    """An `asyncio.Task[None]`; its type does not tell of `_must_cancel`: cancelled before it has begun."""
    references: int
    weak_references: int
    """How many there are to the Task while nobody holds on to it; 0 if that is about to end."""
    context: Context
    owner: Owner

    def __init__(self, stage: Stage, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.stage = stage
        self.new_driver()
        self.busy = self.arrived = False
        self.ticket: Any = None
        self.waiting: Any = None
        self.wake = _Wake(loop=loop)
        self.wake.spare = self
        rest = _rest(self)
        rest.send(None)  # so that it hears of a cancellation that comes before its Task has begun
        self.task = loop.create_task(rest, context=context)
        self.references = getrefcount(self.task)
        self.weak_references = getweakrefcount(self.task)

    def new_driver(self) -> None:
        """Get ready to run coroutines."""
        self.drive = _drive(self.stage.returned)
        self.drive.send(None)
        self.send = self.drive.send

    def wakes(self, _waiting: asyncio.Future[Any]) -> None:
        """Go on, if the Task has not taken over; what the coroutine waits for calls this when it is there."""
        if not self.wake.done():
            self.arrived = True
            self.stage.resume(self)

    def take_over(self) -> None:
        """Let the Task go on, or end if there is nothing to go on with."""
        if not self.wake.done():
            self.wake.set_result(None)


class Stage:
    """Where the events of one host run. One thread, one loop; events never nest."""

    __slots__ = (
        "_free",
        "_inherited",
        "_loop",
        "_most",
        "_plain",
        "_pristine",
        "_spare",
        "resumed",
        "returned",
        "settle",
        "watch",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[Any], bool] = lambda _waiting: False,
    ) -> None:
        self._loop = loop
        self.settle = settle
        self.returned = _Returned()
        self.resumed: Owner | None = None
        """Whose event has gone on after a wait, last of all."""
        self.watch: Watch | None = None
        """Who wants to know when a turn after a wait has ended."""
        # Every event begins with a copy of this, whatever code made the loop come here.
        self._plain = copy_context()
        self._plain.run(current_event.set, None)
        self._pristine = len(self._plain)
        self._inherited = [(v, x) for v, x in self._plain.items() if v is not current_event]
        self._free: list[_Spare] = []
        """Further spares, of events that have waited."""
        self._most = SPARES
        self._spare = self._park()

    def run(
        self,
        owner: Owner,
        ticket: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        """Run the first turn of an event; its owner hears how the event ended, now or later."""
        context = owner.scope or self._scope(owner)
        try:
            if kwargs:
                value = context.run(function, *args, **kwargs)
            else:
                value = context.run(function, *args)
        except BaseException as error:  # sys.exit() in a method must not end the host
            owner.failed(ticket, error)
        else:
            kind = type(value)
            if kind in PLAIN:
                owner.ended(ticket, value)
            elif kind is CoroutineType:
                self._begin(owner, ticket, value, context)
                return
            elif hasattr(kind, "__await__"):
                self._begin(owner, ticket, _wait_for(value), context)
                return
            else:
                owner.ended(ticket, value)
        if len(context) != self._pristine or self._inherited:
            self._look_at(owner, context)

    def run_coroutine(
        self,
        owner: Owner,
        ticket: Any,
        function: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        """As `run`, for a function that is an `async def`: see `host.methods`."""
        try:
            code = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as error:  # it takes other arguments: nothing of it has run
            owner.failed(ticket, error)
        else:
            self._begin(owner, ticket, code, owner.scope or self._scope(owner))

    def _begin(
        self, owner: Owner, ticket: Any, code: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        """Run the first turn of a coroutine."""
        spare = self._spare
        if (
            spare.task._must_cancel  # noqa: SLF001
            or getrefcount(spare.task) != spare.references
        ):
            spare.take_over()  # of code that has cancelled it, or kept it, in a turn before
            spare = self._spare = self._park()
        try:
            _enter_task(self._loop, spare.task)
            try:
                waiting = context.run(spare.send, code)
            finally:
                _leave_task(self._loop, spare.task)
        except BaseException as error:
            spare.new_driver()
            owner.failed(ticket, error)
        else:
            if waiting is not self.returned:
                self._spare = self._free.pop() if self._free else self._park()
                owner.scope = None
                spare.busy = True
                spare.context = context
                spare.owner = owner
                spare.ticket = ticket
                spare.waiting = waiting
                owner.suspended(ticket, spare.task)
                if self._has_come(spare):
                    self._go_on(spare)
                return
            value, waiting.value = waiting.value, None
            owner.ended(ticket, value)
        if len(context) != self._pristine or self._inherited:
            self._look_at(owner, context)

    def resume(self, spare: _Spare) -> None:
        """Go on with an event for which what it waits for has come. A callback of the loop."""
        self.resumed = spare.owner
        self._go_on(spare)
        if self.watch is not None:
            self.watch.turned()

    def _go_on(self, spare: _Spare) -> None:
        """Run the turns of an event as far as what it waits for is there."""
        owner = spare.owner
        while True:
            if owner.gate.locks:
                owner.gate.wait().add_done_callback(spare.wakes, context=self._plain)
                return
            spare.arrived = False
            try:
                _enter_task(self._loop, spare.task)
                try:
                    waiting = spare.context.run(spare.send, None)
                finally:
                    _leave_task(self._loop, spare.task)
            except BaseException as error:
                spare.new_driver()
                self._end(spare, owner.failed, error)
                return
            if waiting is self.returned:
                value, waiting.value = waiting.value, None
                self._end(spare, owner.ended, value)
                return
            spare.waiting = waiting
            if not self._has_come(spare):
                return

    def _has_come(self, spare: _Spare) -> bool:
        """Whether what an event waits for is there; if not, have it go on when that comes."""
        waiting = spare.waiting
        is_future = getattr(waiting, "_asyncio_future_blocking", None) is not None
        if is_future:
            waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do, at once)
        if self.settle(waiting):
            spare.arrived = True
            if not (spare.wake.done() or spare.task._must_cancel):  # noqa: SLF001  (cancelled meanwhile)
                return True
        elif is_future and waiting.get_loop() is self._loop and waiting is not spare.task:
            waiting.add_done_callback(spare.wakes, context=self._plain)
            return False
        spare.take_over()
        return False

    def _end(self, spare: _Spare, tell: Callable[[Any, Any], None], what: Any) -> None:
        """Tell how an event has ended that has waited, and park its Task again."""
        owner, context = spare.owner, spare.context
        try:
            owner.released(spare.ticket)
            tell(spare.ticket, what)
            self.give_back(owner, context)
        finally:
            spare.busy = False
            spare.waiting = spare.ticket = None
            del spare.owner, spare.context
            if (
                len(self._free) < self._most
                and not spare.task._must_cancel  # noqa: SLF001
                and not spare.task.cancelling()
                and getrefcount(spare.task) == spare.references
                and getweakrefcount(spare.task) == spare.weak_references
                and not spare.task._callbacks  # noqa: SLF001  (who waits for the Task's end gets it)
            ):
                self._free.append(spare)
            else:
                spare.take_over()

    def give_back(self, owner: Owner, context: Context) -> None:
        """Take the context of an event that has waited and ended for the owner's next one."""
        if owner.scope is None:
            owner.scope = context
            self._look_at(owner, context)

    def _look_at(self, owner: Owner, context: Context) -> None:
        """Drop an owner's context if an event has left something in it."""
        if len(context) != self._pristine or any(
            context[variable] is not value for variable, value in self._inherited
        ):
            owner.scope = None

    def _scope(self, owner: Owner) -> Context:
        context = owner.scope = self._plain.copy()
        context.run(current_event.set, owner.event)
        return context

    def _park(self) -> _Spare:
        return _Spare(self, self._loop, self._plain.copy())

    async def close(self) -> None:
        """End the parked Tasks."""
        self._most = 0
        parked = [spare.task for spare in (self._spare, *self._free)]
        for task in parked:
            task.cancel()
        await asyncio.gather(*parked, return_exceptions=True)


async def _wait_for(value: Awaitable[Any]) -> Any:
    """Make a coroutine of whatever else a method may return to be awaited."""
    return await value


async def _rest(spare: _Spare) -> None:
    """Run whatever of an event is left to the spare's Task."""
    await _go_on(spare)


@coroutine
def _go_on(spare: _Spare) -> Generator[Any, Any, None]:  # noqa: C901  (each generator more costs 0.1 µs a turn)
    """Park until there is a coroutine to take over, then run the rest of its turns."""
    error: BaseException | None = None
    try:
        yield  # where `_Spare` has brought it
        yield from spare.wake
    except asyncio.CancelledError as cancelled:
        error = cancelled
    spare.take_over()  # if it was cancelled before it had begun
    spare.references = 0
    spare.wake.spare = None
    if not spare.busy:  # never taken into use
        return
    stage, owner, waiting, run = spare.stage, spare.owner, spare.waiting, spare.context.run
    settle, drive, arrived = stage.settle, spare.drive, spare.arrived
    if error is not None and hasattr(waiting, "cancel") and waiting.cancel(*error.args):
        error = None  # it reaches the code through what the code waits for, as in any Task
    while True:
        is_future = getattr(waiting, "_asyncio_future_blocking", None) is not None
        if is_future:  # others may begin to wait for it before the Task does
            waiting._asyncio_future_blocking = False  # noqa: SLF001
        if error is None and not arrived and not settle(waiting):
            if stage.watch is not None:
                stage.watch.turned()
            try:
                if is_future:
                    waiting._asyncio_future_blocking = True  # noqa: SLF001
                yield waiting
            except GeneratorExit:
                run(drive.close)
                raise
            except BaseException as thrown:
                error = thrown
        while owner.gate.locks:
            try:
                yield from owner.gate.wait()
            except asyncio.CancelledError as cancelled:
                error = cancelled
        arrived = False
        stage.resumed = owner
        try:
            waiting = run(drive.send, None) if error is None else run(drive.throw, error)
        except BaseException as failure:
            error = None  # its traceback leads here
            owner.released(spare.ticket)
            owner.failed(spare.ticket, failure)
            break
        if waiting is stage.returned:
            value, waiting.value = waiting.value, None
            owner.released(spare.ticket)
            owner.ended(spare.ticket, value)
            break
        error = None
    stage.give_back(owner, spare.context)
    if stage.watch is not None:
        stage.watch.turned()
