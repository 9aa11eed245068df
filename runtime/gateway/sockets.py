"""The WebSockets of one gateway: which there are, whose they are, and what hosts say of them.

A socket outlives hosts. Here, in the gateway's memory, is all that is kept of it: the connection,
its object, tags and attachment; a host that activates the object asks for them.

What comes from a client is a call to its object's host: it waits while the host is replaced, keeps
its order, and is answered when the object has handled it and what it wrote is durable. A call that
was under way when its host died is not made again, because nobody can know whether it ran: the
object is told by `webSocketError`, once for each socket that has lost messages.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode

from runtime.gateway.failures import note
from runtime.gateway.frames import PLAIN, Frames
from runtime.gateway.lossy import LossySocket
from runtime.gateway.socket import Socket
from runtime.gateway.upgrade import head_of
from runtime.wire import messages as m
from runtime.wire.link import describe
from runtime.wire.sockets import Kept, Package
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.config.sockets import SocketLimits
    from runtime.gateway.exchange import Exchange
    from runtime.gateway.frames import Payload
    from runtime.gateway.upgrade import Handshake
    from runtime.wire.caller import Caller
    from runtime.wire.link import Link
    from runtime.wire.messages import Message, Target
    from runtime.wire.sockets import Census, Offer
    from workers import Response

WINDOW = 2_048
"""Unhandled messages that a gateway sends to one object; the rest waits here, unread."""

TRIES = 10
"""How often an object is told of a socket's end or losses, while it or its host ends meanwhile."""

SLICES = 16
"""The sockets are looked at in so many portions, so that a look at all of them stalls nothing."""

NEWS_SECONDS = 1.0
"""Between two reports to an object's host of automatic answers and dropped messages."""

RESTARTED = (1012, "the object that held this WebSocket is no longer in memory: connect again")
LEAVING = (1001, "the server is stopping")


@dataclass(slots=True, eq=False)
class Owner:
    """Who has sockets: an object; or what accepted them with accept(), and dies with its host."""

    target: Target | None
    link: Link
    """To the host that accepted them. Those that outlive it are heard by whoever has the object."""
    lasting: bool
    """Whether the sockets outlive the host."""
    sockets: dict[int, Socket] = field(default_factory=dict)
    auto: tuple[str, str] | None = None
    auto_frame: bytes = b""
    waiting: deque[Delivery] = field(default_factory=deque)
    under_way: int = 0
    news: set[int] = field(default_factory=set)
    """Sockets of which its host is to be told something."""


class Delivery:
    """Something that happened to a socket, on its way to the object; waits for the answer."""

    __slots__ = (
        "_size",
        "_sockets",
        "_tries",
        "call",
        "facts",
        "handler",
        "link",
        "message",
        "socket",
    )
    call: int
    link: Any
    message: Message

    def __init__(
        self, sockets: Sockets, socket: Socket, handler: str, facts: tuple[Any, ...], size: int
    ) -> None:
        self._sockets = sockets
        self._size = size
        self._tries = TRIES
        self.socket = socket
        self.handler = handler
        self.facts = facts

    def done(self) -> bool:
        """Nobody gives up waiting."""
        return False

    def set_result(self, _result: object, /) -> None:
        """The object has handled it."""
        self._over()
        self._end()

    def set_exception(self, error: BaseException, /) -> None:
        """The object has not handled it, or not to the end."""
        self._over()
        if isinstance(error, RuntimeClosed):
            return
        retryable = bool(getattr(error, "retryable", False))
        if self.handler != "webSocketMessage":
            self._tries -= 1
            if retryable and self._tries:
                self._sockets.deliver(self)
                return
            self._end()
        elif retryable:
            self._sockets.lost(self.socket, str(error))
            return
        elif getattr(error, "overloaded", False):
            self.socket.shut(1013, "the object is overloaded")
        target = self.socket.owner.target
        note(error, "WS", describe(target, self.handler), 101, brief=retryable)

    def _end(self) -> None:
        """The object knows it, or never will."""
        if self.handler == "webSocketError":
            self.socket.lost = False
        elif self.handler == "webSocketClose":
            self._sockets.forget(self.socket)

    def _over(self) -> None:
        """It is not under way any more."""
        if self.handler == "webSocketMessage":
            self.socket.answered(self._size)
        self._sockets.answered(self.socket.owner)


class Attachment:
    """Waits for a host's word that a pair is connected."""

    __slots__ = ("_sockets", "call", "link", "message", "package", "pair", "socket")
    call: int
    link: Any
    message: Message

    def __init__(
        self, sockets: Sockets, socket: Socket, pair: int, package: Package | None
    ) -> None:
        self._sockets = sockets
        self.socket = socket
        self.pair = pair
        self.package = package

    def done(self) -> bool:
        """Nobody gives up waiting."""
        return False

    def set_result(self, known: object, /) -> None:
        """Take whether the host knows the pair."""
        if known:
            return
        if self.socket.owner.lasting:
            self._sockets.attach_again(self)
        else:
            self.socket.shut(*RESTARTED)

    def set_exception(self, _error: BaseException, /) -> None:
        """The host is gone, and the pair with it."""
        self.set_result(False)


class Sockets:
    """See the module's text. Belongs to the gateway's loop."""

    def __init__(self, caller: Caller, limits: SocketLimits, number: int, census: Census) -> None:
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._caller = caller
        self._number = number
        self._census = census
        self._count = 0
        self._sockets: dict[int, Socket] = {}
        self._owners: dict[object, Owner] = {}
        self._connected = 0
        self._lossy = frozenset(limits.lossy)
        self._news: set[bytes] = set()
        self._ping = Frame(Opcode.PING, b"").serialize(mask=False)
        self._idle: asyncio.Future[None] | None = None
        for link in caller.links:
            link.on_sockets = self._hear
            link.on_end = self._ended
        if limits.ping_s:
            self.later(limits.ping_s / SLICES, self._look)

    @property
    def full(self) -> bool:
        """Whether there are as many sockets as there may be."""
        return self._connected >= self.limits.connections

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function in some seconds."""
        self._loop.call_later(seconds, function)

    # --- opening ---------------------------------------------------------------------------------

    def open(self, exchange: Exchange, response: Response, handshake: Handshake) -> None:
        """Take the connection of a request over, as the WebSocket that answers it.

        Raises ValueError when the response's headers cannot be sent.
        """
        head = head_of(response, handshake)
        offer: Offer = response.web_socket._offer  # noqa: SLF001
        host, pair, target, package = offer.use()
        owner = self._owner(host, target, lasting=package is not None)
        tags, attachment, protocol, auto = package or Package((), None, None, None)
        self._count += 1
        deflate = handshake.deflate
        kind = Socket if self._lossy.isdisjoint(tags) else LossySocket
        socket = kind(self, owner, self._count, tags, attachment, protocol, deflate)
        if owner.lasting and not owner.sockets:
            assert target is not None
            self._census.add(target[1], 1)
            _set_auto(owner, auto)
        owner.sockets[socket.number] = self._sockets[socket.number] = socket
        self._attach(Attachment(self, socket, pair, package), self._caller.links[host])
        self._connected += 1
        exchange.upgraded()
        exchange.connection.hand_over(head, socket)

    def _attach(self, waiter: Attachment, link: Link) -> None:
        """Tell a host which socket a pair is."""
        socket, number = waiter.socket, link.number(waiter)
        target, pair, package = socket.owner.target, waiter.pair, waiter.package
        link.post_call(waiter, (m.ATTACH, number, target, "upgrade", pair, socket.number, package))

    def attach_again(self, waiter: Attachment) -> None:
        """Tell the host that has the object now of a socket whose pair ended with another host's activation."""
        link = self._link(waiter.socket.owner)
        if link.host != waiter.link.host:
            self._attach(waiter, link)

    def _link(self, owner: Owner) -> Link:
        """Return the link to whoever hears the sockets of an owner."""
        return self._caller.link_of(owner.target) if owner.lasting else owner.link

    def _owner(self, host: int, target: Target | None, *, lasting: bool) -> Owner:
        raw = None if target is None else target[1]
        key = raw if lasting else (host, raw)
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = Owner(target, self._caller.links[host], lasting)
        return owner

    # --- from clients ----------------------------------------------------------------------------

    def said(self, socket: Socket, payload: Payload) -> None:
        """Pass on a message of a client, or answer it without the object."""
        owner = socket.owner
        auto = owner.auto
        if auto is not None and payload == auto[0]:
            socket.answered(len(payload))
            socket.send(owner.auto_frame)
            socket.stamp = time.time() * 1000
            self.tell_later(socket)
            return
        self.deliver(Delivery(self, socket, "webSocketMessage", (payload,), len(payload)))

    def closed(self, socket: Socket, facts: tuple[int, str, bool]) -> None:
        """Pass on the end of a socket."""
        self.deliver(Delivery(self, socket, "webSocketClose", facts, 0))

    def lost(self, socket: Socket, why: str) -> None:
        """Tell the object that it may have missed messages of a socket."""
        if not socket.lost and not socket.closing:
            socket.lost = True
            facts = (f"messages of this WebSocket may be lost: {why}",)
            self.deliver(Delivery(self, socket, "webSocketError", facts, 0))

    def disconnected(self, _socket: Socket) -> None:
        """Take note that a connection is gone."""
        self._connected -= 1

    def deliver(self, delivery: Delivery) -> None:
        """Send something to the object, or keep it until the object has handled enough."""
        owner = delivery.socket.owner
        if owner.under_way >= WINDOW:
            owner.waiting.append(delivery)
        else:
            self._post(owner, delivery)

    def _post(self, owner: Owner, delivery: Delivery) -> None:
        owner.under_way += 1
        link = self._link(owner)
        number = link.number(delivery)
        message = (
            m.SAID,
            number,
            owner.target,
            delivery.handler,
            delivery.socket.number,
            delivery.facts,
        )
        link.post_call(delivery, message)

    def answered(self, owner: Owner) -> None:
        """The object has handled something: send what waits."""
        owner.under_way -= 1
        while owner.waiting and owner.under_way < WINDOW:
            self._post(owner, owner.waiting.popleft())

    def forget(self, socket: Socket) -> None:
        """Drop a socket of whose end the object knows."""
        if self._sockets.pop(socket.number, None) is None:
            return
        if self._idle is not None and not self._sockets and not self._idle.done():
            self._idle.set_result(None)
        owner = socket.owner
        del owner.sockets[socket.number]
        if owner.sockets:
            return
        target = owner.target
        raw = None if target is None else target[1]
        self._owners.pop(raw if owner.lasting else (owner.link.host, raw), None)
        if owner.lasting:
            assert raw is not None
            self._census.add(raw, -1)

    # --- from hosts ------------------------------------------------------------------------------

    def _hear(self, link: Link, message: Message) -> None:
        """Take what a host says about sockets."""
        kind = message[0]
        if kind == m.SEND:
            frames = Frames(message[2])
            sockets = self._sockets
            for number in message[1]:
                socket = sockets.get(number)
                if socket is not None:
                    socket.send(frames[socket.window])
        elif kind == m.ASK:
            self._tell_all(link, message[1])
        elif kind == m.AUTO:
            owner = self._owners.get(message[1])
            if owner is not None:
                _set_auto(owner, message[2])
        else:
            socket = self._sockets.get(message[1])
            if socket is None:
                return
            if kind == m.SHUT:
                socket.shut(message[2], message[3])
            elif kind == m.KEEP:
                socket.attachment = message[2] or None

    def _tell_all(self, link: Link, raw: bytes) -> None:
        """Tell a host which sockets an object has."""
        owner = self._owners.get(raw)
        kept = []
        if owner is not None:
            kept = [
                tuple(
                    Kept(s.number, s.tags, s.attachment, s.protocol, s.stamp, s.dropped, s.closing)
                )
                for s in owner.sockets.values()
            ]
        auto = None if owner is None else owner.auto
        link.post((m.ADOPT, raw, self._number, kept, auto))

    def _ended(self, link: Link) -> None:
        """Close what has ended with a generation of a host."""
        for owner in list(self._owners.values()):
            if owner.link is link and not owner.lasting:
                for socket in list(owner.sockets.values()):
                    socket.shut(*RESTARTED)

    # --- time ------------------------------------------------------------------------------------

    def tell_later(self, socket: Socket) -> None:
        """Tell the object's host within a second what happened to a socket without the object."""
        owner = socket.owner
        if owner.target is None:
            return
        owner.news.add(socket.number)
        if not self._news:
            self.later(NEWS_SECONDS, self._tell_news)
        self._news.add(owner.target[1])

    def _tell_news(self) -> None:
        told, self._news = self._news, set()
        for raw in told:
            owner = self._owners.get(raw)
            if owner is None:
                continue
            numbers, owner.news = owner.news, set()
            found = [owner.sockets[number] for number in numbers if number in owner.sockets]
            news = [(socket.number, socket.stamp, socket.dropped) for socket in found]
            self._link(owner).post((m.NEWS, raw, news))

    def _look(self, turn: int = 0) -> None:
        """Ping a portion of the sockets, and cut those that said nothing since their last ping."""
        for number, socket in list(self._sockets.items()):
            if number % SLICES == turn:
                socket.ping(self._ping)
        following = (turn + 1) % SLICES
        self.later(self.limits.ping_s / SLICES, lambda: self._look(following))

    async def close(self, seconds: float) -> None:
        """Close all sockets, because the gateway stops, and see that their objects hear of it."""
        for socket in list(self._sockets.values()):
            socket.shut(*LEAVING)
        if not self._sockets:
            return
        self._idle = self._loop.create_future()
        await asyncio.wait([self._idle], timeout=seconds)


def _set_auto(owner: Owner, auto: tuple[str, str] | None) -> None:
    owner.auto = None if auto is None else (auto[0], auto[1])
    owner.auto_frame = b"" if auto is None else Frames(auto[1])[PLAIN]
