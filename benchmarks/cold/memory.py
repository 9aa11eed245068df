"""The memory that a process and all its descendants hold, as the kernel counts it.

RSS counts a page once for each process that maps it; PSS shares it out between them, so only the sum
of PSS says what the whole costs the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """What a tree of processes holds, in MiB."""

    processes: int
    pss: float
    rss: float
    anonymous: float
    """What is no file's: heaps and stacks, also where a fork still shares them."""


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in (_PROC / str(parent) / "task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def memory_of(pids: list[int]) -> Memory:
    """Add up what processes hold."""
    rollups = [parse((_PROC / str(pid) / "smaps_rollup").read_text()) for pid in pids]
    pss = sum(rollup["Pss"] for rollup in rollups)
    rss = sum(rollup["Rss"] for rollup in rollups)
    anonymous = sum(rollup["Anonymous"] for rollup in rollups)
    return Memory(len(pids), pss / 1024, rss / 1024, anonymous / 1024)


def parse(rollup: str) -> dict[str, int]:
    """Return the figures of a smaps_rollup, in KiB; its first line is no figure."""
    lines = (line.split() for line in rollup.splitlines()[1:])
    return {name.rstrip(":"): int(kib) for name, kib, *_ in lines}
