"""Raw pyzmq between two processes: the floor under every call that goes over ZeroMQ.

A DEALER and a ROUTER over ipc, blocking sockets, pickled call tuples of the size that Roost's have,
a pickled result for each. No loop, no futures, no objects.
"""

from __future__ import annotations

import pickle
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zmq

from benchmarks.calls.peer import peer

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = ("Counter", bytes(range(32)), "one")
WINDOW = 16
"""Batches under way."""


def batch_of(size: int, by: int) -> list[tuple[Any, ...]]:
    """Return so many calls. Their arguments are tuples of their own, as those of real calls are."""
    return [(1, call, TARGET, "increment", (by,), None) for call in range(size)]


def serve(endpoint: str) -> None:
    """Answer every call of every batch, for ever. In a process of its own."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(endpoint)
    total = 0
    while True:
        identity, frame = router.recv_multipart()
        answers = []
        for _, call, _, _, (by,), _ in pickle.loads(frame):
            total += by
            answers.append((5, call, total))
        router.send_multipart([identity, pickle.dumps(answers, 5)])


class Raw:
    """A connection to the echoing process."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def round_trips(self, count: int) -> list[float]:
        """Make calls one after another; returns the microseconds that each took."""
        socket, clock = self._socket, time.perf_counter_ns
        taken = []
        for _ in range(count):
            began = clock()
            socket.send(pickle.dumps(batch_of(1, 1), 5))
            pickle.loads(socket.recv())
            taken.append((clock() - began) / 1e3)
        return taken

    def batches_a_second(self, count: int, size: int) -> float:
        """Keep a window of batches under way; returns how many went both ways in a second."""
        socket = self._socket
        began = time.perf_counter()
        for number in range(count + WINDOW):
            if number >= WINDOW:
                pickle.loads(socket.recv())
            if number < count:
                socket.send(pickle.dumps(batch_of(size, 1), 5))
        return count / (time.perf_counter() - began)


@contextmanager
def raw() -> Iterator[Raw]:
    """Connect to an echoing process."""
    with peer(serve) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        yield Raw(socket)
