"""Which host has each slot, as one process knows it, and what it calls while a slot moves.

A host that has given a slot away, or is about to, answers calls of it with MOVED, unstarted. The first
such answer parks the slot: a `Parked` link takes the place of the one to the owner, takes the refused
calls and all new ones, and sends the old owner a FENCE. Connections are FIFO, and the host refuses
until the fence comes; so when that is answered, every call made before was run there or is here.
Then all leave for the host that the slot table names: the refused ones first, in their order.

A caller that has not looked at the table since is refused likewise, so that nothing hangs on who is
told first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.ids import slot_of
from runtime.wire import messages as m
from runtime.wire.link import Link

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from runtime.roster import Roster
    from runtime.wire.codec import Frame
    from runtime.wire.link import Reply, Waiter
    from runtime.wire.messages import Message

_LAST = float("inf")
_FOR_HOSTS = frozenset({m.ATTACH, m.FENCE})
"""Calls that go to one host, whoever has the slot."""


class Placement:
    """See the module's text. Belongs to its process' loop."""

    def __init__(
        self, roster: Roster, links: Sequence[Link], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._roster = roster
        self._links = links
        self._loop = loop
        self._seen = roster.changes
        self._closed = False
        self.owners: list[Link] = [links[host] for host in roster.owners]
        """Where the calls of each slot go."""
        self.ways = [Way(link) for link in self.owners]
        """The same for stubs to keep."""
        self.parked: dict[int, Parked] = {}
        """The slots that are on their way, as far as this process has met them."""
        self.serving = -1
        """The slot that this very host is giving away, while it runs calls to itself that were made before."""
        for link in links:
            link.on_moved = self._moved
            link.on_next = self._take_waiting

    def look(self) -> None:
        """Follow the slot table."""
        if self._roster.changes == self._seen:
            return
        self._seen = self._roster.changes
        for slot, host in enumerate(self._roster.owners):
            if self.owners[slot] is not self._links[host]:
                self._park(slot)

    def when_settled(self, slot: int, then: Callable[[], None]) -> None:
        """Call a function when all has come that a former owner of a slot has said to this process."""
        self.look()
        parked = self.parked.get(slot)
        if parked is None:
            then()
        else:
            parked.then.append(then)

    def _moved(self, link: Link, call: int) -> None:
        """Take back a call that a host has refused, unless it was cancelled."""
        entry = link.take_back(call)
        if entry is not None:
            self._park(slot_in(entry[1], len(self.owners))).take(call, *entry)

    def _take_waiting(self, link: Link) -> None:
        """Have what waits for a new generation of a host wait here, where an older call was refused.

        The new generation knows of no refusal, and would run it at once.
        """
        for message in link.waiting if self.parked else ():
            if message[0] in _FOR_HOSTS or message[2] is None:
                continue
            parked = self.parked.get(slot_in(message, len(self.owners)))
            if parked is not None and parked.old is link:
                entry = link.take_back(message[1])
                if entry is not None:
                    parked.take(message[1], *entry)

    def _park(self, slot: int) -> Parked:
        parked = self.parked.get(slot)
        if parked is None:
            parked = self.parked[slot] = Parked(self.owners[slot], self._loop)
            self._lead(slot, parked)
            parked.fence(slot, lambda: self._settled(slot))
        return parked

    def _settled(self, slot: int) -> None:
        if self._closed:
            return
        parked = self.parked.pop(slot)
        owner = self._links[self._roster.owners[slot]]
        self._lead(slot, owner)
        parked.release(owner)
        for then in parked.then:
            then()

    def _lead(self, slot: int, link: Link) -> None:
        self.owners[slot] = link
        self.ways[slot].lead(link)

    def close(self, why: str) -> None:
        """Fail what is parked."""
        self._closed = True
        for parked in self.parked.values():
            parked.close(why)


class Way:
    """How to call the objects of a slot, wherever it is: what stubs keep.

    It has the link's own methods, so that a call takes no step more.
    """

    __slots__ = ("call", "submit")
    call: Callable[..., Reply]
    submit: Callable[..., Reply]

    def __init__(self, link: Link) -> None:
        self.lead(link)

    def lead(self, link: Link) -> None:
        """Lead to another link from now on."""
        self.call, self.submit = link.call, link.submit


class Parked(Link):
    """The calls of one slot that wait until it is known who has it: a link without a host."""

    __slots__ = ("_refused", "old", "then")

    def __init__(self, old: Link, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(old.host, loop)
        self.make, self.refuses = old.make, old.refuses
        self.old = old
        self._refused: dict[int, int] = {}
        """The numbers that refused calls had, by those that they have here."""
        self.then: list[Callable[[], None]] = []
        """What waits until the old owner has said all."""

    def fence(self, slot: int, then: Callable[[], None]) -> None:
        """Have a function called when the old owner has answered all calls that it got before."""
        waiter = Fence(then, self._loop)
        self.old.post_call(waiter, (m.FENCE, self.old.number(waiter), slot))

    def take(self, call: int, waiter: Waiter, message: Message, frames: Sequence[Frame]) -> None:
        """Keep a call that the old owner has refused."""
        forward(waiter, message, frames, self.old, self)
        self._refused[waiter.call] = call

    def release(self, owner: Link) -> None:
        """Send all that waits here, in its order."""
        for message in sorted(
            self.waiting, key=lambda message: self._refused.get(message[1], _LAST)
        ):
            entry = self.take_back(message[1])
            if entry is not None:
                forward(*entry, self, owner)


class Fence:
    """Waits for the answer of a fence, or the end of the host that should give it."""

    __slots__ = ("_loop", "_then", "call", "link", "message")
    call: int
    link: Link
    message: Message

    def __init__(self, then: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._then = then
        self._loop = loop

    def done(self) -> bool:
        """Nobody gives up waiting."""
        return False

    def set_result(self, _result: object, /) -> None:
        """All is answered."""
        self._then()

    def set_exception(self, _exception: BaseException, /) -> None:
        """Nothing more will come."""
        self._loop.call_soon(self._then)  # the link is in the middle of failing its calls


def forward(
    waiter: Waiter, message: Message, frames: Sequence[Frame], old: Link, new: Link
) -> None:
    """Send by one link what was numbered for another, which has not begun to read its body."""
    call = new.number(waiter)
    if message[0] == m.FETCH and isinstance(message[6], int):
        message = (*message[:6], old.streams.hand_over(message[6], new.streams))
    new.post_call(waiter, (message[0], call, *message[2:]), frames)


def slot_in(message: Message, slots: int) -> int:
    """Return the slot that a call is for, which has one."""
    slot: int = message[2] if message[0] in m.OF_SLOTS else slot_of(message[2][1], slots)
    return slot
