"""A worker served by the `roost` command in a process of its own, as its user would start it.

`started` runs `roost dev` in the worker's folder, on a free port, and sees to it that nothing of it
runs any more when its block ends, however it ends.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY: Final = re.compile(r"is ready on (\S+)")
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 40.0
"""More than what a worker has by default to finish what is under way."""


class NotServingError(Exception):
    """The command did not come up; the text is all that it said."""


@dataclass(slots=True)
class Server:
    """A running `roost dev`."""

    process: subprocess.Popen[str]
    url: str
    said: list[str]
    """The lines it has printed so far."""

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code. Raises subprocess.TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def started(folder: Path, data: Path, hosts: int) -> Iterator[Server]:
    """Serve the worker in a folder until the end of the block. Raises NotServingError."""
    command = [
        str(Path(sys.executable).with_name("roost")),
        *("dev", "--port", "0", "--hosts", str(hosts), "--data-dir", str(data)),
        *("--log-level", "error"),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    ready: SimpleQueue[str | None] = SimpleQueue()

    def listen() -> None:
        """Keep the pipe empty to the end: a full one would hold the server up."""
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := _READY.search(line):
                ready.put(found[1])
        ready.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        try:
            url = ready.get(timeout=_START_SECONDS)
        except Empty:
            url = None
        if url is None:
            raise NotServingError(f"{' '.join(command)}\n{''.join(said)}")
        yield Server(process, url, said)
    finally:
        process.terminate()  # does nothing if it has ended
        try:
            process.wait(_STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
