"""The WebSockets of one host: pairs on their way to a gateway, and who has which socket.

Sockets live in gateways and outlive hosts; a host keeps nothing of an object that is not in its
memory. So a new activation of an object that has sockets, which the censuses of the gateways tell,
first asks for them behind its input gate: its constructor already finds them.

Ends accepted with `accept()` are heard by functions of one activation, or of the entrypoint, and
end with it: code 1012. Those accepted with `ctx.acceptWebSocket()` pass on to the next one.
"""

# ruff: noqa: SLF001  (an end's private names are the engine's)
from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from runtime.host.activation import Activation
from runtime.host.entrypoint import Entrypoint
from runtime.host.object_sockets import ObjectSockets, SocketEvent, SocketLine
from runtime.host.voice import Voice
from runtime.wire import messages as m
from runtime.wire.sockets import (
    Census,
    Kept,
    Package,
    census_path,
    gateway_number,
    gateways_of,
)
from workers import WebSocket
from workers.errors import HostLost
from workers.websocket import (
    CloseEvent,
    ErrorEvent,
    Event,
    MessageEvent,
    connect,
    heard,
    other_end,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.host.activation import Ticket
    from runtime.host.channel import Channel
    from runtime.host.host import Host
    from runtime.host.object_sockets import Key
    from runtime.wire.messages import Message, Target

CUT = (1006, "WebSocket disconnected without sending Close frame.", False)
"""What is told of a socket whose connection broke: code, reason, whether it was clean."""

RESTARTED = (1012, "the object that held this WebSocket is no longer in memory: connect again")


class HostSockets:
    """See the module's text. Belongs to the host's loop."""

    def __init__(self, host: Host, run: Path) -> None:
        self._host = host
        self._run = run
        self._censuses = {
            number: Census.open(census_path(run, number)) for number in gateways_of(run)
        }
        self._gateways: dict[int, Channel] = {}
        self._asking: dict[bytes, tuple[Activation | Callable[[], object], set[int]]] = {}
        self._pairs: dict[int, tuple[Activation | Entrypoint, WebSocket]] = {}
        self._listening: dict[Key, tuple[Activation | Entrypoint, WebSocket]] = {}
        # Numbers are never those of a generation before: an old one's pairs are unknown here.
        self._count = secrets.randbits(48)
        self._voice = Voice()

    # --- gateways come and go --------------------------------------------------------------------

    def greeted(self, identity: bytes, channel: Channel) -> None:
        """Take note of a gateway that has connected, and ask it what waits for its answer."""
        number = gateway_number(identity)
        if number is None:
            return
        self._gateways[number] = channel
        if number not in self._censuses:
            self._censuses[number] = Census.open(census_path(self._run, number))
        for raw, (_, missing) in self._asking.items():
            if number in missing:
                channel.post((m.ASK, raw))

    def gone(self, channel: Channel) -> None:
        """Tell objects that the sockets of a gateway are gone with it; another caller has none."""
        if channel not in self._gateways.values():
            return
        for number, known in list(self._gateways.items()):
            if known is channel:
                del self._gateways[number]
        for activation in list(self._host.catalog):
            if activation.sockets is not None:
                for socket in activation.sockets.of(channel):
                    self._tell(activation, SocketEvent(channel, socket, "webSocketClose"), CUT)
        for key, (owner, _) in list(self._listening.items()):
            if isinstance(key, tuple) and key[0] is channel:
                self._tell(owner, SocketEvent(channel, key[1], "webSocketClose"), CUT)

    # --- a new activation ------------------------------------------------------------------------

    def waking(self, activation: Activation) -> None:
        """Have a new activation wait for its sockets, if it may have some."""
        raw = activation.id.raw
        missing = {number for number, census in self._censuses.items() if census.count(raw)}
        if not missing:
            return
        activation.gate.lock()
        self._asking[raw] = (activation, missing)
        for number in missing:
            channel = self._gateways.get(number)
            if channel is not None:  # else it is asked when it connects
                channel.post((m.ASK, raw))

    def asks(self, activation: Activation) -> bool:
        """Whether an activation still waits to hear of its sockets."""
        asking = self._asking.get(activation.id.raw)
        return asking is not None and asking[0] is activation

    def when_heard(self, then: Callable[[], object]) -> None:
        """Call a function when the gateways have all that was said to sockets so far."""
        if not self._gateways:
            then()
            return
        self._count += 1
        nobody = b"%d" % self._count  # no object has this id: what is asked for is the answer
        self._asking[nobody] = (then, set(self._gateways))
        for channel in self._gateways.values():
            channel.post((m.ASK, nobody))

    def _adopt(self, channel: Channel, message: Message) -> None:
        _, raw, number, sockets, auto = message
        asking = self._asking.get(raw)
        if asking is None:
            return
        activation, missing = asking
        if sockets and isinstance(activation, Activation):
            own = _sockets_of(activation)
            own.auto = auto
            for kept in sockets:
                own.adopt(channel, Kept(*kept))
        missing.discard(number)
        if not missing:
            del self._asking[raw]
            if isinstance(activation, Activation):
                activation.gate.unlock()
                activation.take_mail()
            else:
                activation()

    # --- pairs -----------------------------------------------------------------------------------

    def offer(
        self, ws: object, owner: Activation | Entrypoint, protocol: str | None
    ) -> tuple[Any, ...]:
        """Return what a Response says of its web_socket. Raises TypeError for a wrong one."""
        if not isinstance(ws, WebSocket):
            raise TypeError(f"the web_socket of a Response is a WebSocket, not {type(ws).__name__}")
        if ws._offer is not None:
            ws._release()
            forwarded: tuple[Any, ...] = ws._offer.use()
            return forwarded
        server = other_end(ws)
        if server is None:
            raise TypeError("the web_socket of a Response is an end of a WebSocketPair")
        ws._release()
        server.protocol = protocol
        self._count += 1
        self._pairs[self._count] = (owner, server)
        target: Target | None = None
        package = None
        if isinstance(owner, Activation):
            target = (owner.class_name, owner.id.raw, owner.id.name)
            own = _sockets_of(owner)
            own.held += 1
            if server._accepted == "hibernation":
                package = Package(server._tags, server._attachment, protocol, own.auto)
        return self._host.number, self._count, target, package

    def _attach(self, channel: Channel, message: Message) -> None:
        _, call, target, _, pair, number, package = message
        owner, ws = self._pairs.pop(pair, (None, None))
        known = owner is not None and ws is not None and self._lives(owner)
        if known:
            assert owner is not None
            assert ws is not None
            self._connect(owner, ws, channel, number, package)
        elif number is not None and package is not None and target is not None:
            # Its activation has ended meanwhile. The next one asks; one that has asked before the
            # gateway knew this socket is told now.
            activation = self._host.catalog.get(target[1])
            if activation is not None and target[1] not in self._asking:
                tags, attachment, protocol, _ = package
                kept = Kept(number, tags, attachment, protocol, None, 0, closing=False)
                _sockets_of(activation).adopt(channel, kept)
        channel.post((m.RESULT, call, known))

    def _connect(
        self,
        owner: Activation | Entrypoint,
        ws: WebSocket,
        channel: Channel,
        number: int | None,
        package: tuple[Any, ...] | None,
    ) -> None:
        """Connect an end to its socket, or to none if its client has left."""
        if ws._accepted == "hibernation":
            sockets = _sockets_of(owner)
            sockets.held -= 1
            self._host.handover.look()
            if number is None:
                self._tell(owner, SocketEvent(channel, ws, "webSocketClose"), CUT)
            else:
                kept = None if package is None else Package(*package)
                sockets.attach(ws, channel, number, kept)
            return
        key: Key = ws if number is None else (channel, number)
        self._listening[key] = (owner, ws)
        if isinstance(owner, Activation):
            _sockets_of(owner).listening += 1
            self._host.handover.look()
        if number is None:
            self._tell(owner, SocketEvent(channel, ws, "webSocketClose"), CUT)
            return
        voice = self._voice if isinstance(owner, Entrypoint) else _sockets_of(owner).voice
        connect(ws, SocketLine(voice, channel, number))

    def _lives(self, owner: Activation | Entrypoint) -> bool:
        return isinstance(owner, Entrypoint) or (
            owner.reset_by is None and self._host.catalog.get(owner.id.raw) is owner
        )

    # --- events ----------------------------------------------------------------------------------

    def handle(self, channel: Channel, message: Message) -> None:
        """Take a message about sockets."""
        kind = message[0]
        if kind == m.SAID:
            self._said(channel, message)
        elif kind == m.ATTACH:
            self._attach(channel, message)
        elif kind == m.ADOPT:
            self._adopt(channel, message)
        elif kind == m.NEWS:
            activation = self._host.catalog.get(message[1])
            if activation is not None and activation.sockets is not None:
                activation.sockets.update(channel, message[2])

    def listens(self, channel: Channel, number: int) -> bool:
        """Whether a socket was accepted with `accept()`: it is heard here, whoever has the object's slot."""
        return (channel, number) in self._listening

    def _said(self, channel: Channel, message: Message) -> None:
        _, call, target, handler, number, facts = message
        event = SocketEvent(channel, number, handler)
        ticket = (channel, call, None)
        listening = self._listening.get((channel, number))
        if handler == "webSocketError":
            facts = (HostLost(*facts),)
        if listening is not None:
            self._deliver(listening[0], ticket, event, facts)
        elif target is None:
            channel.post((m.RESULT, call, None))
        else:
            self._host.deliver(channel, call, target, event, facts)

    def _deliver(
        self, owner: Activation | Entrypoint, ticket: Ticket, event: SocketEvent, facts: Any
    ) -> None:
        if isinstance(owner, Activation):
            owner.deliver(ticket, event, facts, None)
        else:
            run = partial(self.run, None, event)
            self._host.stage.run(owner, ticket, run, facts, None)

    def _tell(self, owner: Activation | Entrypoint, event: SocketEvent, facts: Any) -> None:
        """Deliver an event whose end nobody waits for."""
        self._count += 1
        self._deliver(owner, (self._host.local, -self._count, None), event, facts)

    def run(self, activation: Activation | None, event: SocketEvent, *facts: Any) -> Any:
        """Call what hears an event; user code, in its turn."""
        listening = self._listening.get(event.key)
        if listening is not None:
            return self._hear(event, listening, facts)
        if activation is None or activation.sockets is None:
            return None
        instance = activation.instance
        assert instance is not None
        return activation.sockets.run(event, instance, *facts)

    def _hear(
        self,
        event: SocketEvent,
        listening: tuple[Activation | Entrypoint, WebSocket],
        facts: tuple[Any, ...],
    ) -> Any:
        owner, ws = listening
        what: Event
        if event.handler == "webSocketMessage":
            if ws._accepted is None:  # it waits for accept()
                ws._early.append(("message", *facts))
                return None
            what = MessageEvent(ws, heard(facts[0]))
        elif event.handler == "webSocketClose":
            ws._closed_in = True
            self._unlisten(event.key, owner)
            what = CloseEvent(ws, *facts)
        else:
            what = ErrorEvent(ws, facts[0])
        return ws._dispatch(what)

    def _unlisten(self, key: Key, owner: Activation | Entrypoint) -> None:
        self._listening.pop(key, None)
        if isinstance(owner, Activation):
            sockets = _sockets_of(owner)
            sockets.listening -= 1
            sockets.held -= 1
            self._host.handover.look()

    def ended(self, activation: Activation) -> None:
        """Close what only this activation could have heard: it was reset."""
        for key, (owner, _) in list(self._listening.items()):
            if owner is activation:
                del self._listening[key]
                if isinstance(key, tuple):
                    key[0].post((m.SHUT, key[1], *RESTARTED))
        for pair, (owner, _) in list(self._pairs.items()):
            if owner is activation:
                del self._pairs[pair]


def _sockets_of(owner: Activation | Entrypoint) -> ObjectSockets:
    assert isinstance(owner, Activation)
    if owner.sockets is None:
        owner.sockets = ObjectSockets(owner)
    return owner.sockets
