"""Which hosts run an event that has used up its processor time.

A host writes its beat into the roster whenever its loop turns; while one event keeps the loop, the
beat stands still. What the process has used of the processor since then is that event's. An event that
keeps the loop without using the processor, asleep or stopped, gets ten times the limit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.supervisor.children import Child

_PROCESS_CLOCK = 2  # of Linux: clock_getcpuclockid(3) makes (~pid << 3) | 2 of a pid

STUCK = 10
"""How many times its CPU limit an event may last by the clock on the wall."""


class Overruns:
    """Remembers of each host its last beat, and its processor time when that was first seen."""

    def __init__(self, cpu_ms: int) -> None:
        self._limit = cpu_ms / 1000
        self._seen: dict[Child, tuple[int, float]] = {}

    def look(self, host: Child, beat: int) -> str | None:
        """Say how a host's event overran, given the host's beat now; None when none did.

        To be asked now and then.
        """
        try:
            used = time.clock_gettime((~host.pid << 3) | _PROCESS_CLOCK)
        except OSError:  # it has just died
            return None
        before, since = self._seen.get(host, (0, 0.0))
        if not beat or beat != before:
            self._seen[host] = (beat, used)
            return None
        if used - since > self._limit:
            return f"ran for more than {self._limit:g} s of processor time (`cpu_ms`)"
        if time.monotonic() - beat / 1e9 > STUCK * self._limit:
            return (
                f"has stood still for {STUCK} times its CPU limit of {self._limit:g} s (`cpu_ms`)"
            )
        return None

    def forget(self, host: Child) -> None:
        """Forget a host that has ended."""
        self._seen.pop(host, None)
