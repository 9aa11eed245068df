"""The WebSockets of one object, as its activation knows them.

The connections are the gateways'; here are their ends, by gateway and number, with their tags. An
activation that was evicted or lost leaves nothing behind that its successor needs: that asks the
gateways (see `sockets`), which keep tags and attachments beside each connection.
"""

# ruff: noqa: SLF001  (an end's private names are the engine's)
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from runtime.host.voice import Voice
from runtime.wire import messages as m
from workers import WebSocket, WebSocketRequestResponsePair
from workers.errors import RoostError
from workers.websocket import connect, heard, other_end, websocket_from_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.host.activation import Activation
    from runtime.host.channel import Channel
    from runtime.wire.sockets import Kept, Package
    from workers import DurableObject

MAX_SOCKETS = 32_768
MAX_TAGS = 10
MAX_TAG = 256
MAX_EVENT_TIMEOUT = 604_800_000

_SNAKE = {
    "webSocketMessage": "web_socket_message",
    "webSocketClose": "web_socket_close",
    "webSocketError": "web_socket_error",
}

Key: TypeAlias = "tuple[Channel, int] | WebSocket"
"""A socket's gateway and its number there; the end itself until it is connected."""


class SocketEvent(NamedTuple):
    """What happened to a socket, on its way to the object; its handler is found when it starts."""

    channel: Channel
    number: int | WebSocket
    handler: str

    @property
    def key(self) -> Key:
        """Which socket it is."""
        number = self.number
        return number if isinstance(number, WebSocket) else (self.channel, number)


class SocketLine:
    """The line of an end to its socket in a gateway."""

    __slots__ = ("channel", "number", "voice")

    def __init__(self, voice: Voice, channel: Channel, number: int) -> None:
        self.voice = voice
        self.channel = channel
        self.number = number

    def send(self, message: str | bytes) -> None:
        """Send a message."""
        self.voice.send(self.channel, self.number, message)

    def close(self, code: int | None, reason: str) -> None:
        """Close the socket."""
        self.voice.say(self.channel, (m.SHUT, self.number, code, reason))

    def keep(self, attachment: bytes) -> None:
        """Have the attachment kept."""
        self.voice.say(self.channel, (m.KEEP, self.number, attachment))


class ObjectSockets:
    """See the module's text."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._ends: dict[Key, WebSocket] = {}
        self._tagged: dict[str, dict[WebSocket, None]] = {}
        self.voice = Voice(activation.say, activation.output)
        self.auto: tuple[str, str] | None = None
        self.timeout_ms: int | None = None
        self.held = 0
        """Ends that only this activation can serve: their connection is on its way, or they were
        accepted with accept()."""
        self.listening = 0
        """Those of them that were accepted with accept(), and are connected."""

    # --- what ctx asks ---------------------------------------------------------------------------

    def accept(self, ws: WebSocket, tags: Iterable[str]) -> None:
        """Accept an end of a pair for hibernation."""
        if not isinstance(ws, WebSocket):
            raise TypeError(
                "Failed to execute 'acceptWebSocket' on 'DurableObjectState': parameter 1 is not "
                f"of type 'WebSocket' (it is {type(ws).__name__})."
            )
        if ws._accepted == "listeners":
            raise TypeError(
                "Cannot call `acceptWebSocket()` if the WebSocket was already accepted via "
                "`accept()`"
            )
        if ws._accepted is not None or ws._released or other_end(ws) is None:
            raise TypeError("Cannot call `acceptWebSocket()` on a WebSocket that is already used.")
        distinct = checked_tags(tags)
        if len(self._ends) >= MAX_SOCKETS:
            raise RuntimeError(
                f"only {MAX_SOCKETS} websockets can be accepted on a single Durable Object instance"
            )
        ws._accepted = "hibernation"
        ws._tags = distinct
        self._add(ws, ws)

    def get(self, tag: str | None) -> list[WebSocket]:
        """Return the ends that were accepted for hibernation, or those of a tag."""
        return list(self._ends.values() if tag is None else self._tagged.get(tag, ()))

    def broadcast(self, message: str | bytes, tag: str | None, but: Iterable[WebSocket]) -> int:
        """Send a message to all sockets, or to those of a tag; returns to how many."""
        left_out = set(but)
        by_gateway: dict[Channel, list[int]] = {}
        count = 0
        for ws in self._ends.values() if tag is None else self._tagged.get(tag, ()):
            if ws._closed_out or ws._closed_in or ws in left_out:
                continue
            count += 1
            line = ws._line
            if type(line) is SocketLine:
                by_gateway.setdefault(line.channel, []).append(line.number)
            elif line is not None:
                line.send(message)
        for channel, numbers in by_gateway.items():
            self.voice.broadcast(channel, numbers, message)
        return count

    def set_auto(self, pair: WebSocketRequestResponsePair | None) -> None:
        """Have gateways answer a message without the object; None ends it."""
        self.auto = None if pair is None else (pair.request, pair.response)
        activation = self._activation
        message = (m.AUTO, activation.id.raw, self.auto)
        for channel in {key[0] for key in self._ends if isinstance(key, tuple)}:
            self.voice.say(channel, message)

    # --- what the gateways say -------------------------------------------------------------------

    def attach(self, ws: WebSocket, channel: Channel, number: int, package: Package | None) -> None:
        """Connect an end that was accepted before its connection was there."""
        self._forget(ws, ws)
        line = SocketLine(self.voice, channel, number)
        self._add((channel, number), ws)
        connect(ws, line)
        if package is None or ws._attachment != package.attachment:
            line.keep(ws._attachment or b"")
        if package is None or self.auto != package.auto:
            self.voice.say(channel, (m.AUTO, self._activation.id.raw, self.auto))

    def adopt(self, channel: Channel, kept: Kept) -> None:
        """Take over a socket from an activation before this one."""
        key = (channel, kept.number)
        if key in self._ends:
            return
        line = SocketLine(self.voice, channel, kept.number)
        ws = websocket_from_parts(
            line, "hibernation", kept.tags, kept.attachment, kept.protocol, kept.stamp
        )
        ws._dropped = kept.dropped
        ws._closed_out = kept.closing
        self._add(key, ws)

    def update(self, channel: Channel, news: Iterable[tuple[int, float | None, int]]) -> None:
        """Take note of what happened to sockets without the object."""
        for number, stamp, dropped in news:
            ws = self._ends.get((channel, number))
            if ws is not None:
                ws._stamp, ws._dropped = stamp, dropped

    def of(self, channel: Channel) -> list[int]:
        """Return the numbers of a gateway's sockets."""
        return [key[1] for key in self._ends if isinstance(key, tuple) and key[0] is channel]

    def shut(self, code: int, reason: str) -> None:
        """Close all sockets, whatever the object thinks of it."""
        for key in self._ends:
            if isinstance(key, tuple):
                key[0].post((m.SHUT, key[1], code, reason))

    def run(self, event: SocketEvent, instance: DurableObject, *facts: Any) -> Any:
        """Call the handler of an event; user code, in its turn."""
        ws = self._ends.get(event.key)
        if ws is None:
            return None
        if event.handler == "webSocketClose":
            ws._closed_in = True
            self._forget(event.key, ws)
        handler = getattr(instance, event.handler, None)
        if handler is None:
            handler = getattr(instance, _SNAKE[event.handler], None)
        if event.handler == "webSocketMessage":
            if handler is None:
                raise RoostError("Handler does not export a webSocketMessage() function.")
            value = handler(ws, heard(facts[0]))
        elif handler is None:
            return None
        else:
            value = handler(ws, *facts)
        if self.timeout_ms is not None and hasattr(value, "__await__"):
            return asyncio.wait_for(value, self.timeout_ms / 1000)
        return value

    # --- the table -------------------------------------------------------------------------------

    def _add(self, key: Key, ws: WebSocket) -> None:
        self._ends[key] = ws
        for tag in ws._tags:
            self._tagged.setdefault(tag, {})[ws] = None

    def _forget(self, key: Key, ws: WebSocket) -> None:
        del self._ends[key]
        for tag in ws._tags:
            tagged = self._tagged[tag]
            del tagged[ws]
            if not tagged:
                del self._tagged[tag]


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return distinct tags in their order. Raises TypeError, ValueError."""
    if isinstance(tags, str):
        raise TypeError("The tags of a WebSocket are a list of str, not one str.")
    distinct = tuple(dict.fromkeys(tags))
    if len(distinct) > MAX_TAGS:
        raise ValueError(f"a Hibernatable WebSocket cannot have more than {MAX_TAGS} tags")
    for tag in distinct:
        if not isinstance(tag, str):
            raise TypeError(f"A tag is a str, found {type(tag).__name__}")
        if len(tag) > MAX_TAG:
            raise ValueError(f'"{tag}" is longer than the max tag length ({MAX_TAG} characters).')
    return distinct
