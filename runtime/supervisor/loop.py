"""The supervisor's loop: descriptors, timers and signals, one after another, on one thread.

Signal handlers only enqueue and wake the loop; what is enqueued comes before what descriptors say,
so that the end of a child that the same Ctrl-C reached is met by a supervisor that knows of it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Loop:
    """See the module's text. The signals in `CAUGHT` are its own from its making on."""

    def __init__(self, on_signal: Callable[[signal.Signals], None]) -> None:
        self._on_signal = on_signal
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._signals: list[int] = []
        self._ended = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self.watch(self._wake, lambda: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for caught in CAUGHT:
            signal.signal(caught, lambda number, _: self._signals.append(number))

    def run(self) -> None:
        """Call what there is to call, until `end`."""
        while not self._ended:
            ready = self._selector.select(self._until_timer())
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(64)  # first: a signal that comes from now on wakes the loop again
            while self._signals:
                self._on_signal(signal.Signals(self._signals.pop(0)))
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:  # nobody forgot it meanwhile
                    key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def _until_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def end(self) -> None:
        """Let `run` return, after what it is calling."""
        self._ended = True
        self._timers.clear()

    def watch(self, what: socket.socket | int, function: Callable[[], object]) -> None:
        """Call a function whenever something can be read."""
        self._selector.register(what, selectors.EVENT_READ, function)

    def forget(self, what: socket.socket | int) -> None:
        """Watch something no more. Again: does nothing."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(what)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function once, after so many seconds."""
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._count), function))

    def close(self) -> None:
        """Watch nothing, and no signals, any more."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def shed(self) -> None:
        """In a new child: close what is the supervisor's, above all its ends of connections.

        A child that held them would keep its siblings from seeing their supervisor's death.
        """
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.close()
