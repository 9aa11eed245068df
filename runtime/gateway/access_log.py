"""One line a request: time, method, path, status, bytes, duration.

The request only leaves a tuple behind (0.3 µs); lines are made and written together a moment later,
one write for all of them. On a terminal the status is coloured; elsewhere the line is plain, with the
date in UTC. The list of waiting lines belongs to the process's loop; `flush()` empties it at the end.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_COLOURS = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}


class AccessLog:
    """Writes requests to a text stream; the instance is what a `Server` calls.

    `quiet` keeps only answers of status 500 and above. `clock` gives seconds since the epoch.
    `delay` is how long, in seconds, lines may wait for company.
    """

    __slots__ = ("_clock", "_delay", "_quiet", "_stream", "_tty", "_waiting")

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.time,
        delay: float = 0.05,
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._clock = clock
        self._delay = delay
        self._tty = stream.isatty()
        self._waiting: list[tuple[float, str, str, int, int, float]] = []

    def __call__(self, method: str, target: str, status: int, sent: int, seconds: float) -> None:
        """Note one answered request: `sent` bytes of body, `seconds` from first to last."""
        if self._quiet and status < 500:
            return
        waiting = self._waiting
        waiting.append((self._clock(), method, target, status, sent, seconds))
        if len(waiting) == 1:
            asyncio.get_running_loop().call_later(self._delay, self.flush)

    def flush(self) -> None:
        """Write the lines that wait. A stream that refuses them (closed, full) loses them."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        line = _coloured if self._tty else _plain
        try:
            self._stream.write("".join([line(*entry) for entry in waiting]))
            self._stream.flush()
        except (OSError, ValueError):
            return


def _plain(at: float, method: str, target: str, status: int, sent: int, seconds: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return f"{stamp} {method} {target} {status} {sent}B {seconds * 1000:.2f}ms\n"


def _coloured(at: float, method: str, target: str, status: int, sent: int, seconds: float) -> str:
    stamp = time.strftime("%H:%M:%S", time.localtime(at))
    shown = f"{_COLOURS.get(status // 100, '')}{status}{_RESET}"
    tail = f"{_DIM}{sent}B {seconds * 1000:.2f}ms{_RESET}"
    return f"{_DIM}{stamp}{_RESET} {method} {target} {shown} {tail}\n"
