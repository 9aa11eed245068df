"""One live object: its instance, its gates, its storage, and the events it runs.

At most one activation of an object exists, in the host that owns its slot, and it runs on one
thread; so its code needs no locks. Events start in the order in which they arrive. One that waits
lets others start (Cloudflare's rule), except while the input gate is locked: then they wait in the
mailbox. Whatever an event says goes out through the output gate.

An exception in a method goes to its caller, and the instance lives on. Only a failed constructor,
a failed commit, `ctx.abort()` and a failed blockConcurrencyWhile end it: its callers get
ObjectReset, and the next call meets a new instance. Nothing that the code of an ended instance still
says gets out.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from runtime.bindings import Env
from runtime.host.answers import response_message
from runtime.host.context import DurableObjectAbort, DurableObjectContext, explain, keep
from runtime.host.flow import Flow
from runtime.host.gates import InputGate, OutputGate
from runtime.host.methods import check_method, is_coroutine, relaxed
from runtime.host.runs import RunCall
from runtime.host.said import Answer, Confirmation, Outgoing
from runtime.host.timed import TimedCall
from runtime.wire import messages as m
from runtime.wire.codec import PLAIN, pack_error, pack_still
from runtime.wire.items import GENERATORS, pieces
from workers.errors import ObjectReset, RoostError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from runtime.host.answers import Incoming
    from runtime.host.channel import Channel
    from runtime.host.host import Host
    from runtime.host.ledger import Ledger
    from runtime.host.object_sockets import ObjectSockets, SocketEvent
    from runtime.host.said import Result, Said
    from runtime.ids import ObjectId
    from runtime.storage import Alarm, ObjectStorage
    from runtime.wire.link import Reply
    from runtime.wire.messages import Target
    from workers import DurableObject, Request


T = TypeVar("T")


Ticket: TypeAlias = "tuple[Channel, int, Incoming | None]"
"""Where an event's result goes: channel, call, and its request if it is a fetch(). A plain tuple:
one is made for every call (0.03 µs, a NamedTuple costs 0.25)."""


Method: TypeAlias = "tuple[Callable[..., None], Callable[..., Any]]"
"""A method of an instance: how the stage runs it, and itself."""


class Event(NamedTuple):
    """An event that waits in a mailbox."""

    ticket: Ticket
    method: str | RunCall | TimedCall | SocketEvent
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None


class Activation:
    """See the module's text. Belongs to its host's loop."""

    __slots__ = (
        "_kept",
        "_mailbox",
        "_methods",
        "_running",
        "class_name",
        "context",
        "env",
        "event",
        "flows",
        "gate",
        "host",
        "id",
        "instance",
        "ledger",
        "output",
        "reset_by",
        "scope",
        "sockets",
        "storage",
        "touched",
    )

    def __init__(self, host: Host, class_name: str, object_id: ObjectId) -> None:
        self.host = host
        self.event = self  # what `workers` offers to the running code
        self.scope: Context | None = None
        self.id = object_id
        self.class_name = class_name
        self.gate = InputGate(host.new_future)
        self.output: OutputGate[Said | Result] = OutputGate()
        # Most objects never use most of these. An empty dict takes a third of an empty set's memory and
        # is nothing to look at for the garbage collector; an empty deque takes 600 bytes.
        self.flows: dict[Flow, None] = {}
        """Bodies and generators of ended events that were not yet read to their end."""
        self.reset_by: ObjectReset | None = None
        self.touched = 0.0
        self.storage: ObjectStorage = host.storage_for(self)
        self.ledger: Ledger | None = None
        """What it remembers of items, once it was given any."""
        self.env = Env(host.bindings, self, self.say)
        self.context = DurableObjectContext(self)
        self.instance: DurableObject | None = None
        self.sockets: ObjectSockets | None = None
        self._methods: dict[str, Method] = {}
        self._mailbox: deque[Event] | None = None
        self._running: dict[Ticket, asyncio.Task[None]] = {}
        self._kept: dict[asyncio.Future[Any], None] = {}

    # --- events in -------------------------------------------------------------------------------

    def deliver(
        self,
        ticket: Ticket,
        method: str | RunCall | TimedCall | SocketEvent,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        """Take an event: start it now, or keep it until the input gate opens."""
        if self.gate.locks > 0 or self.reset_by is not None or self._mailbox:
            self._keep(Event(ticket, method, args, kwargs))
            return
        if self._running and len(self._running) >= self.host.limits.mailbox:
            self._turn_away(ticket)
            return
        found = self._methods.get(method) if type(method) is str else None
        if found is None:
            try:
                found = self._find(method)
            except BaseException as error:
                self._fail(ticket, error)
                return
            if self.gate.locks > 0:  # its constructor began a critical section
                self._keep(Event(ticket, method, args, kwargs))
                return
        run, function = found
        run(self, ticket, function, args, kwargs)

    def _keep(self, event: Event) -> None:
        """Put an event into the mailbox."""
        channel, call, _ = event.ticket
        if self._mailbox is None:
            self._mailbox = deque()
        if len(self._mailbox) >= self.host.limits.mailbox:
            self._turn_away(event.ticket)
            return
        self._mailbox.append(event)
        channel.under_way[call] = partial(self._cancel_mail, event)
        self.host.waiting += 1

    def _turn_away(self, ticket: Ticket) -> None:
        """Refuse an event that is one too many, at once: that says nothing of the object's state."""
        channel, call, incoming = ticket
        if incoming is not None:
            incoming.close()
        error = self.host.overloaded(f"{self.class_name} {self.id}")
        channel.post((m.ERROR, call, pack_error(error, self.id.raw, remote=False)))

    def _cancel_mail(self, event: Event) -> None:
        channel, call, incoming = event.ticket
        assert self._mailbox is not None
        self._mailbox.remove(event)
        del channel.under_way[call]
        self.host.waiting -= 1
        if incoming is not None:
            incoming.close()

    def _find(self, name: str | RunCall | TimedCall | SocketEvent) -> Method:
        """Return the instance's method of a name, making the instance if there is none."""
        stage = self.host.stage
        if isinstance(name, (RunCall, TimedCall)):
            _, method = self._methods.get(name.method) or self._find(name.method)
            return stage.run, name.of_object(self, method)
        if self.instance is None:
            self._construct()
        if not isinstance(name, str):
            return stage.run, partial(self.host.sockets.run, self, name)
        check_method(type(self.instance), name)
        bound: Callable[..., Any] = getattr(self.instance, name)
        if name in {"fetch", "alarm"}:
            bound = relaxed(bound)
        found = (stage.run_coroutine if is_coroutine(bound) else stage.run, bound)
        self._methods[name] = found
        return found

    def _construct(self) -> None:
        """Make the instance. Its class' constructor may close the input gate, never await."""
        construction = _Construction(self)
        cls = self.host.script.objects[self.class_name]
        self.host.stage.run(construction, None, cls, (self.context, self.env), None)
        self.scope = construction.scope
        error = construction.error
        if isinstance(error, DurableObjectAbort) and self.reset_by is not None:
            raise self.reset_by
        if error is not None:
            self.reset(
                ObjectReset(
                    f"the constructor of {self.class_name} {self.id} failed: "
                    f"{type(error).__name__}: {error}"
                )
            )
            with suppress(Exception):  # a type may forbid attributes
                error.durable_object_reset = True  # type: ignore[attr-defined]
            raise error
        self.instance = construction.instance

    def take_mail(self) -> None:
        """Start what waits in the mailbox, as far as the input gate lets it."""
        waiting = self.take_mailbox()
        while waiting and not self.gate.locks and self.reset_by is None:
            self.deliver(*waiting.popleft())
        for event in waiting:
            if self.reset_by is None:
                self._keep(event)
            else:  # one of those before it reset the object
                self._fail(event.ticket, self.reset_by)

    def take_mailbox(self) -> deque[Event]:
        """Empty the mailbox and return what was in it."""
        mailbox, self._mailbox = self._mailbox or deque(), None
        self.host.waiting -= len(mailbox)
        for event in mailbox:
            channel, call, _ = event.ticket
            del channel.under_way[call]
        return mailbox

    # --- results out (called by the stage) -------------------------------------------------------

    def ended(self, ticket: Ticket, value: Any) -> None:
        """Send the value that an event returned."""
        channel, call, incoming = ticket
        if incoming is not None:
            self._answer_fetch(ticket, value)
        elif type(value) in PLAIN:
            if self.output.open:
                channel.post((m.RESULT, call, value))
            elif self.reset_by is None:
                self.output.hold((channel, (m.RESULT, call, value)))
            else:
                self.say(Answer(channel, (m.RESULT, call, value), ()))
        elif type(value) in GENERATORS:
            number = Flow(self, pieces(value)).start(channel)
            self.say(Answer(channel, (m.ITEMS, call, number), ()))
        else:
            try:
                data, frames = pack_still(value, channel.shelf)
            except TypeError as error:
                self._fail(ticket, error)
                return
            self.say(Answer(channel, (m.RESULT_PACKED, call, data, len(frames)), frames))

    def _answer_fetch(self, ticket: Ticket, value: Any) -> None:
        channel = ticket[0]
        try:
            message = response_message(ticket, value, self, f"{self.class_name}.fetch()")
        except Exception as error:
            self._fail(ticket, error)
        else:
            self.say(Answer(channel, message, ()))

    def failed(self, ticket: Ticket, error: BaseException) -> None:
        """Send the exception that an event raised, or what ended the instance."""
        self._fail(ticket, error if self.reset_by is None else self.reset_by)

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        channel, call, incoming = ticket
        if incoming is not None:
            incoming.close()
        if isinstance(error, AttributeError):
            explain(error)
        own = not (isinstance(error, RoostError) and not error.remote)
        message = (m.ERROR, call, pack_error(error, self.id.raw, remote=own))
        if self.output.open or self.reset_by is not None:
            channel.post(message)
        else:
            self.output.hold(Answer(channel, message, ()))

    def suspended(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        """Take note that an event waits."""
        self._running[ticket] = task
        ticket[0].under_way[ticket[1]] = task.cancel
        self.host.waiting += 1

    def released(self, ticket: Ticket) -> None:
        """Take note that an event that waited is about to end."""
        del self._running[ticket]
        del ticket[0].under_way[ticket[1]]
        self.host.waiting -= 1

    def say(self, said: Said) -> None:
        """Let something out, as soon as what was written before it is durable."""
        if self.output.open:
            said.leave()
        elif self.reset_by is None:
            self.output.hold(said)
        else:  # code of a lost state, which would not end
            said.fail(self.reset_by)

    # --- what the running code may do ------------------------------------------------------------

    def confirm(self) -> Awaitable[None] | None:
        """Return what to await before anything leaves the object; None when all is durable."""
        if self.output.open:
            return None
        confirmation = Confirmation(self.host.loop.create_future())
        self.say(confirmation)
        return confirmation.future

    def all_durable(self) -> Awaitable[None] | None:
        """Return what to await until all that was written is durable; None when it is."""
        self.output.wait_for_all()
        return self.confirm()

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Keep the activation until something is done."""
        keep(self.host, self._kept, awaitable, f"{self.class_name} {self.id}")

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Call another object (or this one) in this object's name, behind its output gate."""
        caller = self.host.caller
        if self.output.open:
            return caller.call(target, method, args, kwargs, timeout)
        outgoing = Outgoing(caller, *caller.prepare(target, method, args, kwargs, timeout))
        self.say(outgoing)
        return outgoing.reply

    submit = call

    def fetch(self, target: Target | None, request: Request) -> Reply:
        """Send a request to another object in this object's name, behind its output gate."""
        caller = self.host.caller
        reply, message = caller.prepare_fetch(target, request)
        self.say(Outgoing(caller, reply, message, ()))
        return reply

    def way_to(self, _target: Target) -> Self:
        """Return what makes the calls of another object: this, because of its output gate."""
        return self

    def alone(self, body: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Run a transaction, while no other event goes on."""
        return self.context.alone(body)

    def can_alarm(self) -> bool:
        """Whether the class has an alarm(); not looked at before the instance is there."""
        return self.instance is None or callable(getattr(self.instance, "alarm", None))

    def alarm_set(self, alarm: Alarm | None) -> None:
        """Take note that the object's alarm is durably set, or deleted."""
        self.host.alarms.set(self.id.raw, alarm)

    def wrote(self) -> None:
        """Take note of the first write since the last commit began."""
        self.output.wrote()
        self.host.commits.mark(self)

    def wrote_unconfirmed(self) -> None:
        """Take note of a write that is committed like any, but that nothing waits for."""
        self.output.wrote_unconfirmed()
        self.host.commits.mark(self)

    # --- commits and the end ---------------------------------------------------------------------

    def confirmed(self) -> None:
        """Let out what waited for the commit that is now durable."""
        if self.reset_by is not None:
            self.host.catalog.replace(self)
            return
        for said in self.output.confirmed():
            if type(said) is tuple:
                channel, message = said
                channel.post(message)
            else:
                said.leave()  # type: ignore[union-attr]

    @property
    def raw_id(self) -> bytes:
        """The object's id, 32 bytes."""
        return self.id.raw

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, so that the activation may leave memory."""
        return not (
            self._running
            or self._mailbox
            or self.flows
            or self._kept
            or self.gate.locks
            or not self.output.settled
            or self.context.critical
            or (self.sockets is not None and self.sockets.held)
        )

    def reset(self, error: ObjectReset) -> None:
        """Throw the instance away; whoever waits for it is told why.

        Uncommitted writes are dropped. While a commit of earlier ones is under way, no new
        instance starts: it could read, and tell, what is not yet durable.
        """
        if self.reset_by is not None:
            return
        self.reset_by = error
        error.durable_object_id = str(self.id)
        self.host.commits.forget(self)
        self.storage.failed()
        flying = self.output.flying
        for said in self.output.broken():
            if type(said) is tuple:
                Answer(*said, ()).fail(error)
            else:
                said.fail(error)  # type: ignore[union-attr]
        for flow in list(self.flows):
            flow.fail(error)
        for task in list(self._running.values()):
            task.cancel()
        for future in list(self._kept):
            future.cancel()
        for event in self.take_mailbox():
            self._fail(event.ticket, error)
        self.context.end()
        self.gate.broken()
        self.host.sockets.ended(self)
        if not flying:
            self.host.catalog.replace(self)

    def commit_failed(self, error: ObjectReset) -> None:
        """Reset the object, whose writes could not be committed."""
        if self.reset_by is None:
            self.output.stop_flying()
            self.reset(error)
        else:
            self.host.catalog.replace(self)


class _Construction:
    """The first turn of an activation: runs the class' constructor."""

    __slots__ = ("error", "event", "gate", "instance", "scope")

    def __init__(self, activation: Activation) -> None:
        self.event = activation
        self.scope: Context | None = None
        self.gate = activation.gate
        self.instance: DurableObject | None = None
        self.error: BaseException | None = None

    def ended(self, _ticket: object, value: DurableObject) -> None:
        self.instance = value

    def failed(self, _ticket: object, error: BaseException) -> None:
        self.error = error

    def suspended(self, _ticket: object, task: asyncio.Task[None]) -> None:
        task.cancel()
        self.error = TypeError("a constructor cannot be asynchronous")

    def released(self, _ticket: object) -> None:
        pass
