"""Which hosts run an event that has used up its processor time.

A host writes its beat into the roster whenever its loop turns; while one event keeps the loop, the
beat stands still. What the process has used of the processor since then is that event's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.supervisor.children import Child

_PROCESS_CLOCK = 2  # of Linux: clock_getcpuclockid(3) makes (~pid << 3) | 2 of a pid


class Overruns:
    """Remembers of each host its last beat, and its processor time when that was first seen."""

    def __init__(self, cpu_ms: int) -> None:
        self._limit = cpu_ms / 1000
        self._seen: dict[Child, tuple[int, float]] = {}

    def look(self, host: Child, beat: int) -> bool:
        """Whether a host's event overran, given the host's beat now. To be asked now and then."""
        try:
            used = time.clock_gettime((~host.pid << 3) | _PROCESS_CLOCK)
        except OSError:  # it has just died
            return False
        before, since = self._seen.get(host, (0, 0.0))
        if not beat or beat != before:
            self._seen[host] = (beat, used)
            return False
        return used - since > self._limit

    def forget(self, host: Child) -> None:
        """Forget a host that has ended."""
        self._seen.pop(host, None)
