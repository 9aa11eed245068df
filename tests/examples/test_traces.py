"""What the demonstration looks for when the server has stopped: it is found while it is there."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from examples.demo.traces import Traces

if TYPE_CHECKING:
    from pathlib import Path

_GRANDPARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"])
child.wait()
"""


def test_a_process_and_its_children_count_until_they_have_ended(tmp_path: Path) -> None:
    traces = Traces(tmp_path, "mark")
    with subprocess.Popen(
        [sys.executable, "-c", _GRANDPARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        traces.note(parent.pid)
        assert traces.processes == 2
        assert parent.pid in traces.alive()
        assert len(traces.alive()) == 2
        parent.communicate(b"\n")
    assert traces.alive() == []
    traces.close()


def test_shared_memory_that_was_open_mapped_or_marked_counts_until_it_is_gone(
    tmp_path: Path,
) -> None:
    mark = os.urandom(8).hex()
    traces = Traces(tmp_path, mark)
    with (
        tempfile.NamedTemporaryFile(dir="/dev/shm") as opened,
        tempfile.NamedTemporaryFile(dir="/dev/shm") as mapped,
        tempfile.NamedTemporaryFile(dir="/dev/shm", prefix=mark) as marked,
        tempfile.TemporaryFile(dir="/dev/shm"),
    ):
        mapped.truncate(4096)
        with mmap.mmap(mapped.fileno(), 4096):
            mapped.file.close()
            traces.note(os.getpid())
        assert {str(path) for path in traces.shared_left()} >= {
            opened.name,
            mapped.name,
            marked.name,
        }
    assert traces.shared_left() == []
    traces.close()
