"""One forked process, as its supervisor sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import multiprocess

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_fork = multiprocess.get_context("fork")


class Stage(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    UP = "up"
    LEAVING = "leaving"
    """Takes no new work."""
    STOPPING = "stopping"
    """Has no work, and was told to exit."""


@dataclass(slots=True, eq=False)
class Child:
    """A process that was forked, and not yet reaped."""

    kind: str
    """"host", "gateway", "watcher" or "trial"."""
    number: int
    generation: int
    connection: socket.socket
    process: Any
    pid: int
    pidfd: int
    stage: Stage = Stage.STARTING
    name: str = ""
    """The name by which it calls hosts."""
    why: str = ""
    """What it said of its failure."""
    idle: bool = False
    overran: bool = False
    """Whether it is killed because an event ran over its CPU limit."""
    started: float = field(default_factory=time.monotonic)
    up: float = 0.0
    """When it was ready for work, on the monotonic clock; 0 before."""

    def kill(self) -> None:
        """End it at once; reaping comes later."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Collect its exit code, negative for a signal, once its pidfd says that it has ended."""
        self.process.join()
        code: int = self.process.exitcode
        self.process.close()
        os.close(self.pidfd)
        self.connection.close()
        return code


def fork(
    kind: str,
    number: int,
    generation: int,
    ends: tuple[socket.socket, socket.socket],
    target: Callable[[], None],
) -> Child:
    """Fork a child that runs `target`. The first of `ends` stays here, the other is the child's.

    The calling process must have one thread and no ZeroMQ context: a fork copies neither in order.
    """
    ours, theirs = ends
    process = _fork.Process(target=target, name=f"roost-{kind}-{number}")
    process.start()
    theirs.close()
    ours.setblocking(False)
    pid: int = process.pid
    return Child(kind, number, generation, ours, process, pid, os.pidfd_open(pid))


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"exited with code {code}"
