"""The items of a remote generator, read by the thread that iterates: no loop, no thread of its own.

The connection over which the generator was called becomes the iterator's own, and the lane opens
another one for its next call.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import zmq

from runtime.wire import messages as m
from runtime.wire.codec import decode, encode, unpack_error
from runtime.wire.items import Pieces
from runtime.wire.streams import CREDIT
from workers.errors import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.wire.messages import Batch

_CLOSE_SECONDS = 1.0
"""How long to wait for a thread that reads, which looks up a hundred times as often."""


class LaneItems:
    """An iterator, for any threads; `close()` it, or drop it, to end the generator early.

    Raises what the generator raised, after the items before it; HostLost when its host died.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        number: int,
        lost: Callable[[], Exception | None],
    ) -> None:
        self._socket: zmq.Socket[bytes] | None = socket
        self._number = number
        self._lost = lost
        self._pieces = Pieces()
        self._items: deque[Any] = deque()
        self._owed = CREDIT
        self._error: BaseException | None = None
        self._lock = threading.RLock()
        """Held by the thread that uses the socket, of which there must be no other."""
        self._stopping = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            with self._lock:
                if self._stopping:
                    self._end()
                if self._items:  # another thread has read them
                    continue
                if self._socket is None:
                    error, self._error = self._error, None
                    raise error or StopIteration
                self._read(self._socket)

    def _read(self, socket: zmq.Socket[bytes]) -> None:
        """Take what arrives next."""
        try:
            if self._owed >= CREDIT // 2:
                socket.send(encode([(m.PULL, self._number, self._owed)]))
                self._owed = 0
            self._take(socket, decode(socket.recv()))
        except zmq.Again:
            self._error = self._lost()
            if self._error is not None:
                self._leave(socket)
        except BaseException:  # Ctrl-C: something may have been read, and is lost now
            self.fail(RoostError("the reading of items was interrupted: call the generator again"))
            raise

    def _take(self, socket: zmq.Socket[bytes], batch: Batch) -> None:
        for message in batch:
            if message[0] == m.CHUNK and message[1] == self._number:
                self._owed += len(message[2])
                self._items.extend(self._pieces.feed(message[2]))
            elif message[0] == m.END and message[1] == self._number:
                self._leave(socket)
                if message[2] is not None:
                    self._error = unpack_error(message[2])

    def _leave(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = None
        socket.send(encode([(m.LEAVE,)]))
        socket.close()

    def close(self) -> None:
        """End the generator, and give the connection up."""
        self._stopping = True  # for a thread that reads: it leaves by itself
        if self._lock.acquire(timeout=_CLOSE_SECONDS):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        self._items.clear()
        socket = self._socket
        if socket is not None:
            self._leave(socket)  # which ends the streams of the connection

    def fail(self, error: BaseException) -> None:
        """End the generator; who reads on gets an error."""
        if self._socket is not None:
            self._error = error
            self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # also at the end of the interpreter
            self.close()
