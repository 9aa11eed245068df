"""The unanswered calls of one process to one host, through all generations of that host.

All calls made in one turn of the loop leave as one batch. A call waits here while its host is
being replaced, and is sent when the next generation is up; a call that was sent to a generation
that then died fails with HostLost, because nobody can know whether it ran.

Calls leave in the order in which they were made, also those that a leaving host refused. The
number of unanswered calls is bounded: past the window they wait here, past the limit they are
refused. A link belongs to the loop of its process.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from runtime.wire import messages as m
from runtime.wire.codec import PLAIN, unpack_error, unpack_result
from runtime.wire.items import RemoteItems
from runtime.wire.shelf import discard as discard_frames
from runtime.wire.sockets import Offer, Void, offered_websocket
from runtime.wire.streams import Inflow, Streams
from workers.errors import HostLost, Overloaded, RuntimeClosed
from workers.response import response_from_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from runtime.wire.codec import Frame
    from runtime.wire.messages import Batch, Message, Target
    from workers import WebSocket

WINDOW = 8_192
"""Unanswered calls that one process may have under way to one host."""

BURST = 512
"""Calls made in one tick after which those so far leave: their host works while the rest is made."""

LIMIT = 1_000_000
"""Calls that may wait for the window; one more is refused as overloaded."""

_NO_FRAMES: Sequence[Frame] = ()
_NOTHING: Message = ()


class Reply(asyncio.Future[Any]):
    """The future of one call; cancelling it cancels the call at its host."""

    __slots__ = ("call", "link", "message")
    call: int
    link: Link
    message: Message

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the items of a method that is a generator."""
        return self._items()

    async def _items(self) -> AsyncIterator[Any]:
        items = await self
        if not isinstance(items, RemoteItems):
            raise TypeError(f"the method returned {type(items).__name__}, and no generator")
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a call is no value: await it, and send its result")

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the wait, and tell the host that nobody waits any more."""
        if not super().cancel(msg):
            return False
        self.link.cancelled(self.call)
        return True


class Waiter(Protocol):
    """Who waits for a call: an asyncio future, or one of concurrent.futures."""

    call: int
    link: Any
    message: Message
    """What was sent for it, while it is not answered; the link's to set."""

    def done(self) -> bool:
        """Whether the wait is over, one way or another."""

    def set_result(self, result: Any, /) -> None:
        """Take the result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Take the error."""


class Carrier(Protocol):
    """How the batches of a link travel: over a socket, or within the process."""

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Send what has gathered in a tick."""


class Link:
    """See the module's text. `unanswered` holds who waits, by call."""

    __slots__ = (
        "_backlog",
        "_buffers",
        "_carrier",
        "_dropped",
        "_frames",
        "_gathered",
        "_held",
        "_loop",
        "_numbers",
        "_out",
        "_refusal",
        "_scheduled",
        "_sent",
        "bursts",
        "elsewhere",
        "generation",
        "host",
        "leaving",
        "make",
        "on_end",
        "on_moved",
        "on_next",
        "on_sockets",
        "on_times",
        "refuses",
        "streams",
        "unanswered",
    )

    def __init__(self, host: int, loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.generation = 0
        self.leaving = False
        """Whether the host takes no new calls, though it is up."""
        self.refuses = False
        """Whether the caller takes no new calls."""
        self.make: Callable[..., Reply]
        """Makes the calls that are not of the common kind; set by a caller."""
        self.elsewhere: Callable[[Waiter, Message, Sequence[Frame]], bool] = _nowhere
        """Sends a refused call that any host can run to another one, if there is another."""
        self.bursts = True
        """Whether calls may leave before the tick ends. Not to this very process: events never nest."""
        self.streams = Streams(self.post)
        self.on_sockets: Callable[[Link, Message], None] = _no_sockets
        """Takes what the host says about WebSockets; set by a gateway."""
        self.on_times: Callable[[Link, Message], None] = _no_times
        """Takes where the time of a call has gone; set by who makes timed ones."""
        self.on_moved: Callable[[Link, int], None] = _no_move
        """Takes a call that the host refused because the object's slot is not, or no more, its own."""
        self.on_next: Callable[[Link], None] = _no_end
        """Called before a new generation is sent what waited for it."""
        self.on_end: Callable[[Link], None] = _no_end
        """Called when a generation of the host has ended, before its calls fail."""
        self.unanswered: dict[int, Waiter] = {}
        self._buffers: dict[int, Sequence[Frame]] = {}  # the large ones of unanswered calls
        self._loop = loop
        self._carrier: Carrier | None = None
        self._out: Batch = []
        self._frames: list[Frame] = []
        self._held: (
            Batch | None
        ) = []  # calls that wait for the next generation; None while one is up
        self._backlog: OrderedDict[int, Message] = OrderedDict()  # calls that wait for the window
        self._dropped: set[int] = set()  # calls cancelled between their making and the tick's end
        self._gathered = 0  # the highest number of a call in `_out`
        self._sent = 0  # the highest number of a call that was handed to a carrier
        self._numbers = 0
        self._refusal = ""  # why there will be no next generation
        self._scheduled = False

    @property
    def waits(self) -> bool:
        """Whether a new call would have to wait for the next generation."""
        return self.leaving or self._held is not None

    def number(self, reply: Waiter) -> int:
        """Give a call of this link its number; the order of numbers is that of the calls."""
        self._numbers = reply.call = self._numbers + 1
        reply.link = self
        return reply.call

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Reply:
        """Call a method of an object of this host's, or of its entrypoint; see `Caller.call`.

        Most calls have plain arguments and no time limit. Those are made here in one piece, because
        each call of a function costs their caller 0.05 µs.
        """
        if not kwargs and timeout is None and not self.refuses:
            for value in args:  # of few values this is faster than any call of a function
                if type(value) not in PLAIN:
                    break
            else:
                reply = Reply(loop=self._loop)
                self._numbers = number = self._numbers + 1
                reply.call = number
                reply.link = self
                message = (m.CALL, number, target, method, args, None)
                unanswered = self.unanswered
                if self._held is not None or self._backlog or len(unanswered) >= WINDOW:
                    self.post_call(reply, message)
                    return reply
                reply.message = message
                unanswered[number] = reply
                self._gathered = number
                self._out.append(message)
                if not self._scheduled:
                    self._scheduled = True
                    self._loop.call_soon(self.flush)
                elif not number % BURST and self.bursts:
                    self.flush()
                return reply
        return self.make(target, method, args, kwargs, timeout)

    submit = call

    def post_call(
        self, reply: Waiter, message: Message, frames: Sequence[Frame] = _NO_FRAMES
    ) -> None:
        """Send a call at the end of this tick, or when the window has room for it."""
        if reply.done():  # cancelled while it waited behind an output gate
            self.discard(message, frames)
            return
        unanswered = self.unanswered
        if len(self._backlog) >= LIMIT:
            self.discard(message, frames)
            reply.set_exception(
                Overloaded(f"{LIMIT:,} calls already wait for host {self.host}: await some first")
            )
            return
        reply.message = message
        unanswered[reply.call] = reply
        if frames:
            self._buffers[reply.call] = frames
        if self._backlog or len(unanswered) > WINDOW:
            self._backlog[reply.call] = message
        elif self._held is not None:
            self._held.append(message)
        else:
            if frames:
                self._frames.extend(frames)
            # What waited behind a gate comes later than its number says.
            self._gathered = max(self._gathered, reply.call)
            self.post(message)

    def burst(self, call: int, size: int) -> None:
        """Send what has gathered, at each so many calls; see BURST."""
        if not call % size and self.bursts:
            self.flush()

    def discard(self, message: Message, frames: Sequence[Frame] = _NO_FRAMES) -> None:
        """Close the body of a call that will not be sent, or not again, and drop its buffers."""
        discard_frames(frames)
        if message[0] == m.FETCH and isinstance(message[6], int):
            self.streams.stop(message[6])

    def post(self, message: Message) -> None:
        """Send a message at the end of this tick; without a host to hear it, it is void."""
        if self._carrier is None:
            return
        self._out.append(message)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _post_waiting(self) -> None:
        """Send from the backlog what the window has room for."""
        backlog, unanswered = self._backlog, self.unanswered
        while backlog and len(unanswered) - len(backlog) < WINDOW:
            call, message = backlog.popitem(last=False)
            if self._held is not None:
                self._held.append(message)
            else:
                self._frames.extend(self._buffers.get(call, _NO_FRAMES))
                self._gathered = max(self._gathered, call)
                self.post(message)

    def flush(self) -> None:
        """Hand everything that has gathered to the carrier."""
        self._scheduled = False
        out, frames = self._out, self._frames
        if not out or self._carrier is None:
            return
        self._out, self._frames = [], []
        if self._dropped:
            dropped, self._dropped = self._dropped, set()
            # One with frames of its own goes out all the same: the frames are in order.
            out = [o for o in out if o[0] not in m.CALLS or o[1] not in dropped or _has_frames(o)]
            out += [(m.CANCEL, o[1]) for o in out if o[0] in m.CALLS and o[1] in dropped]
        self._sent = max(self._sent, self._gathered)
        self._carrier.send(out, frames)

    @property
    def waiting(self) -> Batch:
        """The calls that wait here."""
        return [*(self._held or ()), *self._backlog.values()]

    @property
    def numbered(self) -> int:
        """How many calls have their number."""
        return self._numbers

    @property
    def gathered(self) -> Batch:
        """What waits for the end of the tick."""
        return self._out

    @property
    def has_gathered(self) -> bool:
        """Whether something waits for the end of the tick."""
        return bool(self._out)

    def connected(self, generation: int, carrier: Carrier) -> None:
        """Start sending to a new generation, first what waited for it."""
        self.on_next(self)
        self.generation = generation
        self._carrier = carrier
        held, self._held = self._held or [], None
        # What was refused comes before what was made since: numbers are the order of the calls.
        for message in sorted(held, key=_number):
            if message[1] in self.unanswered:
                self._frames.extend(self._buffers.get(message[1], _NO_FRAMES))
                self._gathered = max(self._gathered, message[1])
                self.post(message)
        self.flush()

    def receive(self, batch: Batch, frames: Sequence[Frame]) -> bool:
        """Take the answers of a batch; returns whether the host said goodbye."""
        unanswered, buffers, take = self.unanswered, self._buffers, self._take
        at = 0
        goodbye = False
        for message in batch:
            kind = message[0]
            if kind == m.RESULT:
                waiter = take(message[1]) if buffers else unanswered.pop(message[1], None)
                if waiter is not None and not waiter.done():
                    waiter.message = _NOTHING
                    waiter.set_result(message[2])
            elif kind == m.RESULT_PACKED:
                count = message[3]
                waiter = take(message[1])
                own = frames[at : at + count]
                if waiter is not None and not waiter.done():
                    _set_packed(waiter, message[2], own)
                else:
                    discard_frames(own)
                at += count
            elif kind == m.ERROR:
                waiter = take(message[1])
                if waiter is not None and not waiter.done():
                    waiter.set_exception(unpack_error(message[2]))
            elif kind in (m.RESPONSE, m.UPGRADE):
                self._set_response(take(message[1]), message)
            elif kind == m.ITEMS:
                self._set_items(message[1], message[2])
            elif kind == m.REFUSED:
                self._hold(message[1])
            elif kind == m.GOODBYE:
                goodbye = True
            else:
                self._hear(kind, message)
        if self._backlog:
            self._post_waiting()
        return goodbye

    def _take(self, call: int) -> Waiter | None:
        """Return who waits for an answer that has come; what was sent is freed."""
        self._buffers.pop(call, None)
        waiter = self.unanswered.pop(call, None)
        if waiter is not None:
            waiter.message = _NOTHING
        return waiter

    def _hear(self, kind: int, message: Message) -> None:
        if kind in m.SOCKETS:
            self.on_sockets(self, message)
        elif kind == m.MOVED:
            self.on_moved(self, message[1])
        elif kind == m.TIMES:
            self.on_times(self, message)
        else:
            self.streams.handle(message)

    def _set_response(self, reply: Waiter | None, message: Message) -> None:
        _, _, status, status_text, headers, content, *rest = message
        body = self.streams.receive(content) if isinstance(content, int) else content
        offered = self._offered(rest[0]) if rest else None
        if reply is not None and not reply.done():
            response = response_from_parts(status, status_text, headers, body, web_socket=offered)
            reply.set_result(response)
        elif isinstance(body, Inflow):
            body.close()

    def _set_items(self, call: int, number: int) -> None:
        message = self.unanswered[call].message if call in self.unanswered else _NOTHING
        reply = self._take(call)
        inflow = self.streams.receive(number)
        if reply is not None and not reply.done():
            reply.set_result(RemoteItems(inflow, _id_in(message)))
        else:
            inflow.close()

    def _offered(self, package: tuple[Any, ...]) -> WebSocket:
        """Make the client's end of a pair, which is dropped at its host if nobody uses it."""
        offer = Offer(*package)
        ws = offered_websocket(offer)
        offer.dropped_by(weakref.finalize(ws, self._drop, offer))
        return ws

    def _drop(self, offer: Offer) -> None:
        """Tell the host of a pair that its offered end is nobody's."""
        if self._carrier is None:
            return
        waiter = Void(self)
        message = (m.ATTACH, self.number(waiter), offer.target, "upgrade", offer.pair, None, None)
        self.post_call(waiter, message)

    def _hold(self, call: int) -> None:
        """Keep a refused call, and all calls after it, for the next generation."""
        if self._refusal:
            self._fail(call, "was not run", self._refusal)
            return
        if self._held is None:
            self._held = [o for o in self._out if o[0] in m.CALLS]
            self._out = [o for o in self._out if o[0] not in m.CALLS]
            self._gathered = self._sent
            self._frames = []
        waiter = self.unanswered.get(call)
        if waiter is None:
            return
        message = waiter.message
        if _is_stateless(message) and self.elsewhere(
            waiter, message, self._buffers.get(call, _NO_FRAMES)
        ):
            del self.unanswered[call]
            self._buffers.pop(call, None)
        else:
            self._held.append(message)

    def take_back(self, call: int) -> tuple[Waiter, Message, Sequence[Frame]] | None:
        """Take out a call that was not started, to send it elsewhere; None when it was cancelled."""
        waiter = self.unanswered.pop(call, None)
        if waiter is None:
            return None
        self._backlog.pop(call, None)
        return waiter, waiter.message, self._buffers.pop(call, _NO_FRAMES)

    def cancelled(self, call: int) -> None:
        """Forget a call that nobody waits for; its host is told, if it heard of it at all."""
        waiter = self.unanswered.pop(call, None)
        if waiter is None:
            return
        message, frames = waiter.message, self._buffers.pop(call, _NO_FRAMES)
        if message[0] == m.FETCH and isinstance(message[6], int):
            self.streams.fail(
                message[6], ConnectionAbortedError("the caller cancelled the request")
            )
        discard_frames(
            frames
        )  # a host that has not read them may refuse the call, or lose its slot
        if self._backlog.pop(call, None) is not None:
            return
        if call <= self._sent:
            self.post((m.CANCEL, call))
        elif self._held is None:
            self._dropped.add(call)
        self._post_waiting()

    def lost(self, why: str) -> None:
        """Fail the calls that were sent; keep those that were not, for the next generation."""
        self._part([*(self._held or ()), *(o for o in self._out if o[0] in m.CALLS)], why)
        kept = {o[1] for o in self._held or ()}
        kept.update(self._backlog)
        for call in [call for call in self.unanswered if call not in kept]:
            waiter = self.unanswered.pop(call)
            message = waiter.message
            self.discard(message, self._buffers.pop(call, _NO_FRAMES))
            if not waiter.done():
                waiter.set_exception(_host_lost(message, why))
        self._post_waiting()

    def left(self) -> None:
        """Keep all calls for the next generation: this one said goodbye and did not start them."""
        waiting = (w.message for call, w in self.unanswered.items() if call not in self._backlog)
        self._part(list(waiting), f"host {self.host} left")

    def _part(self, held: Batch, why: str) -> None:
        """Give up the carrier; what is held waits for the next one."""
        self._carrier = None
        self._held = held
        self.on_end(self)
        self._gathered = self._sent
        self._out = []
        self._frames = []
        self._dropped.clear()
        # Bodies that nobody has begun to read go with their calls, also behind output gates.
        lost = HostLost(f"{why.rstrip(',')} before all that it was sending had come; call again")
        self.streams.lost(lost, keep_unread=True)

    def strand(self, why: str) -> None:
        """Fail the calls that no host has taken, and those that will be refused: none follows."""
        self._refusal = why
        waiting = self.waiting
        self._backlog.clear()
        if self._held is not None:
            self._held = []
        for message in waiting:
            self._fail(message[1], "was not run", why)

    def _fail(self, call: int, fate: str, why: str) -> None:
        waiter = self.unanswered.pop(call, None)
        if waiter is None:
            return
        message = waiter.message
        self.discard(message, self._buffers.pop(call, _NO_FRAMES))
        if not waiter.done():
            waiter.set_exception(_closed(message, fate, why))

    def close(self, why: str = "the runtime was closed") -> None:
        """Fail everything: this process is leaving, or the instance has gone."""
        self.flush()
        self._carrier = None
        for call in list(self.unanswered):
            self._fail(call, "was cut off", why)
        self._backlog.clear()
        self._out.clear()
        self.streams.lost(RuntimeClosed(why))


def _no_end(_link: Link) -> None:
    """Nothing begins or ends with a generation of the host."""


def _no_move(_link: Link, _call: int) -> None:
    """Drop it: nobody looks where slots are."""


def _no_sockets(_link: Link, _message: Message) -> None:
    """Drop what is said about WebSockets: this process has none."""


def _no_times(_link: Link, _message: Message) -> None:
    """Drop what is said of a call's time: this process times none."""


def _number(message: Message) -> int:
    number: int = message[1]
    return number


def _nowhere(_waiter: Waiter, _message: Message, _frames: Sequence[Frame]) -> bool:
    return False


def _is_stateless(message: Message) -> bool:
    """Whether any host can run a call: it has no object, nor a body that is tied to this link."""
    if message[0] == m.FETCH:
        return message[2] is None and not isinstance(message[6], int)
    return message[0] not in m.OF_SLOTS and message[2] is None


def _has_frames(message: Message) -> bool:
    return bool(message[0] in m.PACKED and message[5])


def _set_packed(reply: Waiter, data: bytes, buffers: Sequence[Frame]) -> None:
    try:
        value = unpack_result(data, buffers)
    except (HostLost, TypeError) as error:
        reply.set_exception(error)
    except KeyboardInterrupt:  # from a value, too: the other answers of the batch must not suffer
        reply.set_exception(TypeError("the reading of the call's result was interrupted"))
    else:
        reply.set_result(value)


def _host_lost(message: Message, why: str) -> HostLost:
    if message[0] in m.OF_SLOTS:
        return HostLost(f"{why} while it looked through its objects; call again")
    return HostLost(
        f"{why} while it ran {describe(message[2], message[3])}; call again",
        durable_object_id=_id_in(message),
    )


def _closed(message: Message, fate: str, why: str) -> RuntimeClosed:
    if message[0] in m.OF_SLOTS:
        return RuntimeClosed(f"the look through the objects {fate}: {why}")
    what = describe(message[2], message[3])
    return RuntimeClosed(f"{what} {fate}: {why}", durable_object_id=_id_in(message))


def _id_in(message: Message) -> str | None:
    return message[2][1].hex() if message[2] is not None else None


def describe(target: Target | None, method: str) -> str:
    """Name a call in an error: class, id, name and method."""
    if target is None:
        if not method.isidentifier():
            return "a function"
        return f"{method}() of the worker's entrypoint"
    class_name, raw, name = target
    named = f" ({name!r})" if name is not None else ""
    return f"{method}() of {class_name} {raw.hex()}{named}"
