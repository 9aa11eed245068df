"""`ctx`: what an object, or the entrypoint, may ask of its host.

Semantics: Cloudflare's DurableObjectState and ExecutionContext. What of them Roost does not have
in this version raises an AttributeError, which tells the caller so.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from runtime.host.socket_context import SocketContext
from runtime.storage import ObjectStorage
from workers.errors import ObjectReset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runtime.host.activation import Activation
    from runtime.host.host import Host
    from runtime.ids import ObjectId

T = TypeVar("T")

_log = logging.getLogger("roost.host")

CRITICAL_SECONDS = 30.0
"""How long blockConcurrencyWhile() may take."""

CRITICAL_DEPTH = 64
"""How deep calls of blockConcurrencyWhile() may nest."""


LATE = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call was "
    "canceled and the Durable Object was reset."
)


class DurableObjectAbort(BaseException):
    """Ends the code that called `ctx.abort()`; `except Exception` does not stop it."""


_RETRY_ALARM = frozenset({"retryAlarm", "retry_alarm"})


class _Section:
    """A critical section, or (the outermost) an object that has some: they run one by one in it."""

    __slots__ = ("depth", "last", "open")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.last: asyncio.Task[Any] | None = None
        self.open = True


_section: ContextVar[_Section | None] = ContextVar("_section", default=None)


def section_depth() -> int:
    """Return how deep in critical sections of its object the running code is; see `storage.Depth`."""
    section = _section.get()
    return section.depth if section is not None and section.open else 0


class DurableObjectContext(SocketContext):
    """The `ctx` of an object."""

    MISSING: ClassVar = (
        "ctx.{} does not exist; ctx has id, storage, waitUntil, blockConcurrencyWhile, abort, and "
        "for WebSockets acceptWebSocket, getWebSockets, getTags, broadcast, "
        "setWebSocketAutoResponse, getWebSocketAutoResponse, getWebSocketAutoResponseTimestamp, "
        "setHibernatableWebSocketEventTimeout and getHibernatableWebSocketEventTimeout"
    )
    """What a caller is told of an attribute that is not there."""

    __slots__ = ("_activation", "_outermost", "_sections", "storage")

    storage: ObjectStorage
    """The object's private, durable storage."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.storage = activation.storage
        self._outermost: _Section | None = None
        self._sections: dict[asyncio.Task[Any], None] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("an object and its ctx stay where they are; send a stub")

    @property
    def id(self) -> ObjectId:
        """The object's id; its `name` is the one it was addressed by, if it was."""
        return self._activation.id

    @property
    def critical(self) -> bool:
        """Whether a critical section is open."""
        return bool(self._sections)

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Keep the object in memory until something is done; its error is logged."""
        self._activation.wait_until(awaitable)

    def block_concurrency_while(self, callback: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        """Run an async function while no other event of the object starts or goes on.

        It starts after the current turn, and after earlier ones that have not ended, unless one of
        these made the call. It may take 30 s; if it takes longer or raises, the object is reset.
        Returns an awaitable of its result; usable as a decorator.
        """
        return self._critical(callback, resets=True)

    def alone(self, body: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Do the same for a transaction, whose errors are the caller's and reset nothing."""
        return self._critical(body, resets=False)

    def _critical(self, callback: Callable[[], Awaitable[T]], *, resets: bool) -> Awaitable[T]:
        activation = self._activation
        if activation.reset_by is not None:
            raise activation.reset_by
        around = _section.get()
        if around is None or not around.open:
            around = self._outermost = self._outermost or _Section(0)
        if around.depth >= CRITICAL_DEPTH:
            raise RuntimeError("blockConcurrencyWhile() calls are nested too deeply.")
        activation.gate.lock()
        activation.host.waiting += 1
        task = activation.host.loop.create_task(
            self._run_section(around, around.last, callback, resets=resets)
        )
        around.last = task
        self._sections[task] = None
        outcome = asyncio.shield(task)
        outcome.add_done_callback(_seen)  # used as a decorator, nobody awaits it
        # After the shield's own: who awaits the outcome goes on before all that waited for the gate.
        task.add_done_callback(partial(self._section_ended, resets))
        return outcome

    async def _run_section(
        self,
        around: _Section,
        before: asyncio.Task[Any] | None,
        callback: Callable[[], Awaitable[T]],
        *,
        resets: bool,
    ) -> T:
        activation = self._activation
        if before is not None and not before.done():
            await asyncio.wait([before])
        section = _Section(around.depth + 1)
        _section.set(section)
        late = ObjectReset(LATE, overloaded=True)
        timer = activation.host.loop.call_later(CRITICAL_SECONDS, activation.reset, late)
        try:
            return await callback()
        except BaseException as cause:
            if not resets and isinstance(cause, Exception):
                raise
            error = ObjectReset(f"blockConcurrencyWhile() failed: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
            activation.reset(error)  # unless it was reset before, which is then the cause of this
            if isinstance(cause, (SystemExit, KeyboardInterrupt)):  # would end the host
                raise error from cause
            raise
        finally:
            timer.cancel()
            section.open = False

    def _section_ended(self, resets: bool, task: asyncio.Task[Any]) -> None:
        self._sections.pop(task, None)
        activation = self._activation
        activation.host.waiting -= 1
        error = None if task.cancelled() else task.exception()
        if resets and error is not None and not isinstance(error, DurableObjectAbort):
            _log.error(
                "blockConcurrencyWhile() of %s %s failed",
                activation.class_name,
                activation.id,
                exc_info=error,
            )
        activation.gate.unlock()
        # After those that waited at the gate, whose turn comes first.
        activation.host.loop.call_soon(activation.take_mail)

    def abort(
        self, reason: str | None = None, options: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Throw the object's instance away at once, with what it has not yet committed.

        Every call under way fails with the reason; the next call meets a new instance. An `alarm()` under
        way is called again, unless the option `retryAlarm` is false.
        """
        given = {**(options or {}), **more}
        if unknown := given.keys() - _RETRY_ALARM:
            raise TypeError(f"abort() has no option {min(unknown)!r}; it has retryAlarm")
        if not all(given.values()):
            self._activation.host.alarms.give_up(self._activation.id.raw)
        text = (
            str(reason)
            if reason is not None
            else "Application called abort() to reset Durable Object."
        )
        self._activation.reset(ObjectReset(text))
        raise DurableObjectAbort(text)

    def end(self) -> None:
        """Cancel the critical sections: the activation was reset."""
        for task in self._sections:
            if task is not asyncio.current_task():
                task.cancel()

    waitUntil = wait_until
    blockConcurrencyWhile = block_concurrency_while


def explain(error: AttributeError) -> None:
    """Have the error of an attribute that `ctx` or `ctx.storage` does not have say what there is."""
    if isinstance(error.obj, (DurableObjectContext, ObjectStorage)):
        error.args = (error.obj.MISSING.format(error.name),)


class ExecutionContext:
    """The `ctx` of the entrypoint."""

    __slots__ = ("_wait_until",)

    def __init__(self, wait_until: Callable[[Awaitable[object]], None]) -> None:
        self._wait_until = wait_until

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Go on with something after the response was sent; its error is logged."""
        self._wait_until(awaitable)

    def pass_through_on_exception(self) -> None:
        """Do nothing: there is no origin server to pass through to."""

    waitUntil = wait_until
    passThroughOnException = pass_through_on_exception


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def keep(
    host: Host, kept: dict[asyncio.Future[Any], None], awaitable: Awaitable[object], whose: str
) -> None:
    """Run something to its end beside the events; its error is logged with its owner's name."""
    if asyncio.iscoroutine(awaitable):
        awaitable = _guarded(awaitable)
    future = asyncio.ensure_future(awaitable, loop=host.loop)
    kept[future] = None
    host.waiting += 1

    def ended(future: asyncio.Future[Any]) -> None:
        kept.pop(future, None)
        host.waiting -= 1
        host.handover.look()
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, DurableObjectAbort):
            _log.error("waitUntil() of %s failed", whose, exc_info=error)

    future.add_done_callback(ended)


async def _guarded(code: Awaitable[object]) -> object:
    """Let no exit in it end the host."""
    try:
        return await code
    except (SystemExit, KeyboardInterrupt) as leaving:
        raise RuntimeError(f"{type(leaving).__name__} was raised") from leaving
