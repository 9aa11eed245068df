"""Processor time that this process and the hosts of an instance use meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime import HostStatus

_PROCESS_CLOCK: Final = 2
"""In the number of the clock of another process: see clock_getcpuclockid(3)."""


@dataclass(frozen=True, slots=True)
class HostUse:
    """What a host has used; None where it was replaced meanwhile."""

    host: int
    busy_ns: int | None
    """Processor time of its events and their messages."""
    cpu_ns: int | None
    """Processor time of all its threads."""


class Used:
    """Processor time from when this was made to `taken`."""

    caller_ns: int
    hosts: list[HostUse]

    def __init__(self, statuses: list[HostStatus]) -> None:
        self._before = {status.pid: _of_host(status) for status in statuses}
        self._began = time.process_time_ns()

    def taken(self, statuses: list[HostStatus]) -> None:
        """Note what was used by now."""
        self.caller_ns = time.process_time_ns() - self._began
        self.hosts = []
        for status in statuses:
            before, now = self._before.get(status.pid), _of_host(status)
            if before is None:
                self.hosts.append(HostUse(status.host, None, None))
            else:
                busy, cpu = (b - a for a, b in zip(before, now, strict=True))
                self.hosts.append(HostUse(status.host, busy, cpu))


def _of_host(status: HostStatus) -> tuple[int, int]:
    try:
        cpu = time.clock_gettime_ns(~status.pid << 3 | _PROCESS_CLOCK)
    except OSError:  # it has just died
        cpu = 0
    return int(status.busy_s * 1e9), cpu
