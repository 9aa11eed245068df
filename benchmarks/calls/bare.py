"""A bare loop: the least that calls with futures over ZeroMQ can cost, one object, no guarantees.

uvloop on both sides, the sockets' descriptors drained, at most one pickled batch a tick each way,
an asyncio future a call, a plain method. No errors, cancellation, ids, gates or crashes.
"""

from __future__ import annotations

import asyncio
import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvloop
import zmq

from benchmarks.calls.peer import peer
from benchmarks.calls.raw import TARGET
from benchmarks.objects import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    Batch = list[tuple[Any, ...]]


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits; to be asked after every send, which can take its edge."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def serve(endpoint: str) -> None:
    """Run the calls of one counter, for ever. In a process of its own."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(endpoint)
    counter = Counter(None, None)

    def drain() -> None:
        while readable(router):
            identity, frame = router.recv_multipart()
            answers = []
            for _, call, _, method, args, _ in pickle.loads(frame):
                answers.append((5, call, getattr(counter, method)(*args)))
            router.send_multipart([identity, pickle.dumps(answers, 5)])

    loop = uvloop.new_event_loop()
    loop.add_reader(int(router.getsockopt(zmq.FD)), drain)
    loop.call_soon(drain)
    loop.run_forever()


class Bare:
    """The calling side. Belongs to the running loop."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._out: Batch = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop.add_reader(int(socket.getsockopt(zmq.FD)), self._drain)

    def increment(self, by: int) -> asyncio.Future[Any]:
        """Call the counter."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._number = number = self._number + 1
        self._out.append((1, number, TARGET, "increment", (by,), None))
        future = self._waiting[number] = self._loop.create_future()
        return future

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._socket.send(pickle.dumps(out, 5))
        self._drain()

    def _drain(self) -> None:
        while readable(self._socket):
            for _, number, value in pickle.loads(self._socket.recv()):
                self._waiting.pop(number).set_result(value)


@contextmanager
def bare() -> Iterator[Bare]:
    """Connect to a counting process. Call it in a running loop."""
    with peer(serve) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        connection = Bare(socket)
        yield connection
        asyncio.get_running_loop().remove_reader(int(socket.getsockopt(zmq.FD)))
