"""The host: takes messages, runs the events of its objects, sends what they say.

One thread, one loop. Everything that has arrived is worked off in slices of a few milliseconds, a
channel at a time, so that no caller starves another and answers leave early; all that is said to
one caller in a slice leaves as one batch.

A host that is leaving still serves its peers, because events under way may need them, and refuses
new calls from everybody else: they go to its successor, unstarted.
"""

from __future__ import annotations

import logging
import time
from asyncio.tasks import _enter_task, _leave_task, current_task
from collections import deque
from contextvars import copy_context
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from runtime.host.activation import Activation
from runtime.host.alarms import Alarms
from runtime.host.answers import Incoming
from runtime.host.busy import Busy
from runtime.host.catalog import Catalog
from runtime.host.channel import Channel, LocalExit, RouterExit
from runtime.host.commits import Commits
from runtime.host.entrypoint import Entrypoint
from runtime.host.handover import Handover
from runtime.host.runs import Functions, RunCall
from runtime.host.slots import Slots
from runtime.host.sockets import HostSockets
from runtime.host.tending import Tending
from runtime.host.timed import TimedCall, TimedChannel, Watch
from runtime.host.turns import Stage
from runtime.roster import State
from runtime.wire import messages as m
from runtime.wire.caller import LANE, number_in
from runtime.wire.codec import decode, pack, pack_error, unpack
from runtime.wire.link import Reply, describe
from runtime.wire.numbers import goes_on
from workers.current import current_event
from workers.errors import Overloaded, RoostError, RuntimeClosed, StorageError, WireError
from workers.request import request_from_parts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from pathlib import Path

    import zmq

    from runtime.bindings import Bindings
    from runtime.host.activation import Event as Mail
    from runtime.host.object_sockets import SocketEvent
    from runtime.host.script import Script
    from runtime.roster import Roster
    from runtime.storage import ObjectStorage
    from runtime.wire.caller import Caller
    from runtime.wire.codec import Frame
    from runtime.wire.messages import Batch, Message, Target
    from workers.current import Event

_log = logging.getLogger("roost.host")

_SOCKETS: Final = frozenset({m.SAID, m.ATTACH, m.ADOPT, m.NEWS})

TELL_NS: Final = 1_000_000
"""Nanoseconds between two writings of all figures."""

FLUSH_NS: Final = 500_000
"""Nanoseconds of work after which its answers leave: their callers go on meanwhile."""

DEPTH: Final = 16
"""How many events may wait for each other without the loop; deeper chains go through it."""

FLUSH_FETCHES_NS: Final = 600_000
"""The same where requests are answered: they take longer, and eight a batch are too few."""

SLICE_NS: Final = 2_000_000
"""Nanoseconds of work between two looks at the sockets."""


class Host:
    """See the module's text."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        router: zmq.Socket[bytes],
        roster: Roster,
        caller: Caller,
        bindings: Bindings,
        script: Script,
        data: Path,
    ) -> None:
        config = bindings.config
        self.loop = loop
        self.new_future = loop.create_future  # one for all: each look at it makes an object
        self.number = number
        self.bindings = bindings
        self.caller = caller
        self.script = script
        self.limits = config.limits
        self.stage = Stage(loop, self._settle)
        self._slots = Slots(data, roster, number, config)
        self.commits = Commits(loop, self._slots.journal)
        self.sockets = HostSockets(self, caller.run)
        self.catalog = Catalog(self, config.limits.idle_s)
        self.entrypoint = Entrypoint(self)
        self.waiting = 0
        """Events that have started and not ended, those in mailboxes, and kept awaitables."""
        self.leaving = False
        self.closed = False
        self.calls = 0
        self.on_sent: Callable[[], None] = lambda: None
        """Called after messages were sent; the listener looks again then."""
        self.functions = Functions(caller.run)
        self.busy = Busy(roster, number, self._slots.slot)
        self.alarms = Alarms(self, self._slots)
        self.tending = Tending(self, self._slots)
        self._router = router
        self._roster = roster
        self._channels: dict[bytes, Channel] = {}
        self._strangers: dict[bytes, Channel] = {}
        """Callers that speak another version: each of their calls is answered so."""
        self._ready: deque[Channel] = deque()
        self._to_flush: list[Channel] = []
        self._flushing = False
        self._work_scheduled = False
        self._tell_at = 0
        self._telling_later = False
        self._plain = copy_context()
        self._watch: Watch | None = None
        local_exit = LocalExit()
        self.local = Channel(self, local_exit, is_peer=True)
        self._own_link = local_exit.link = caller.carry(self)
        self.handover = Handover(self, self._slots, roster, self._own_link)
        self._settle_until = 0
        self._settling = 0

    # --- messages in -----------------------------------------------------------------------------

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Take a batch from this host to itself (the carrier of its own link)."""
        if self._flushing and self._settling:
            self._work_within(batch, frames)
            return
        self._take(self.local, batch, frames)
        if self._flushing:  # at work already
            self._work_later()
        else:
            self.work()

    def _work_within(self, batch: Batch, frames: Sequence[Frame]) -> None:
        """Run the calls for which an event waits that is being run."""
        if self.local.astray:
            batch, frames = self.handover.sift(self.local, batch, frames)
        self.busy.nested = batch
        at = 0
        for message in batch:
            count = message[5] if message[0] in m.PACKED else 0
            try:
                self._handle(self.local, message, frames[at : at + count])
            except Exception:
                self._log_unhandled(self.local, message)
            at += count
        self.local.flush()

    def _settle(self, waiting: Any) -> bool:
        """Run a call from an object to another of this host while its caller waits for it.

        The caller is suspended, so events still never nest; what is saved are two rounds through the
        loop, more than half of such a call. For a slice of time only: then the loop gets its turn.
        """
        if type(waiting) is not Reply or waiting.link is not self._own_link:
            return False
        if not self._own_link.has_gathered:
            return waiting.done()
        if self._settling == DEPTH or self.local.batches:  # these come first
            return False
        now = time.monotonic_ns()
        if not self._settle_until:
            self._settle_until = now + SLICE_NS
            self.loop.call_soon(self._stop_settling)
        elif now > self._settle_until:
            return False
        self.busy.nested_at = now
        task = current_task(self.loop)
        if task is not None:
            _leave_task(self.loop, task)
        self._settling += 1
        try:
            self._own_link.flush()
        finally:
            self._settling -= 1
            if task is not None:
                _enter_task(self.loop, task)
        return waiting.done()

    def _stop_settling(self) -> None:
        self._settle_until = 0

    def take(self, identity: bytes, first: bytes, frames: Sequence[Frame]) -> None:
        """Take a batch that arrived on the ROUTER."""
        channel = self._channels.get(identity)
        known = channel or self._strangers.get(identity)
        if known is None and goes_on(first):
            return  # of a caller that was declared gone
        try:
            batch = decode(first) if known is None else known.decode(first)
        except WireError as error:  # whoever sent it, the others are not to suffer
            _log.error("%s (from %s)", error, identity.decode(errors="replace"))
            return
        if channel is None:
            channel = self._greet(identity, batch)
            if channel is None:
                return
        self._take(channel, batch, frames)

    def _take(self, channel: Channel, batch: Batch, frames: Sequence[Frame]) -> None:
        if not channel.batches:
            self._ready.append(channel)
        channel.batches.append((batch, frames, 0, 0))

    def _greet(self, identity: bytes, batch: Batch) -> Channel | None:
        """Make the channel of a new caller, whose first message is HELLO."""
        channel = self._strangers.get(identity)
        if channel is None:
            hello = batch[0]
            if hello[0] != m.HELLO:
                return None  # of a caller that was declared gone
            is_peer = identity[:1] == b"h"
            shelf = self.caller.shelf.to(identity.partition(LANE)[0].decode())
            way_out = RouterExit(self._router, identity)
            channel = Channel(self, way_out, is_peer=is_peer, shelf=shelf)
            if hello[1] == m.VERSION:
                self._channels[identity] = channel
                channel.post((m.WELCOME, 0))
                self.sockets.greeted(identity, channel)
                return channel
            self._strangers[identity] = channel
        error = WireError(
            f"this caller and host {self.number} are of different versions of Roost, whose "
            f"protocols differ (the host's is {m.VERSION}): install the same version for both"
        )
        for message in batch:
            if message[0] in m.CALLS:
                channel.post((m.ERROR, message[1], pack_error(error, None, remote=False)))
        return None

    def gone(self, identity: bytes) -> None:
        """Forget a caller that is no more: its streams break, its calls are cancelled."""
        for known in (self._channels, self._strangers):
            for name in [name for name in known if name.partition(LANE)[0] == identity]:
                self._leave(known.pop(name))
        self.caller.shelf.forget(identity.decode())

    def _leave(self, channel: Channel) -> None:
        channel.streams.lost(RuntimeClosed("the caller is gone"))
        for cancel in list(channel.under_way.values()):
            cancel()
        self.sockets.gone(channel)

    # --- work ------------------------------------------------------------------------------------

    def _work_later(self) -> None:
        if not self._work_scheduled:
            self._work_scheduled = True
            self.loop.call_soon(self.work)

    def work(self) -> None:
        """Work off what has arrived, for a slice of time."""
        self._work_scheduled = False
        ready = self._ready
        if not ready:
            return
        clock = time.monotonic_ns
        began = clock()
        self._roster.set_event(self.number, began, began)
        end = began + SLICE_NS
        flushed = began
        flush_at = began + FLUSH_NS
        self._flushing = True  # all that is said leaves at the end of the slice
        try:
            while ready:
                channel = ready[0]
                batches = channel.batches
                batch, frames, index, at = batches[0]
                if channel.astray:
                    batch, frames = self.handover.sift(channel, batch[index:], frames[at:])
                    index = at = 0
                for index in range(index, len(batch)):  # noqa: B020  known also after a failure
                    message = batch[index]
                    kind = message[0]
                    if kind == m.CALL:
                        _, call, target, method, args, kwargs = message
                        self.deliver(channel, call, target, method, args, kwargs)
                    elif kind in m.PACKED:
                        own = frames[at : at + message[5]]
                        at += message[5]
                        self._deliver_packed(channel, message, own)
                    else:
                        self._other(channel, kind, message)
                        flush_at = flushed + FLUSH_FETCHES_NS
                    now = clock()
                    if now > flush_at:
                        self.busy.ran(message, flushed, now)
                        flushed = now
                        flush_at = now + FLUSH_NS
                        self.flush()
                    if now > end:
                        self._pause(channel, batch, frames, index + 1, at)
                        return
                batches.popleft()
                if not batches:
                    ready.popleft()
        except Exception:
            # Go on behind the message: nothing that has run may run again.
            self._log_unhandled(channel, batch[index])
            self._pause(channel, batch, frames, index + 1, at)
        finally:
            now = clock()
            self._roster.set_event(self.number, 0, now)
            self.busy.worked += now - began
            # All figures take 1.5 µs, so they are told now and then; the last ones a moment late.
            if now > self._tell_at:
                self._sample(batch, now)
                self._tell(now)
            elif not self._telling_later:
                self._telling_later = True
                self.loop.call_later(TELL_NS / 1e9, self._tell_later)
            self._flushing = False
            self.flush()

    def _work_watched(self) -> None:
        """As `work`, in a host that has met a timed call."""
        if self._ready:
            assert self._watch is not None
            self._watch.begins(time.monotonic_ns())
            Host.work(self)
            self._watch.ends(time.monotonic_ns(), more=bool(self._ready))

    def _handle(self, channel: Channel, message: Message, frames: Sequence[Frame]) -> None:
        """Handle one message; what `work` does in its loop, without the call."""
        kind = message[0]
        if kind == m.CALL:
            _, call, target, method, args, kwargs = message
            self.deliver(channel, call, target, method, args, kwargs)
        elif kind in m.PACKED:
            self._deliver_packed(channel, message, frames)
        else:
            self._other(channel, kind, message)

    def _log_unhandled(self, channel: Channel, message: Message) -> None:
        """Log the exception that a message has caused, and answer it."""
        _log.exception("a message could not be handled: %r", message[:4])
        if len(message) > 1 and message[0] in m.CALLS:
            error = RoostError(f"host {self.number} could not handle the call: see its log")
            channel.post((m.ERROR, message[1], pack_error(error, None, remote=False)))

    def _pause(
        self, channel: Channel, batch: Batch, frames: Sequence[Frame], index: int, at: int
    ) -> None:
        """End the slice; the next one begins with another channel, if another has something."""
        ready, batches = self._ready, channel.batches
        if index < len(batch):
            batches[0] = (batch, frames, index, at)
        else:
            batches.popleft()
        ready.popleft()
        if batches:
            ready.append(channel)
        if ready:
            self._work_later()

    def deliver(
        self,
        channel: Channel,
        call: int,
        target: Any,
        method: str | RunCall | TimedCall | SocketEvent,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        incoming: Incoming | None = None,
    ) -> None:
        """Deliver a call to whom it is for."""
        self.calls += 1
        if self.closed or (self.leaving and not channel.is_peer):
            if incoming is not None:
                incoming.close()
            channel.post((m.REFUSED, call))
            return
        ticket = (channel, call, incoming)
        if target is None:
            # What happens to a socket always has an object.
            self.entrypoint.deliver(ticket, cast("str | RunCall", method), args, kwargs)
            return
        catalog = self.catalog
        activation = catalog.live.get(target[1])
        if activation is not None:
            activation.touched = catalog.now
        elif self.handover.refuses(channel, call, target[1]):
            if incoming is not None:
                incoming.close()
            return
        else:
            try:
                activation = catalog.find(target[1]) or self._activate(target)
            except Exception as error:  # its storage cannot be opened
                if incoming is not None:
                    incoming.close()
                channel.post((m.ERROR, call, pack_error(error, target[1], remote=False)))
                return
        activation.deliver(ticket, method, args, kwargs)

    def deliver_again(self, target: Target, mail: Mail) -> None:
        """Take an event that has waited for an activation which ended without it."""
        (channel, call, incoming), method, args, kwargs = mail
        if self.handover.leaving == self.slot_of(target[1]):  # it waits no longer than the others
            (self.catalog.find(target[1]) or self._activate(target)).deliver(*mail)
            return
        self.calls -= 1  # it was counted when it came
        self.deliver(channel, call, target, method, args, kwargs, incoming)

    def _activate(self, target: Target) -> Activation:
        if target[0] not in self.script.objects:
            raise RoostError(f"this worker has no Durable Object class {target[0]!r}")
        return self.catalog.activate(target)

    def _deliver_packed(self, channel: Channel, message: Message, frames: Sequence[Frame]) -> None:
        kind, call, target, method, data, _ = message
        if self.closed or (self.leaving and not channel.is_peer):
            channel.post((m.REFUSED, call))  # unread: its large buffers are for the next host
            return
        if kind == m.TIMED:
            self._deliver_timed(channel, message, frames)
            return
        if frames and self._is_astray(channel, call, target):
            return
        try:
            values = unpack(data, frames)
        except BaseException as cause:  # their types may not be importable here
            what = describe(target, method)
            error = TypeError(f"the arguments of {what} cannot be read in its host: {cause}")
            error.__cause__ = cause
            raw = None if target is None else target[1]
            channel.post((m.ERROR, call, pack_error(error, raw)))
        else:
            if kind == m.RUN:
                self.deliver(channel, call, target, RunCall(method, values), (), None)
            else:
                self.deliver(channel, call, target, method, *values)

    def _deliver_timed(self, channel: Channel, message: Message, frames: Sequence[Frame]) -> None:
        """Deliver the call that is in an envelope."""
        _, call, target, method, (kind, first, second, sent), _ = message
        if self._is_astray(channel, call, target):
            return
        if self._watch is None:
            self._watch = self.stage.watch = Watch()
            self.work = self._work_watched  # type: ignore[method-assign]  # others pay nothing for it
        timed = TimedCall(method, self._watch.waits_since(sent))
        self._handle(
            TimedChannel(channel, timed), (kind, call, target, timed, first, second), frames
        )

    def _other(self, channel: Channel, kind: int, message: Message) -> None:
        if kind == m.FETCH:
            _, call, target, method, url, headers, body = message
            if self.closed or (self.leaving and not channel.is_peer):
                channel.post((m.REFUSED, call))
                return
            if isinstance(body, int) and self._is_astray(channel, call, target):
                return
            inflow = channel.streams.receive(body) if isinstance(body, int) else None
            request = request_from_parts(method, url, headers, inflow or body)
            self.deliver(channel, call, target, "fetch", (request,), None, Incoming(inflow))
        elif kind in _SOCKETS:
            self.sockets.handle(channel, message)
        elif kind == m.OBJECTS:
            self._list_objects(channel, message)
        elif kind == m.TEND:
            self.tending.handle(channel, message)
        elif kind == m.FENCE:
            self.handover.fence(channel, *message[1:])
        elif kind == m.CANCEL:
            cancel = channel.under_way.get(message[1])
            if cancel is not None:
                cancel()
        elif kind == m.LEAVE:
            left = [name for name, its in self._channels.items() if its is channel]
            for name in left:
                self._leave(self._channels.pop(name))
        elif kind != m.HELLO:
            channel.streams.handle(message)

    def _is_astray(self, channel: Channel, call: int, target: Target | None) -> bool:
        """Whether a call was refused, unread, because its object's slot is not this host's."""
        return (
            target is not None
            and target[1] not in self.catalog.live
            and self.handover.refuses(channel, call, target[1])
        )

    def _list_objects(self, channel: Channel, message: Message) -> None:
        _, call, slot, limit, class_name = message
        if self.closed or (self.leaving and not channel.is_peer):
            channel.post((m.REFUSED, call))
            return
        if not self._slots.owns(slot):
            self.handover.refuse(channel, call, slot)
            return
        try:
            records = list(islice(self._slots.objects(slot, class_name), limit))
        except StorageError as error:
            channel.post((m.ERROR, call, pack_error(error, None)))
        else:
            channel.post((m.RESULT_PACKED, call, pack(records)[0], 0))

    def overloaded(self, who: str) -> Overloaded:
        """Return the error of an event that is one too many."""
        return Overloaded(
            "Durable Object is overloaded. Too many requests queued. "
            f"({self.limits.mailbox:,} events wait for {who})"
        )

    # --- messages out ----------------------------------------------------------------------------

    def flush_later(self, channel: Channel) -> None:
        """Send what a channel gathers, at the end of this tick or slice."""
        if not self._to_flush and not self._flushing:
            self.loop.call_soon(self.flush)
        self._to_flush.append(channel)

    def flush(self) -> None:
        """Send what all channels have gathered."""
        sent = False
        while self._to_flush:
            channels, self._to_flush = self._to_flush, []
            for channel in channels:
                sent = sent or channel is not self.local
                try:
                    channel.flush()
                except LookupError as gone:
                    channel.streams.lost(RuntimeClosed(str(gone)))
        if sent:
            self.on_sent()

    # --- where objects are ---------------------------------------------------------------------------

    def slot_of(self, raw: bytes) -> int:
        """Return the slot of an object."""
        return self._slots.slot(raw)

    def look(self) -> None:
        """Follow the roster: new peers, and slots that are new here."""
        self.caller.look()
        if self._slots.look():
            self.alarms.tick()

    # --- what activations need -------------------------------------------------------------------

    def storage_for(self, activation: Activation) -> ObjectStorage:
        """Open the storage of an object. Raises StorageError."""
        return self._slots.storage_for(activation)

    def context_of(self, event: Event) -> Context:
        """Return a context for a Task that belongs to somebody's events."""
        context = self._plain.copy()
        context.run(current_event.set, event)
        return context

    # --- the whole -------------------------------------------------------------------------------

    def _sample(self, batch: Batch, now: int) -> None:
        """Charge what has run since the last time."""
        last, self.stage.resumed = self.stage.resumed, None
        resumed = None
        if isinstance(last, Activation):
            resumed = (last.class_name, last.id.raw, last.id.name)
        self.busy.sample(batch, now, resumed)

    def _tell(self, now: int) -> None:
        """Write all figures into the roster."""
        self._tell_at = now + TELL_NS
        self._roster.set_figures(
            self.number,
            self.calls,
            len(self.catalog),
            self.waiting,
            time.thread_time_ns(),
            0,
            now,
        )

    def _tell_later(self) -> None:
        self._telling_later = False
        if not self.closed:
            self._tell(time.monotonic_ns())

    def tick(self) -> None:
        """Evict what is idle and show a sign of life; once a second."""
        self.catalog.tick(time.monotonic())
        self.caller.shelf.trim()
        now = time.monotonic_ns()
        self._sample([], now)
        self.busy.tick()
        self._tell(now)
        self.alarms.tick()
        self._slots.clear()

    def leave(self) -> None:
        """Take no new calls but those of peers."""
        self.handover.give_up("its host is leaving")
        self.leaving = True

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, so that the host may leave."""
        return (
            self.waiting == 0
            and not self._ready
            and self.commits.idle
            and not any(channel.streams.writing for channel in self._channels.values())
        )

    def say_goodbye(self) -> None:
        """Tell all callers that nothing more will come.

        Not peers that are leaving as well, since nothing of theirs is under way: one may have ended by
        now, and what is sent to it would keep this host from ending.
        """
        for identity, channel in self._channels.items():
            if not channel.is_peer or self._stays(identity):
                channel.post((m.GOODBYE,))
        self.flush()

    def _stays(self, peer: bytes) -> bool:
        return self._roster.identity(number_in(peer)).state == State.UP

    async def close(self) -> None:
        """Close the storage, when all events have ended."""
        self.closed = True
        await self.stage.close()
        self.commits.close()
        self.alarms.close()
        self._slots.close()
        self.bindings.close()
