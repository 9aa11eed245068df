"""The blocking caller's own way to the hosts: no loop, no other thread.

A plain script that calls one method after another would pay for two thread switches a call if its
calls went through the background loop. Here the calling thread sends and receives by itself. One
thread at a time may use the lane; the others, and calls made while submitted ones are under way
(they must not be overtaken), go through the loop.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import zmq

from runtime.ids import host_of, slot_of
from runtime.roster import Roster, State, endpoint
from runtime.wire import messages as m
from runtime.wire.codec import decode, encode, unpack, unpack_error
from runtime.wire.link import describe
from workers.errors import HostLost, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.wire.codec import Frame, Parcel
    from runtime.wire.messages import Message, Target

LOOK_MS = 10
"""Milliseconds without an answer after which to look whether the host still lives."""


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
        has_ended: Callable[[], bool],
    ) -> None:
        self.lock = threading.Lock()
        """Held by the thread that uses the lane."""
        self._context = context
        self._roster = roster
        self._run = run
        self._identity = identity
        self._has_ended = has_ended
        self._sockets: dict[int, tuple[int, zmq.Socket[bytes]]] = {}
        self._number = 0

    def call(self, target: Target, method: str, ready: Parcel) -> Any:
        """Call and wait. The lock must be held.

        Raises NotStarted, or what the method raised, or HostLost when the host died meanwhile.
        """
        roster = self._roster
        host = host_of(slot_of(target[1], roster.slots), roster.hosts)
        identity = roster.identity(host)
        generation, socket = self._sockets.get(host, (0, None))
        if identity.state != State.UP:
            raise NotStarted
        if socket is None or identity.generation != generation:
            socket = self._connect(host, identity.generation)
        kind, first, second, frames = ready
        self._number = number = self._number + 1
        batch = encode([(kind, number, target, method, first, second)])
        if frames:
            socket.send_multipart([batch, *frames], copy=False)
        else:
            socket.send(batch)
        try:
            return self._wait(socket, number, host, identity.generation, target, method)
        except BaseException as stop:
            if not isinstance(stop, Exception):  # Ctrl-C: nobody waits for this call any more
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
    ) -> Any:
        last_look = False
        while True:
            try:
                first = socket.recv()
            except zmq.Again:
                if self._has_ended():
                    raise RuntimeClosed(
                        f"the instance ended while it ran {describe(target, method)}",
                        durable_object_id=target[1].hex(),
                    ) from None
                if last_look:
                    self._forget(host)
                    raise HostLost(
                        f"host {host} died while it ran {describe(target, method)}; call again",
                        durable_object_id=target[1].hex(),
                    ) from None
                # One more wait after its end is known: its answer may have been on the way.
                last_look = self._roster.identity(host).generation != generation
                continue
            frames: list[Frame] = []
            while socket.getsockopt(zmq.RCVMORE):
                frames.append(socket.recv())
            for message in decode(first):
                if message[0] == m.GOODBYE:
                    self._forget(host)
                    raise NotStarted
                if message[1] == number:  # not of a call that was given up
                    return _value(message, frames)

    def _connect(self, host: int, generation: int) -> zmq.Socket[bytes]:
        self._forget(host)
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RCVTIMEO, LOOK_MS)
        socket.setsockopt(zmq.IDENTITY, self._identity)
        socket.connect(endpoint(self._run, host, generation))
        socket.send(encode([(m.HELLO, m.VERSION)]))
        self._sockets[host] = (generation, socket)
        return socket

    def _forget(self, host: int) -> None:
        _, socket = self._sockets.pop(host, (0, None))
        if socket is not None:
            socket.close(linger=0)

    def close(self) -> None:
        """Close all sockets, when no thread uses them."""
        with self.lock, contextlib.suppress(zmq.ZMQError):
            for host in list(self._sockets):
                self._forget(host)


def _value(message: Message, frames: list[Frame]) -> Any:
    kind = message[0]
    if kind == m.RESULT:
        return message[2]
    if kind == m.RESULT_PACKED:
        return unpack(message[2], frames)
    if kind == m.ERROR:
        raise unpack_error(message[2])
    raise NotStarted  # REFUSED
