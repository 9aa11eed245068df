"""Where and when a benchmark ran: what a reader needs to compare its numbers with others."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGES = ("roost", "pyzmq", "uvloop")


def machine(rivals: Iterable[str] = ()) -> dict[str, object]:
    """Return the facts of this machine, with the versions of those rivals that are installed."""
    versions = ", ".join(filter(None, map(_named, rivals)))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "zeromq": zmq.zmq_version(),
        **{package: version(package) for package in _PACKAGES},
        **({"rivals": versions} if versions else {}),
        "date": datetime.now(UTC).date().isoformat(),
        "load_before": os.getloadavg()[0],
    }


def _named(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
