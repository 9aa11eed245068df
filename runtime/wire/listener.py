"""The ROUTER of a host, watched by its loop.

ZeroMQ tells of messages by an edge on one descriptor, so everything is taken until nothing is left,
and looked at again after sends; a burst is taken in portions, to leave the loop its turn.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import zmq

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from runtime.wire.codec import Frame

_POLLIN = int(
    zmq.POLLIN
)  # the flag's own `&` is written in Python, and takes longer than all of this

PORTION = 64
"""Batches taken before the loop gets its turn."""


class Receiver(Protocol):
    """Who takes the batches."""

    def take(self, identity: bytes, first: bytes, frames: Sequence[Frame]) -> None:
        """Take a batch."""

    def work(self) -> None:
        """Work off what was taken."""


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits in a socket."""
    return bool(socket.get(zmq.EVENTS) & _POLLIN)  # type: ignore[operator]


def bind(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """Return a ROUTER bound to an endpoint. Queues are without limit: callers have windows."""
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.RCVHWM, 0)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    router.bind(endpoint)
    os.chmod(endpoint.removeprefix("ipc://"), 0o600)  # noqa: PTH101
    return router


class Listener:
    """Takes batches from a ROUTER as they arrive."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, router: zmq.Socket[bytes], receiver: Receiver
    ) -> None:
        self._loop = loop
        self._router = router
        self._receiver = receiver
        self._handle = int(router.getsockopt(zmq.FD))
        self._again = False
        loop.add_reader(self._handle, self._drain)
        loop.call_soon(self._drain)

    def _drain_again(self) -> None:
        self._again = False
        self._drain()

    def _drain(self) -> None:
        router, receiver = self._router, self._receiver
        if router.closed:
            return
        for _ in range(PORTION):
            if not readable(router):  # an exception of recv() takes four times as long
                break
            identity = router.recv(zmq.DONTWAIT)
            first = router.recv(zmq.DONTWAIT)
            frames: list[Frame] = []
            while router.get(zmq.RCVMORE):
                frames.append(router.recv(zmq.DONTWAIT))
            receiver.take(identity, first, frames)
        else:
            self.look_again()
        receiver.work()

    def look_again(self) -> None:
        """Take care that nothing lies unnoticed. To be called after every send on the ROUTER.

        A send can take the edge that told of the next message.
        """
        if not self._again and readable(self._router):
            self._again = True
            self._loop.call_soon(self._drain_again)

    def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._handle)
