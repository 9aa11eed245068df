"""Gives a slot to another host while calls flow, and refuses calls of slots that are not this host's.

From the order on, nothing new of the slot's objects begins here: calls are refused unstarted (MOVED),
alarms do not ring. What has begun goes on to its end and its commit; then the activations are
forgotten, the files closed, and the supervisor told, who writes the slot table. WebSockets stay in
their gateways, as in hibernation, which first say that they have heard all that was said to them: so
nothing that the next host says overtakes it. An event that does not end in time has the slot stay; so does, at
once, a WebSocket that was taken with `accept()`, which only its object's instance hears.

A caller of which a call was refused is refused all that it calls in the slot until its FENCE, whoever
has the slot meanwhile: calls that it made before must not overtake that one (see `wire.parked`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from runtime.host.activation import Activation
from runtime.wire import messages as m
from runtime.wire.parked import slot_in

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable, Sequence

    from runtime.host.activation import Ticket
    from runtime.host.channel import Channel
    from runtime.host.host import Host
    from runtime.host.slots import Slots
    from runtime.roster import Roster
    from runtime.wire.codec import Frame
    from runtime.wire.link import Link, Reply
    from runtime.wire.messages import Batch, Message, Target
    from workers import Request
    from workers.errors import ObjectReset

PATIENCE_SECONDS: Final = 1.0
"""How long events under way get to end: so long the slot's calls stand still in vain if one does not."""


class Handover:
    """See the module's text. Belongs to its host's loop."""

    def __init__(self, host: Host, slots: Slots, roster: Roster, own_link: Link) -> None:
        self._host = host
        self._slots = slots
        self._roster = roster
        self._own_link = own_link
        self.leaving = -1
        """The slot that is being given away; -1 when there is none."""
        self._timer: TimerHandle | None = None
        self._looking = False
        self._asked = False  # whether the gateways have heard all
        self._say: Callable[[str, str], object] = _nobody
        self._busy: list[Activation] = []
        self._before = 0  # calls of this host to itself up to this number are served: they are few
        self._within: set[int] = set()  # so are these, which the slot's own events make
        self._fences: list[tuple[Channel, int, int]] = []

    # --- calls -----------------------------------------------------------------------------------

    def refuses(self, channel: Channel, call: int, raw: bytes) -> bool:
        """Whether a call of an object that is not live was refused, since its slot is not here."""
        slot = self._slots.slot(raw)
        if self._slots.owns(slot) or self._is_served(channel, call, slot):
            return False
        self.refuse(channel, call, slot)
        return True

    def refuse(self, channel: Channel, call: int, slot: int) -> None:
        """Refuse a call, unstarted."""
        channel.astray.add(slot)
        channel.post((m.MOVED, call))

    def _is_served(self, channel: Channel, call: int, slot: int) -> bool:
        return (
            slot == self.leaving
            and channel is self._host.local
            and (call <= self._before or call in self._within)
        )

    def fence(self, channel: Channel, call: int, slot: int) -> None:
        """Answer a caller from which no older call of a slot can come, when it is known whose it is."""
        host = self._host
        if host.closed or (host.leaving and not channel.is_peer):
            channel.post((m.REFUSED, call))  # its successor takes the ones before this, and answers
            return
        channel.astray.discard(slot)
        if slot in self._slots.leaving:
            self._fences.append((channel, call, slot))
        else:
            channel.post((m.RESULT, call, None))

    def sift(
        self, channel: Channel, batch: Batch, frames: Sequence[Frame]
    ) -> tuple[Batch, Sequence[Frame]]:
        """Refuse what a caller calls in slots of which it was refused calls; returns the others."""
        astray = set(channel.astray)
        kept: Batch = []
        own: list[Frame] = []
        at = 0
        for message in batch:
            count = message[5] if message[0] in m.PACKED else 0
            if message[0] == m.FENCE:
                astray.discard(message[2])
            elif (slot := self._slot(channel, message)) in astray and not self._is_served(
                channel, message[1], slot
            ):
                channel.post((m.MOVED, message[1]))
                at += count
                continue
            kept.append(message)
            own += frames[at : at + count]
            at += count
        return kept, own

    def _slot(self, channel: Channel, message: Message) -> int:
        """Return the slot for whose sake a message may be refused, -1 for one that never is."""
        kind = message[0]
        if kind not in m.CALLS or kind == m.ATTACH or message[2] is None:
            return -1
        if kind == m.SAID and self._host.sockets.listens(channel, message[4]):
            return -1
        return slot_in(message, self._roster.slots)

    # --- giving a slot ---------------------------------------------------------------------------

    def give(self, slot: int, say: Callable[[str, str], object]) -> None:
        """Give a slot away, and say `gave`, or `kept` and why."""
        # Not before this host knows itself where it is: calls of the slot's objects to each other may
        # still wait for its former owner, and their events for them.
        placement = self._host.caller.placement
        placement.when_settled(slot, lambda: self._begin(slot, say))

    def _begin(self, slot: int, say: Callable[[str, str], object]) -> None:
        host = self._host
        if host.leaving or host.closed or self.leaving >= 0 or not self._slots.owns(slot):
            say("kept", f"{slot} host {host.number} cannot give it now")
            return
        self.leaving, self._say = slot, say
        self._timer = host.loop.call_later(PATIENCE_SECONDS, self._too_late)
        self._slots.leaving.add(slot)
        host.alarms.drop(slot)
        host.catalog.set_aside(slot, _Leaving)
        self._before = self._own_link.numbered
        host.caller.placement.serving = slot
        self.look()

    def look(self) -> None:
        """Take note that something has ended, which may be the last that a slot is kept for."""
        if self.leaving >= 0 and not self._looking:
            self._looking = True
            self._host.loop.call_soon(self._look)

    def _look(self, heard: object = None) -> None:
        """Go on if all has ended, or give up if something will not; `heard` is the give that gateways know of."""
        self._looking = False
        if self.leaving < 0:
            return
        host, slot = self._host, self.leaving
        aside = host.catalog.aside
        self._busy = [
            each for each in self._busy if not each.idle and aside.get(each.raw_id) is each
        ]
        if not self._busy:
            self._busy = [each for each in aside.values() if not each.idle]
        for each in self._busy:
            if each.sockets is not None and each.sockets.listening:
                self.give_up(
                    f"{_name(each)} has a WebSocket taken with accept(), which only its instance "
                    "can hear: ctx.acceptWebSocket() takes one that moves along"
                )
                return
        if self._busy or host.alarms.rings(slot) or host.tending.uses(slot):
            return
        if self._has_more():
            self.look()  # the next turns of the loop serve it
        elif heard is self._timer:
            self._given()
        elif not self._asked:
            self._asked = True
            host.sockets.when_heard(partial(self._look, self._timer))

    def _has_more(self) -> bool:
        """Whether a call of this host to itself is on the way that will be served."""
        local, slot = self._host.local, self.leaving
        batches = [batch[index:] for batch, _, index, _ in local.batches]
        return any(
            self._slot(local, message) == slot and self._is_served(local, message[1], slot)
            for batch in (self._own_link.gathered, *batches)
            for message in batch
        )

    def _too_late(self) -> None:
        if self._asked:
            self.give_up("a gateway does not say that it has heard what was said to WebSockets")
            return
        who = _name(self._busy[0]) if self._busy else "its objects"
        self.give_up(
            f"an event of {who}, or what it left running (waitUntil(), an outgoing WebSocket), goes on"
        )

    def _given(self) -> None:
        """Close what is here of the slot, and say so."""
        host, slot = self._host, self.leaving
        host.flush()  # what its objects have said has left before another host has them
        for activation in host.catalog.aside.values():
            activation.storage.retire()
        host.catalog.forget_aside()
        self._end()
        self._slots.release(slot)
        self._say("gave", str(slot))

    def give_up(self, why: str) -> None:
        """Keep the slot that was to be given away, if there is one; its objects' calls go on here."""
        slot = self.leaving
        if slot < 0:
            return
        self._host.catalog.take_back()
        self._end()
        self.moved(slot)
        self._host.alarms.tick()
        self._say("kept", f"{slot} {why}")

    def _end(self) -> None:
        self.leaving = self._host.caller.placement.serving = -1
        assert self._timer is not None
        self._timer.cancel()
        self._asked = False
        self._busy = []
        self._within.clear()

    def moved(self, slot: int) -> None:
        """Take note that the slot table says whose a slot is, and tell who waits for it."""
        self._slots.look()
        self._slots.leaving.discard(slot)
        fences, self._fences = self._fences, []
        for fence in fences:
            channel, call, its_slot = fence
            if its_slot == slot:
                channel.post((m.RESULT, call, None))
            else:
                self._fences.append(fence)

    def call_within(self, target: Target | None, make: Callable[[], Reply]) -> Reply:
        """Make a call of an object of the slot, which is served when it stays in the slot."""
        if target is None or self._slots.slot(target[1]) != self.leaving:
            return make()
        owners = self._host.caller.placement.owners
        parked, owners[self.leaving] = owners[self.leaving], self._own_link
        try:
            reply = make()
        finally:
            owners[self.leaving] = parked
        self._within.add(reply.call)
        return reply


class _Leaving(Activation):
    """An activation whose slot is being given away: its events may need others of the slot to end.

    It tells when something of it has ended. What ends elsewhere, such as a flow, tells itself.
    """

    __slots__ = ()

    def released(self, ticket: Ticket) -> None:
        """Take note that an event that waited is about to end."""
        super().released(ticket)
        self.host.handover.look()

    def take_mail(self) -> None:
        """Start what waits in the mailbox."""
        super().take_mail()
        self.host.handover.look()

    def confirmed(self) -> None:
        """Let out what waited for the commit that is now durable."""
        super().confirmed()
        self.host.handover.look()

    def commit_failed(self, error: ObjectReset) -> None:
        """Reset the object, whose writes could not be committed."""
        super().commit_failed(error)
        self.host.handover.look()

    def reset(self, error: ObjectReset) -> None:
        """Throw the instance away."""
        super().reset(error)
        self.host.handover.look()

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Call another object."""
        make = super().call
        return self.host.handover.call_within(
            target, lambda: make(target, method, args, kwargs, timeout)
        )

    submit = call

    def fetch(self, target: Target | None, request: Request) -> Reply:
        """Send a request to another object."""
        make = super().fetch
        return self.host.handover.call_within(target, lambda: make(target, request))


def _name(activation: Activation) -> str:
    """Name an object as its callers know it."""
    name = activation.id.name
    called = "" if name is None else f" ({name!r})"
    return f"{activation.class_name} {activation.id}{called}"


def _nobody(_verb: str, _text: str) -> None:
    """Nobody has asked for a slot yet."""
