"""The blocking caller's own way to the hosts: no loop, no other thread.

A plain script that calls one method after another would pay for two thread switches a call if its
calls went through the background loop. Here the calling thread sends and receives by itself. One
thread at a time may use the lane; the others, and calls made while submitted ones are under way
(they must not be overtaken), go through the loop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import zmq

from runtime.client.lane_items import LaneItems
from runtime.ids import slot_of
from runtime.roster import Roster, describe_loss, endpoint
from runtime.wire import messages as m
from runtime.wire.caller import GOODBYE_SECONDS
from runtime.wire.codec import decode, encode, unpack_error, unpack_result
from runtime.wire.deadlines import exceeded
from runtime.wire.link import describe
from runtime.wire.shelf import discard
from workers.errors import DeadlineExceeded, HostLost, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.wire.codec import Frame, Parcel
    from runtime.wire.messages import Message, Target

LOOK_MS = 10
"""Milliseconds without an answer after which to look whether the host still lives."""

_CLOSE_SECONDS = 100 * LOOK_MS / 1000


class NotStarted(Exception):  # noqa: N818  (a turn of events, not an error)
    """The call did not start, because its host is not there or leaving: call through the loop."""


class Lane:
    """See the module's text."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        roster: Roster,
        run: Path,
        identity: bytes,
        why_ended: Callable[[], str],
    ) -> None:
        self.lock = threading.Lock()
        """Held by the thread that uses the lane."""
        self.ahead = False
        """Whether it has seen a host leave or end, of which the loop may not have heard yet."""
        self._context = context
        self._roster = roster
        self._run = run
        self._identity = identity
        self._why_ended = why_ended
        self._sockets: dict[int, tuple[int, zmq.Socket[bytes]]] = {}
        self._heard: set[int] = set()
        """Hosts that have said something on the present socket."""
        self._give_up = 0.0
        """Until when to wait for a host that has ended; 0 while it lives."""
        self._frames: list[Frame] = []
        """The large buffers of the last message."""
        self._number = 0
        self._opened = 0
        self._items: WeakSet[LaneItems] = WeakSet()

    def call(self, target: Target, method: str, ready: Parcel, timeout: float | None = None) -> Any:
        """Call and wait. The lock must be held.

        Raises NotStarted, or what the method raised, or HostLost when the host died meanwhile.
        """
        due = None if timeout is None else (time.monotonic() + timeout, timeout)
        roster = self._roster
        host = roster.owners[slot_of(target[1], roster.slots)]
        up = roster.generation_up(host)
        if not up:
            raise NotStarted
        generation, socket = self._sockets.get(host, (0, None))
        if socket is None or up != generation:
            socket = self._connect(host, up)
        kind, first, second, frames = ready
        self._number = number = self._number + 1
        batch = encode([(kind, number, target, method, first, second)])
        if not frames:
            socket.send(batch)
        else:
            try:
                socket.send_multipart([batch, *frames], copy=False)
            except BaseException:  # Ctrl-C: half of the message may be in the socket
                self._forget(host)
                discard(frames)
                raise
        try:
            return self._wait(socket, number, host, up, target, method, due)
        except BaseException as stop:
            self._skip_rest(socket)
            # Ctrl-C, or its time is over: nobody waits for this call any more.
            if isinstance(stop, DeadlineExceeded) or not isinstance(stop, Exception):
                discard(frames)
                with contextlib.suppress(zmq.ZMQError):
                    socket.send(encode([(m.CANCEL, number)]))
            raise

    def _wait(
        self,
        socket: zmq.Socket[bytes],
        number: int,
        host: int,
        generation: int,
        target: Target,
        method: str,
        due: tuple[float, float] | None,
    ) -> Any:
        self._give_up = 0.0
        while True:
            try:
                first = socket.recv()
            except zmq.Again:
                if due is not None and time.monotonic() >= due[0]:
                    raise exceeded(due[1], target, method) from None
                end = self._end(host, generation, target, method)
                if end is not None:
                    raise end from None
                continue
            self._heard.add(host)
            self._frames = frames = []
            while socket.getsockopt(zmq.RCVMORE):
                frames.append(socket.recv())
            at = 0
            for message in decode(first):
                if message[0] == m.GOODBYE:
                    self._forget(host)
                    raise NotStarted
                count = _count_frames(message)
                if message[1] != number:  # of a call that was given up
                    discard(frames[at : at + count])
                elif message[0] == m.MOVED:
                    self._fence(socket, target)
                    raise NotStarted
                elif message[0] == m.ITEMS:
                    del self._sockets[host]
                    lost_how = partial(self._lost, host, generation, target, method)
                    items = LaneItems(socket, message[2], lost_how)
                    self._items.add(items)
                    return items
                else:
                    return _value(message, frames[at:])
                at += count

    def _skip_rest(self, socket: zmq.Socket[bytes]) -> None:
        """Drop what is left of a message that was being read when something was raised."""
        with contextlib.suppress(zmq.ZMQError):
            while socket.getsockopt(zmq.RCVMORE):
                self._frames.append(socket.recv())
        discard(self._frames)

    def _fence(self, socket: zmq.Socket[bytes], target: Target) -> None:
        """Tell a host that has refused a call for its slot's sake that no other is on the way."""
        self._number += 1
        socket.send(encode([(m.FENCE, self._number, slot_of(target[1], self._roster.slots))]))

    def _end(
        self, host: int, generation: int, target: Target, method: str
    ) -> HostLost | RuntimeClosed | NotStarted | None:
        """Return how a call ends of which nothing has come so far; None to wait on."""
        lost = self._lost(host, generation, target, method)
        if not isinstance(lost, HostLost):
            return lost
        in_order = self._roster.identity(host).left_in_order(generation)
        if not self._give_up:
            # Its end is known now, and its answer, or its goodbye, may be on the way.
            self._give_up = time.monotonic() + (GOODBYE_SECONDS if in_order else LOOK_MS / 1000)
        if time.monotonic() < self._give_up:
            return None
        heard = host in self._heard
        self._forget(host)
        # One that left in order says goodbye to everybody that it heard.
        return NotStarted() if in_order and not heard else lost

    def _lost(
        self, host: int, generation: int, target: Target, method: str
    ) -> HostLost | RuntimeClosed | None:
        """Return the error of a call to a host that is no more, or None while it lives."""
        raw = target[1].hex()
        if why := self._why_ended():
            return RuntimeClosed(
                f"{describe(target, method)} was cut off: {why}", durable_object_id=raw
            )
        now = self._roster.identity(host)
        if now.generation != generation:
            self.ahead = True
            lost = describe_loss(host, generation, now)
            return HostLost(
                f"{lost} while it ran {describe(target, method)}; call again",
                durable_object_id=raw,
            )
        return None

    def _connect(self, host: int, generation: int) -> zmq.Socket[bytes]:
        self._forget(host)
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RCVTIMEO, LOOK_MS)
        self._opened += 1
        socket.setsockopt(zmq.IDENTITY, b"%b%d" % (self._identity, self._opened))
        socket.connect(endpoint(self._run, host, generation))
        socket.send(encode([(m.HELLO, m.VERSION)]))
        self._sockets[host] = (generation, socket)
        return socket

    def _forget(self, host: int) -> None:
        self._heard.discard(host)
        _, socket = self._sockets.pop(host, (0, None))
        if socket is not None:
            socket.close(linger=0)

    def stop_reading(self) -> None:
        """Break the streams that are being read."""
        for items in list(self._items):
            items.fail(RuntimeClosed("the runtime was closed"))

    def close(self) -> None:
        """Close all sockets, when no thread uses them: a call ends soon after the instance has.

        But for a call that a signal handler of its own thread has interrupted to close the runtime.
        """
        if self.lock.acquire(timeout=_CLOSE_SECONDS):
            with contextlib.suppress(zmq.ZMQError):
                for host in list(self._sockets):
                    self._forget(host)
            self.lock.release()


def _count_frames(message: Message) -> int:
    count: int = message[3] if message[0] == m.RESULT_PACKED else 0
    return count


def _value(message: Message, frames: list[Frame]) -> Any:
    kind = message[0]
    if kind == m.RESULT:
        return message[2]
    if kind == m.RESULT_PACKED:
        return unpack_result(message[2], frames)
    if kind == m.ERROR:
        raise unpack_error(message[2])
    raise NotStarted  # REFUSED
