"""What `cold` reads of the kernel."""

import subprocess
import sys

from benchmarks.cold.memory import memory_of, parse, tree

ROLLUP = """\
55b0-7ffe ---p 00000000 00:00 0                          [rollup]
Rss:                8764 kB
Pss:                5246 kB
Pss_Dirty:          4120 kB
"""

_PARENT = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"]
)
child.wait()
"""


def test_the_head_of_a_rollup_is_no_figure() -> None:
    assert parse(ROLLUP) == {"Rss": 8764, "Pss": 5246, "Pss_Dirty": 4120}


def test_a_tree_has_its_grandchildren_and_their_memory() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        pids = tree(parent.pid)
        held, alone = memory_of(pids), memory_of([parent.pid])
        parent.communicate()  # closes its input, so that both end
    assert len(pids) == held.processes == 2
    assert alone.rss < held.rss
    assert 0 < held.pss <= held.rss
