"""The stateless side of a worker: its entrypoint, run by whichever host has the least to do.

Each call gets an instance of its own, so that calls share nothing but the process. There are no
gates: an entrypoint owns no storage, and what it says leaves at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.bindings import Env
from runtime.host.answers import response_message
from runtime.host.context import ExecutionContext, keep
from runtime.host.flow import Flow
from runtime.host.gates import InputGate
from runtime.host.methods import check_method, relaxed
from runtime.wire import messages as m
from runtime.wire.codec import PLAIN, pack_error, pack_still
from runtime.wire.items import GENERATORS, pieces
from workers.errors import RoostError, ScriptError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from runtime.host.activation import Ticket
    from runtime.host.host import Host
    from runtime.host.runs import RunCall
    from runtime.wire.link import Reply
    from runtime.wire.messages import Target
    from runtime.wire.parked import Way
    from workers import Request


class Entrypoint:
    """Runs the calls of the entrypoint of one host."""

    __slots__ = ("_callable", "_kept", "_running", "env", "event", "flows", "gate", "host", "scope")

    raw_id: None = None
    """An entrypoint has no id."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.flows: dict[Flow, None] = {}
        self._callable: set[str] = set()  # methods that were found to be, once
        self._kept: dict[asyncio.Future[Any], None] = {}
        self._running: dict[Ticket, asyncio.Task[None]] = {}
        self.gate = InputGate(host.new_future)
        self.env = Env(host.bindings, self)
        self.event = self
        self.scope: Context | None = None

    def deliver(
        self,
        ticket: Ticket,
        method: str | RunCall,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        """Run a call."""
        if len(self._running) >= self.host.limits.mailbox:
            self.failed(ticket, self.host.overloaded("the worker's entrypoint"))
            return
        self.host.stage.run(self, ticket, self._start, (method, args, kwargs or {}), None)

    def _start(self, method: str | RunCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the instance and call its method; user code, both of them."""
        if not isinstance(method, str):
            return method.of_host(self.host)
        cls = self.host.script.entrypoint
        if cls is None:
            raise ScriptError(
                "the worker has no entrypoint: define a class Default(WorkerEntrypoint)"
            )
        if method not in self._callable:
            check_method(cls, method)
            self._callable.add(method)
        instance = cls(ExecutionContext(self.wait_until), self.env)
        function: Callable[..., Any] = getattr(instance, method)
        return (relaxed(function) if method == "fetch" else function)(*args, **kwargs)

    def ended(self, ticket: Ticket, value: Any) -> None:
        """Send what a call returned."""
        channel, call, incoming = ticket
        try:
            if incoming is not None:
                channel.post(response_message(ticket, value, self, "Default.fetch()"))
            elif type(value) in PLAIN:
                channel.post((m.RESULT, call, value))
            elif type(value) in GENERATORS:
                channel.post((m.ITEMS, call, Flow(self, pieces(value)).start(channel)))
            else:
                data, frames = pack_still(value, channel.shelf)
                channel.post((m.RESULT_PACKED, call, data, len(frames)), frames)
        except Exception as error:
            self.failed(ticket, error)

    def failed(self, ticket: Ticket, error: BaseException) -> None:
        """Send what a call raised."""
        channel, call, incoming = ticket
        if incoming is not None:
            incoming.close()
        own = not (isinstance(error, RoostError) and not error.remote)
        channel.post((m.ERROR, call, pack_error(error, None, remote=own)))

    def suspended(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        """Take note that a call waits."""
        self._running[ticket] = task
        ticket[0].under_way[ticket[1]] = task.cancel
        self.host.waiting += 1

    def released(self, ticket: Ticket) -> None:
        """Take note that a call that waited is about to end."""
        del self._running[ticket]
        del ticket[0].under_way[ticket[1]]
        self.host.waiting -= 1

    def confirm(self) -> None:
        """Return None: an entrypoint writes nothing that could be lost."""

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Go on with something after the response."""
        keep(self.host, self._kept, awaitable, "the worker's entrypoint")

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Call an object."""
        return self.host.caller.call(target, method, args, kwargs, timeout)

    submit = call

    def fetch(self, target: Target | None, request: Request) -> Reply:
        """Send a request to an object."""
        return self.host.caller.fetch(target, request)

    def way_to(self, target: Target) -> Way:
        """Return what makes the calls of an object: the way to its owner."""
        return self.host.caller.way_to(target)
