"""What a running server has on the machine, and what of it is still there when it has stopped.

Other programs, and other servers, come and go meanwhile, so only what is known to be this one's
counts: its processes, held by pidfd; its run directory; and in /dev/shm whatever they had open or
mapped, or carries the instance's mark.
"""

from __future__ import annotations

import contextlib
import os
import select
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC: Final = Path("/proc")
_SHARED: Final = Path("/dev/shm")


@dataclass(slots=True)
class Traces:
    """`note` while the server runs, ask when it has stopped, `close` at the end."""

    run: Path
    """The run directory: sockets, and the roster."""
    mark: str
    """What is in the name of everything that the instance has outside of its data directory."""
    _processes: dict[int, int] = field(default_factory=dict)  # pidfds, by process id
    _shared: set[Path] = field(default_factory=set)

    def note(self, pid: int) -> None:
        """Note a process and all its descendants, and what they share memory by."""
        for found in tree(pid):
            if found not in self._processes:
                self._processes[found] = os.pidfd_open(found)
            self._shared.update(_shared_by(found))

    @property
    def processes(self) -> int:
        """How many processes were noted."""
        return len(self._processes)

    def alive(self) -> list[int]:
        """Return the ids of noted processes that have not ended."""
        ended, _, _ = select.select(self._processes.values(), [], [], 0)
        return [pid for pid, pidfd in self._processes.items() if pidfd not in ended]

    def shared_left(self) -> list[Path]:
        """Return what is left in /dev/shm."""
        named = _SHARED.glob(f"*{self.mark}*")
        return sorted({*named, *(path for path in self._shared if path.exists())})

    def close(self) -> None:
        """Let the processes go."""
        for pidfd in self._processes.values():
            os.close(pidfd)
        self._processes.clear()


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            for task in (_PROC / str(parent) / "task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def _shared_by(pid: int) -> Iterator[Path]:
    """Yield what a process has open or mapped in /dev/shm."""
    own = _PROC / str(pid)
    with contextlib.suppress(FileNotFoundError):
        for line in (own / "maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and _SHARED in Path(fields[5]).parents:
                yield Path(fields[5])
        for link in (own / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if _SHARED in (target := link.readlink()).parents:
                    yield target
