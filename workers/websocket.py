"""WebSockets as a script sees them: pairs, their two ends, and the events of an accepted end.

A pair is two ends in one process. The end that is returned in a Response becomes the connection of
whoever asked for the upgrade; the other is the script's, which accepts it either with `accept()`
(the standard API: listeners, alive as long as the object) or with `ctx.acceptWebSocket()`
(hibernation: the messages are methods of the object, which may leave memory meanwhile). What an
end sends goes over its `Line`, which the engine replaces when the connection is there.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import pickle
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol

__all__ = [
    "ArrayBuffer",
    "CloseEvent",
    "ErrorEvent",
    "Event",
    "Line",
    "MessageEvent",
    "WebSocket",
    "WebSocketPair",
    "WebSocketRequestResponsePair",
    "websocket_from_parts",
]

MAX_ATTACHMENT = 16_384
"""Bytes of a serialised attachment."""

MAX_AUTO = 2_048
"""Bytes of the request and of the response of an automatic answer."""

MAX_REASON = 123
"""Bytes of the reason of a close, in UTF-8."""


class ArrayBuffer(bytes):
    """A binary message: bytes, with the names that the original's proxies have."""

    __slots__ = ()

    def to_bytes(self) -> bytes:
        """The message as bytes."""
        return bytes(self)

    def to_py(self) -> memoryview:
        """The message as a memoryview, as the original converts it."""
        return memoryview(self)

    tobytes = to_bytes

    @property
    def byteLength(self) -> int:
        """How many bytes it has."""
        return len(self)


class Event:
    """What a listener is given: `type`, and the end that it happened to."""

    __slots__ = ("target", "type")

    def __init__(self, kind: str, target: "WebSocket") -> None:
        self.type = kind
        self.target = target


class MessageEvent(Event):
    """A message: `data` is str, or `ArrayBuffer` (bytes)."""

    __slots__ = ("data",)

    def __init__(self, target: "WebSocket", data: str | bytes) -> None:
        super().__init__("message", target)
        self.data = data


class CloseEvent(Event):
    """The end of a connection: 1005 is a close without a code, 1006 a connection that was cut."""

    __slots__ = ("code", "reason", "wasClean")

    def __init__(self, target: "WebSocket", code: int, reason: str, was_clean: bool) -> None:
        super().__init__("close", target)
        self.code = code
        self.reason = reason
        self.wasClean = was_clean

    @property
    def was_clean(self) -> bool:
        """`wasClean` in snake_case."""
        return self.wasClean


class ErrorEvent(Event):
    """Something that went wrong with the connection: `error` says what."""

    __slots__ = ("error", "message")

    def __init__(self, target: "WebSocket", error: BaseException) -> None:
        super().__init__("error", target)
        self.error = error
        self.message = str(error)


class Line(Protocol):
    """The way from an end of a pair to the other."""

    def send(self, message: str | bytes) -> None:
        """Send a message."""

    def close(self, code: int | None, reason: str) -> None:
        """Send a close; no message follows it."""

    def keep(self, attachment: bytes) -> None:
        """Keep an attachment where it outlives the object's activation."""


Listener = Callable[[Any], object]


class WebSocket:
    """One end of a WebSocket connection."""

    READY_STATE_CONNECTING: ClassVar[int] = 0
    CONNECTING: ClassVar[int] = 0
    READY_STATE_OPEN: ClassVar[int] = 1
    OPEN: ClassVar[int] = 1
    READY_STATE_CLOSING: ClassVar[int] = 2
    CLOSING: ClassVar[int] = 2
    READY_STATE_CLOSED: ClassVar[int] = 3
    CLOSED: ClassVar[int] = 3

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_attachment",
        "_closed_in",
        "_closed_out",
        "_connecting",
        "_dropped",
        "_early",
        "_line",
        "_listeners",
        "_offer",
        "_on_accept",
        "_released",
        "_stamp",
        "_tags",
        "binaryType",
        "extensions",
        "onclose",
        "onerror",
        "onmessage",
        "onopen",
        "protocol",
        "url",
    )

    binaryType: str
    """How binary messages arrive; always as bytes here."""

    protocol: str | None
    """The subprotocol that was agreed on, if one was."""

    extensions: str | None
    """The extensions that were agreed on, if any were."""

    url: str | None
    """Where an outgoing connection leads; None for the ends of a pair."""

    def __init__(self, url: str | None = None, protocols: str | Iterable[str] = ()) -> None:
        """With a URL (ws: or wss:) it connects there; `open`, or `error` and `close`, tell how.

        Raises ValueError for another URL, and RuntimeError where no event loop runs.
        """
        self._accepted: str | None = None  # or "listeners", or "hibernation"
        self._attachment: bytes | None = None
        self._closed_in = False
        self._closed_out = False
        self._dropped = 0
        self._early: list[tuple[Any, ...]] = []  # what arrived before somebody could hear it
        self._line: Line | None = None
        self._listeners: dict[str, list[Listener]] = {}
        self._offer: Any = None  # the engine's: a connection that another process offers
        self._on_accept: Callable[[WebSocket], None] | None = None
        self._released = False
        self._stamp: float | None = None
        self._tags: tuple[str, ...] = ()
        self.binaryType = "arraybuffer"
        self.protocol = self.extensions = self.url = None
        self.onopen: Listener | None = None
        self.onmessage: Listener | None = None
        self.onclose: Listener | None = None
        self.onerror: Listener | None = None
        self._connecting = url is not None
        if url is not None:
            if url.partition(":")[0].lower() not in {"ws", "wss"}:
                raise ValueError("WebSocket Constructor: The url scheme must be ws or wss.")
            from workers.outgoing import connect_later  # noqa: PLC0415 - for who uses it

            self.url = url
            wanted = [protocols] if isinstance(protocols, str) else list(protocols)
            connect_later(self, url, wanted)

    @classmethod
    def new(cls, url: str, protocols: str | Iterable[str] = ()) -> "WebSocket":
        """Connect to a URL, in the original's spelling of `new WebSocket(url)`."""
        return cls(url, protocols)

    # --- accepting -------------------------------------------------------------------------------

    def accept(self, _options: object = None) -> None:
        """Begin to hear this end with listeners; again: does nothing.

        Raises TypeError when it was returned in a Response, or accepted for hibernation.
        """
        if self.url is not None:
            raise TypeError(
                "Websockets obtained from the 'new WebSocket()' constructor cannot call accept"
            )
        if self._released:
            raise TypeError("Can't accept() WebSocket that was already used in a response.")
        if self._accepted == "hibernation":
            raise TypeError("Can't accept() WebSocket after enabling hibernation.")
        if self._accepted is None:
            self._accepted = "listeners"
            if self._on_accept is not None:
                self._on_accept(self)
            self._hear_early()

    def _hear_early(self) -> None:
        early, self._early = self._early, []
        for taken in early:
            self._take(*taken)

    def _release(self) -> None:
        """Take note that this end is returned in a Response. Raises TypeError if it cannot be."""
        if self._released:
            raise TypeError("Can't return WebSocket that was already used in a response.")
        if self._accepted == "hibernation":
            raise TypeError("Can't return WebSocket in a Response after calling acceptWebSocket().")
        if self._accepted is not None:
            raise TypeError("Can't return WebSocket in a Response after calling accept().")
        self._released = True

    # --- talking ---------------------------------------------------------------------------------

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: str as text, bytes as binary.

        It leaves when everything that the object wrote before is durable. Sent to a client that
        has gone it is dropped silently; `webSocketClose` tells. Raises TypeError after `close()`,
        before the end was accepted, and for a message of another type.
        """
        checked = message if type(message) is str else checked_message(message)
        if self._closed_out:
            raise TypeError("Can't call WebSocket send() after close().")
        if self._closed_in or self._released:
            return
        line = self._line
        if line is None or self._accepted is None:
            raise TypeError(_NOT_ACCEPTED)
        line.send(checked)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection; again, or after the client has gone, it does nothing.

        Raises TypeError for a code that may not be sent (1000 to 4999, without 1004, 1005, 1006
        and 1015), for a reason without a code or of more than 123 bytes, and before the end was
        accepted.
        """
        if self._closed_out or self._released:
            return
        if self._connecting:
            self._closed_out = True
            return
        if self._accepted is None or self._line is None:
            raise TypeError(_NOT_ACCEPTED)
        if code is not None and (
            type(code) is not int or not 1000 <= code < 5000 or code in {1004, 1005, 1006, 1015}
        ):
            raise TypeError(f"Invalid WebSocket close code: {code}.")
        if reason is not None and code is None:
            raise TypeError(
                "If you specify a WebSocket close reason, you must also specify a code."
            )
        text = reason or ""
        if len(text.encode("utf-8", "surrogatepass")) > MAX_REASON:
            raise TypeError(f"A WebSocket close reason cannot be longer than {MAX_REASON} bytes.")
        text.encode()  # raises for a lone surrogate, which no client could read
        self._closed_out = True
        if not self._closed_in:
            self._line.close(code, text)

    @property
    def ready_state(self) -> int:
        """0 connecting, 1 open, 2 closing, 3 closed."""
        if self._closed_in:
            return self.READY_STATE_CLOSED
        if self._connecting:
            return self.READY_STATE_CONNECTING
        return self.READY_STATE_CLOSING if self._closed_out else self.READY_STATE_OPEN

    @property
    def dropped(self) -> int:
        """How many messages its client has missed because it reads too slowly; Roost's own.

        Only sockets with a tag that the configuration calls lossy miss any; others are closed. An
        object that is in memory meanwhile hears of it within a second.
        """
        return self._dropped

    # --- attachments -----------------------------------------------------------------------------

    def serialize_attachment(self, value: object) -> None:
        """Keep a value with the connection, through hibernation and the loss of the host.

        Like a message it takes effect when what was written before is durable. Raises ValueError
        when it takes more than 16,384 bytes, TypeError when it does not pickle.
        """
        try:
            data = pickle.dumps(value, 5)
        except Exception as cause:
            raise TypeError(f"{type(value).__name__} cannot be an attachment: {cause}") from cause
        if len(data) > MAX_ATTACHMENT:
            raise ValueError(
                f"A WebSocket 'attachment' cannot be larger than {MAX_ATTACHMENT} bytes."
                f"'attachment' was {len(data)} bytes."
            )
        self._attachment = data
        if self._line is not None:
            self._line.keep(data)

    def deserialize_attachment(self) -> Any:
        """A copy of the value that was kept, or None."""
        return None if self._attachment is None else pickle.loads(self._attachment)

    # --- listeners -------------------------------------------------------------------------------

    def add_event_listener(self, kind: str, listener: Listener, _options: object = None) -> None:
        """Call `listener(event)` for every "message", "close", "error" or "open".

        A listener may be asynchronous. The same one is called once.
        """
        if not callable(listener):
            raise TypeError(f"A listener is a function, found {type(listener).__name__}")
        listeners = self._listeners.setdefault(kind, [])
        if listener not in listeners:
            listeners.append(listener)

    def remove_event_listener(self, kind: str, listener: Listener, _options: object = None) -> None:
        """Call a listener no more."""
        listeners = self._listeners.get(kind, [])
        if listener in listeners:
            listeners.remove(listener)

    def _dispatch(self, event: Event) -> Awaitable[None] | None:
        """Call the listeners of an event; what is returned is to be awaited."""
        listeners = list(self._listeners.get(event.type, ()))
        handler = getattr(self, f"on{event.type}", None)
        if handler is not None:
            listeners.append(handler)
        waiting = [out for out in [call(event) for call in listeners] if hasattr(out, "__await__")]
        return _all(waiting) if waiting else None

    def _take(self, kind: str, *facts: Any) -> None:
        """Take what the other end of a pair in this process said."""
        if self._accepted != "listeners":
            self._early.append((kind, *facts))
            return
        event: Event
        if kind == "message":
            event = MessageEvent(self, heard(facts[0]))
        else:
            event = CloseEvent(self, facts[0], facts[1], was_clean=True)
        import asyncio  # noqa: PLC0415  (only who uses it pays for it)

        asyncio.get_running_loop().call_soon(self._hear, event)

    def _hear(self, event: Event) -> None:
        if self._closed_in:
            return
        if event.type == "close":
            self._closed_in = True
        waiting = self._dispatch(event)
        if waiting is not None:
            import asyncio  # noqa: PLC0415  (only who uses it pays for it)

            task = asyncio.ensure_future(waiting)
            _running.add(task)
            task.add_done_callback(_running.discard)

    def __repr__(self) -> str:
        states = ("connecting", "open", "closing", "closed")
        return f"<WebSocket {states[self.ready_state]}>"

    readyState = ready_state
    serializeAttachment = serialize_attachment
    deserializeAttachment = deserialize_attachment
    addEventListener = add_event_listener
    removeEventListener = remove_event_listener


_NOT_ACCEPTED = (
    "You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending "
    "messages."
)

_running: set[Any] = set()


async def _all(waiting: list[Any]) -> None:
    for each in waiting:
        await each


def checked_message(message: object) -> str | bytes:
    """What can be sent. Raises TypeError for anything but str and bytes-like values."""
    if isinstance(message, str):
        return str(message)
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    raise TypeError(
        f"A WebSocket sends str, bytes, bytearray or memoryview, not {type(message).__name__}"
        " (json.dumps() it first?)."
    )


def heard(message: str | bytes) -> str | bytes:
    """A message as a script gets it."""
    return ArrayBuffer(message) if isinstance(message, bytes) else message


class _ToPeer:
    """From one end of a pair to the other in the same process."""

    __slots__ = ("peer",)

    def __init__(self, peer: WebSocket) -> None:
        self.peer = peer

    def send(self, message: str | bytes) -> None:
        """Hand the message over."""
        self.peer._take("message", message)

    def close(self, code: int | None, reason: str) -> None:
        """Hand the close over."""
        self.peer._take("close", 1005 if code is None else code, reason)

    def keep(self, attachment: bytes) -> None:
        """Do nothing: the attachment stays where it is until there is a connection."""


class WebSocketPair:
    """Two connected ends: `client, server = WebSocketPair()`.

    Return the first in `Response(None, status=101, web_socket=client)`, accept the second.
    """

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        client, server = WebSocket(), WebSocket()
        client._line, server._line = _ToPeer(server), _ToPeer(client)
        self._ends = (client, server)

    @classmethod
    def new(cls) -> "WebSocketPair":
        """Make a pair, in the original's spelling."""
        return cls()

    def object_values(self) -> list[WebSocket]:
        """Both ends, in the original's spelling: `Object.values()` of the pair."""
        return list(self._ends)

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(self._ends)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int | str) -> WebSocket:
        return self._ends[int(index)]


class WebSocketRequestResponsePair:
    """A message, and the answer that is given to it without waking the object.

    Raises ValueError when one of them takes more than 2,048 bytes.
    """

    __slots__ = ("request", "response")

    request: str
    response: str

    def __init__(self, request: str, response: str) -> None:
        for name, text in (("Request", request), ("Response", response)):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be str, not {type(text).__name__}")
            size = len(text.encode())
            if size > MAX_AUTO:
                raise ValueError(
                    f"{name} cannot be larger than {MAX_AUTO} bytes. "
                    f"A {name.lower()} of size {size} was provided."
                )
        self.request = request
        self.response = response

    @classmethod
    def new(cls, request: str, response: str) -> "WebSocketRequestResponsePair":
        """Make a pair, in the original's spelling."""
        return cls(request, response)

    def get_request(self) -> str:
        """The message."""
        return self.request

    def get_response(self) -> str:
        """The answer."""
        return self.response

    getRequest = get_request
    getResponse = get_response


def websocket_from_parts(
    line: Line,
    accepted: str,
    tags: tuple[str, ...] = (),
    attachment: bytes | None = None,
    protocol: str | None = None,
    stamp: float | None = None,
) -> WebSocket:
    """An accepted end over a line, from what the engine kept of it."""
    ws = WebSocket()
    ws._line = line
    ws._accepted = accepted
    ws._tags = tags
    ws._attachment = attachment
    ws.protocol = protocol
    ws._stamp = stamp
    return ws


def connect(ws: WebSocket, line: Line) -> None:
    """Give the server's end of a pair its connection, and send what waited for it."""
    peer = ws._line.peer if isinstance(ws._line, _ToPeer) else None
    ws._line = line
    if ws._attachment is not None:
        line.keep(ws._attachment)
    if peer is None:
        return
    for kind, *facts in peer._early:
        if kind == "message":
            line.send(facts[0])
        else:
            line.close(None if facts[0] == 1005 else facts[0], facts[1])
    peer._early.clear()


def other_end(ws: WebSocket) -> WebSocket | None:
    """The other end of a pair that is whole in this process."""
    return ws._line.peer if isinstance(ws._line, _ToPeer) else None
