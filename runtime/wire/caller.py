"""Calls from one asyncio process straight to the owners of objects.

The caller hashes the id, looks its slot up, and sends to the host that owns it: one hop, no
broker. For each host there is one `Link` (what is unanswered) and, while a generation of it is
up, one `Dialer` (a DEALER socket, watched by the loop). The roster says who is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from runtime.ids import slot_of
from runtime.roster import Roster, State, describe_loss, endpoint
from runtime.wire import messages as m
from runtime.wire.codec import SOCKET, decode, parcel
from runtime.wire.deadlines import Deadlines
from runtime.wire.link import BURST, Link, Reply
from runtime.wire.listener import readable
from runtime.wire.numbers import Encoder
from runtime.wire.parked import Fence, Placement, forward
from workers.body import take_content
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from runtime.wire.codec import Frame, Parcel
    from runtime.wire.link import Carrier, Waiter
    from runtime.wire.messages import Batch, Message, Target
    from runtime.wire.parked import Way
    from runtime.wire.shelf import Shelf
    from workers import Request
    from workers.body import Content

LANE = b"+"
"""Stands in the names of a process' further connections, those of its blocking calls."""

FETCHES = 16
"""Requests after which those so far leave: each takes its caller a while (see BURST)."""

DRAIN = 8
"""Batches taken from one socket before the rest of the loop gets its turn.

With 64 thousands of calls are answered at a time, more than Python keeps the tuples of for those made
next, and its garbage collector takes 0.3 µs a call.
"""

GOODBYE_SECONDS = 0.5
"""How long to wait for the last answers of a host that has left in order: they are on this machine."""


class Dialer:
    """A DEALER to one generation of a host, watched by the loop."""

    def __init__(
        self,
        link: Link,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        on_goodbye: Callable[[], None],
    ) -> None:
        self._on_goodbye = on_goodbye
        self._link = link
        self._loop = loop
        self._socket: zmq.Socket[bytes] | None = socket
        self._handle = int(socket.getsockopt(zmq.FD))
        self._again = False
        self._encode = Encoder().encode
        self.heard = False
        """Whether the host has taken note of this connection."""
        self.goodbye = False
        """Whether nothing more will come."""
        self.give_up = 0.0
        """When, on the loop's clock, a goodbye is no longer waited for."""
        loop.add_reader(self._handle, self.drain)

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Send a batch; the socket queues without limit, the link's window bounds it."""
        if self._socket is None:
            return
        if not frames:
            self._socket.send(self._encode(batch), zmq.DONTWAIT)
        else:
            self._socket.send_multipart([self._encode(batch), *frames], zmq.DONTWAIT, copy=False)
        # Sending can take the edge that told of an answer, so look again.
        if not self._again and readable(self._socket):
            self._again = True
            self._loop.call_soon(self._drain_again)

    def _drain_again(self) -> None:
        self._again = False
        self.drain()

    def drain(self) -> None:
        """Take what has arrived."""
        socket = self._socket
        if socket is None:
            return
        for _ in range(DRAIN):
            if not readable(socket):
                return
            first = socket.recv(zmq.DONTWAIT)
            frames: list[Frame] = []
            while socket.get(zmq.RCVMORE):
                frames.append(socket.recv(zmq.DONTWAIT))
            self.heard = True
            if self._link.receive(decode(first), frames):
                self.goodbye = True
                self._loop.call_soon(self._on_goodbye)
                return
        if not self._again:
            self._again = True
            self._loop.call_soon(self._drain_again)

    def drain_all(self) -> None:
        """Take everything that has arrived."""
        while self._socket is not None and readable(self._socket):
            self.drain()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._handle)
        self._socket.close(linger=0 if self.goodbye else None)
        self._socket = None


class Caller:
    """Calls to all hosts of an instance."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        run: Path,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: bytes,
        *,
        shelf: Shelf = SOCKET,
        own_host: int = -1,
    ) -> None:
        self._own_host = own_host
        self._loop = loop
        self._roster = roster
        self.run = run
        """The run directory."""
        self._context = context
        self._identity = identity
        self._dialers: dict[int, Dialer] = {}
        self._refusal = ""  # why no new call is taken
        self._closed = False
        self.shelf = shelf
        self.deadlines = Deadlines(loop)
        self.links = [Link(host, loop) for host in range(roster.hosts)]
        for link in self.links:
            link.make = self.make
            link.elsewhere = self._elsewhere
        self.placement = Placement(roster, self.links, loop)
        self._owners = self.placement.owners
        """The link to the owner of each slot."""

    def link_of(self, target: Target | None) -> Link:
        """Return the link to the owner of an object, or to the host with the least to do."""
        if target is None:
            if len(self.links) == 1:
                return self.links[0]
            return min(self.links, key=_load)
        return self._owners[slot_of(target[1], len(self._owners))]

    def _elsewhere(self, waiter: Waiter, message: Message, frames: Sequence[Frame]) -> bool:
        """Send a stateless call to a host that is up, after another has refused it."""
        link = self.link_of(None)
        if link.waits:
            return False
        link.post_call(waiter, (message[0], link.number(waiter), *message[2:]), frames)
        return True

    def prepare(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> tuple[Reply, Message, Sequence[Frame]]:
        """Build a call from values as they are now; `post_prepared` sends it.

        Raises TypeError when an argument cannot be sent.
        """
        if self._refusal:
            raise RuntimeClosed(self._refusal)
        link = self.link_of(target)
        shelf = SOCKET if link.host == self._own_host else self.shelf
        kind, first, second, frames = parcel(args, kwargs, shelf)
        reply = Reply(loop=self._loop)
        number = link.number(reply)
        if timeout is not None:
            self.deadlines.add(reply, timeout, target, method)
        return reply, (kind, number, target, method, first, second), frames

    def post_prepared(self, reply: Reply, message: Message, frames: Sequence[Frame]) -> None:
        """Send a call that was built a while ago, to where its object is by now."""
        link, target = reply.link, message[2]
        if target is not None:
            slot = slot_of(target[1], len(self._owners))
            owner = self._owners[slot]
            if owner is not link and slot != self.placement.serving:
                forward(reply, message, frames, link, owner)
                return
        link.post_call(reply, message, frames)

    def post(self, waiter: Waiter, target: Target | None, method: str, ready: Parcel) -> None:
        """Send a call whose arguments are packed already, for somebody else's waiter."""
        if self._refusal:
            waiter.set_exception(RuntimeClosed(self._refusal))
            return
        kind, first, second, frames = ready
        link = self.link_of(target)
        number = link.number(waiter)
        link.post_call(waiter, (kind, number, target, method, first, second), frames)
        link.burst(number, BURST)

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Call a method. The future has its result, or the exception that it raised."""
        if target is None:
            return self.make(None, method, args, kwargs, timeout)
        owners, raw = self._owners, target[1]
        link = owners[(raw[6] << 8 | raw[7]) % len(owners)]  # `slot_of`, without its call
        return link.call(target, method, args, kwargs, timeout)

    submit = call

    def way_to(self, target: Target) -> Way:
        """Return the way to an object, which makes its calls with fewer steps."""
        return self.placement.ways[slot_of(target[1], len(self._owners))]

    def make(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Make a call of any kind."""
        reply, message, frames = self.prepare(target, method, args, kwargs, timeout)
        reply.link.post_call(reply, message, frames)
        return reply

    def prepare_fetch(self, target: Target | None, request: Request) -> tuple[Reply, Message]:
        """Build the call of fetch(request); the request's body is used up by it."""
        if self._refusal:
            raise RuntimeClosed(self._refusal)
        link = self.link_of(target)
        reply = Reply(loop=self._loop)
        link.number(reply)
        content = take_content(request)
        body: Any = content
        if content is not None and not isinstance(content, bytes):
            body = link.streams.send(content)
        message = (
            m.FETCH,
            reply.call,
            target,
            str(request.method),
            request.url,
            request.headers.raw().copy(),  # as they are now
            body,
        )
        return reply, message

    def send_request(
        self,
        waiter: Waiter,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        content: Content,
    ) -> None:
        """Send what an HTTP parser has found to the entrypoint; nothing is copied."""
        if self._refusal:
            waiter.set_exception(RuntimeClosed(self._refusal))
            return
        link = self.link_of(None)
        call = link.number(waiter)
        body: Any = content
        if content is not None and not isinstance(content, bytes):
            body = link.streams.send(content)
        link.post_call(waiter, (m.FETCH, call, None, method, url, headers, body))
        link.burst(call, FETCHES)

    def fetch(self, target: Target | None, request: Request) -> Reply:
        """Send an HTTP request. The future has the Response."""
        reply, message = self.prepare_fetch(target, request)
        reply.link.post_call(reply, message)
        reply.link.burst(reply.call, FETCHES)
        return reply

    @property
    def slots(self) -> int:
        """How many slots the instance has."""
        return len(self._owners)

    def objects(self, slot: int, limit: int, class_name: str | None) -> Reply:
        """Ask which objects of a slot have storage. The future has a list of ObjectRecord."""
        return self._of_slot(m.OBJECTS, slot, limit, class_name)

    def tend(self, slot: int, verb: str, *arguments: Any) -> Reply:
        """Have the owner of a slot look after its objects; see `runtime.host.tending`."""
        return self._of_slot(m.TEND, slot, verb, arguments)

    def _of_slot(self, kind: int, slot: int, *rest: Any) -> Reply:
        if self._refusal:
            raise RuntimeClosed(self._refusal)
        link = self._owners[slot]
        reply = Reply(loop=self._loop)
        link.post_call(reply, (kind, link.number(reply), slot, *rest))
        return reply

    def carry(self, carrier: Carrier) -> Link:
        """Carry the calls of a host to itself by something else than a socket."""
        link = self.links[self._own_host]
        link.bursts = False
        link.connected(0, carrier)
        return link

    def look(self) -> None:
        """Follow the roster: leave hosts that are gone, connect to those that are up."""
        if self._closed:
            return
        for link in self.links:
            if link.host == self._own_host:
                continue
            identity = self._roster.identity(link.host)
            link.leaving = identity.state == State.LEAVING
            dialer = self._dialers.get(link.host)
            if dialer is not None and identity.generation != link.generation:
                in_order = identity.left_in_order(link.generation)
                if not self._has_ended(dialer, in_order=in_order):
                    continue
                del self._dialers[link.host]
                if dialer.goodbye or (in_order and not dialer.heard):
                    link.left()
                else:
                    link.lost(describe_loss(link.host, link.generation, identity))
                dialer.close()
                dialer = None
            # What is under way elsewhere may need a host that is leaving; new work may not.
            peer = link.leaving and self._own_host >= 0
            if dialer is None and (identity.state == State.UP or peer):
                self._connect(link, identity.generation)
        self.placement.look()

    def _has_ended(self, dialer: Dialer, *, in_order: bool) -> bool:
        """Whether everything has come that a host said which is gone.

        Answers that arrived before its end are good. One that left in order has its last ones still
        under way, up to its goodbye; it says none to a caller that it never heard.
        """
        dialer.drain_all()
        if dialer.goodbye or not in_order:
            return True
        now = self._loop.time()
        if not dialer.give_up:
            dialer.give_up = now + GOODBYE_SECONDS
            self._loop.call_at(dialer.give_up, self.look)
        return now >= dialer.give_up

    def _connect(self, link: Link, generation: int) -> None:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.IDENTITY, self._identity)
        socket.connect(endpoint(self.run, link.host, generation))
        dialer = self._dialers[link.host] = Dialer(link, self._loop, socket, self.look)
        dialer.send([(m.HELLO, m.VERSION)], [])
        link.connected(generation, dialer)

    def refuse(self, why: str) -> None:
        """Take no new calls; those that were made go on."""
        self._refusal = why
        for link in (*self.links, *self.placement.parked.values()):
            link.refuses = True

    def strand(self, why: str) -> None:
        """Fail the calls that no host has taken, and take no new ones: the hosts are leaving."""
        self.refuse(why)
        for link in (*self.links, *self.placement.parked.values()):
            link.strand(why)

    def unanswered(self) -> list[Waiter]:
        """Return who waits for an answer."""
        links = (*self.links, *self.placement.parked.values())
        waiters = (waiter for link in links for waiter in link.unanswered.values())
        return [waiter for waiter in waiters if type(waiter) is not Fence]

    def close(self, why: str = "the runtime was closed") -> None:
        """Fail what is unanswered and close all sockets."""
        self._closed = True
        self.refuse(why)
        self.placement.close(why)
        for link in self.links:
            link.close(why)
        for dialer in self._dialers.values():
            dialer.close()
        self._dialers.clear()


def _load(link: Link) -> tuple[bool, int]:
    return link.waits, len(link.unanswered)


def identity_of(kind: str, number: int, random: bytes) -> bytes:
    """Return the name of a connecting process: what it is, its number, and random bytes."""
    return f"{kind}{number}-{random.hex()}".encode()


def number_in(identity: bytes) -> int:
    """Return the number of a process in its name."""
    return int(identity[1:].partition(b"-")[0])
