"""Runs the code of events, a turn at a time, without a Task for what never waits.

A turn is what a method does between two awaits that really wait. Most methods have one turn: a
plain `def`, or a coroutine whose awaits are all of storage. Such an event costs no asyncio Task.

Yet the code must find a current task (asyncio.timeout, aiohttp and TaskGroup ask for it), the same
before and after it waited. So a stage keeps spare Tasks, parked. A coroutine runs as if inside a spare,
and goes on by a callback of the future that it waits for; at its end the spare is as new. Only what a
callback cannot do is left to the Task, which takes the coroutine over for good: to hear of a cancellation, to
wait at the gate, and for a round of the loop. (asyncio's eager tasks would create a Task a call, and
exist only since Python 3.12.) A spare that an event has left cancelled, or that somebody holds on to,
serves no other.

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
from collections.abc import Coroutine
from contextvars import copy_context
from sys import getrefcount
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtime.wire.codec import PLAIN
from workers.current import current_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
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


class _Ended:
    """What a driver yields when its coroutine has ended; read at once, for all drivers use the same."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def tell(self, owner: Owner, ticket: Any) -> None:
        """Tell an owner how its event has ended, and forget it."""
        if self.error is None:
            value, self.value = self.value, None
            owner.ended(ticket, value)
        else:
            error, self.error = self.error, None
            owner.failed(ticket, error)


@coroutine
def _drive(ended: _Ended) -> Generator[Any, Any, None]:
    """Run one coroutine after another: of each yield what it waits for, and `ended` at its end."""
    code = yield
    while True:
        try:
            ended.value = yield from code
        except GeneratorExit:
            raise
        except BaseException as error:
            ended.error = error
        code = None
        code = yield ended


SPARES: Final = 256
"""Parked Tasks that are kept, at most."""


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
    )

    busy: bool
    """Whether its coroutine waits."""
    arrived: bool
    """Whether what that waits for is there."""
    references: int
    """How many there are to the Task while nobody holds on to it."""
    context: Context
    owner: Owner

    def __init__(self, stage: Stage, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.stage = stage
        self.drive = _drive(stage.ended)
        self.drive.send(None)
        self.send = self.drive.send
        self.busy = self.arrived = False
        self.ticket: Any = None
        self.waiting: Any = None
        self.wake: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] = loop.create_task(_Rest(self), context=context)
        self.references = getrefcount(self.task)

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
        "ended",
        "resumed",
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
        self.ended = _Ended()
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
        if spare.task.cancelling() or getrefcount(spare.task) != spare.references:
            spare.take_over()  # of code that has kept it from a turn before
            spare = self._spare = self._park()
        ended = self.ended
        _enter_task(self._loop, spare.task)
        try:
            waiting = context.run(spare.send, code)
        except BaseException as error:  # a GeneratorExit of its own: the driver has ended with it
            ended.error = error
            waiting = ended
            self._spare = self._park()
            spare.take_over()
        finally:
            _leave_task(self._loop, spare.task)
        if waiting is not ended:
            owner.scope = None
            spare.busy = True
            spare.context = context
            spare.waiting = waiting
            spare.owner = owner
            spare.ticket = ticket
            self._spare = self._free.pop() if self._free else self._park()
            owner.suspended(ticket, spare.task)
            if self.settle(waiting):
                spare.arrived = True
                self._go_on(spare)
            else:
                self._wait(spare)
            return
        if ended.error is None:
            value, ended.value = ended.value, None
            owner.ended(ticket, value)
        else:
            ended.tell(owner, ticket)
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
        owner, ended = spare.owner, self.ended
        while not owner.gate.locks and not spare.task.cancelling():
            spare.waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do)
            spare.arrived = False
            _enter_task(self._loop, spare.task)
            try:
                waiting = spare.context.run(spare.send, None)
            except BaseException as error:
                ended.error = error
                waiting = ended
                spare.take_over()
            finally:
                _leave_task(self._loop, spare.task)
            if waiting is ended:
                self._end(spare)
                return
            spare.waiting = waiting
            if not self.settle(waiting):
                self._wait(spare)
                return
            spare.arrived = True
        spare.take_over()

    def _wait(self, spare: _Spare) -> None:
        """Have an event go on when what it waits for is there."""
        waiting = spare.waiting
        if (
            getattr(waiting, "_asyncio_future_blocking", None) is True
            and waiting.get_loop() is self._loop
            and waiting is not spare.task
            and not spare.task.cancelling()
        ):
            waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do)
            waiting.add_done_callback(spare.wakes, context=self._plain)
        else:
            spare.take_over()

    def _end(self, spare: _Spare) -> None:
        """Tell how an event has ended that has waited, and park its Task again."""
        owner, context = spare.owner, spare.context
        owner.released(spare.ticket)
        self.ended.tell(owner, spare.ticket)
        self.give_back(owner, context)
        spare.busy = False
        spare.waiting = spare.ticket = None
        del spare.owner, spare.context
        if (
            len(self._free) < self._most
            and not spare.wake.done()
            and not spare.task.cancelling()
            and getrefcount(spare.task) == spare.references
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
        return _Spare(self, self._loop, self._plain)

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
    if not spare.busy:  # never taken into use
        return
    stage, owner, waiting, run = spare.stage, spare.owner, spare.waiting, spare.context.run
    settle, ended, drive, arrived = stage.settle, stage.ended, spare.drive, spare.arrived
    if error is not None and hasattr(waiting, "cancel") and waiting.cancel(*error.args):
        error = None  # it reaches the code through what the code waits for, as in any Task
    while True:
        if error is None and (arrived or settle(waiting)):
            waiting._asyncio_future_blocking = False  # noqa: SLF001  (as a Task would do)
        elif error is None:
            if stage.watch is not None:
                stage.watch.turned()
            try:
                # The wait that began outside of this Task is handed on as if it began here.
                if getattr(waiting, "_asyncio_future_blocking", None) is False:
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
            ended.error = failure
            waiting = ended
        if waiting is ended:
            owner.released(spare.ticket)
            ended.tell(owner, spare.ticket)
            break
        error = None
    stage.give_back(owner, spare.context)
    if stage.watch is not None:
        stage.watch.turned()
