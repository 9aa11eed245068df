"""Where a benchmark ran: what a reader needs in order to compare its numbers with others."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import zmq

_PACKAGES = ("roost", "pyzmq", "uvloop")


def machine() -> dict[str, object]:
    """Return the facts of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "zeromq": zmq.zmq_version(),
        **{package: version(package) for package in _PACKAGES},
        "load_before": os.getloadavg()[0],
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
