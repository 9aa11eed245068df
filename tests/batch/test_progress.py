"""The line that shows how a map stands, on a terminal."""

import io
import re

import pytest

from runtime.batch.plan import Plan
from runtime.batch.progress import Progress
from runtime.batch.pump import Tally


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Show how a map ends; returns the last line."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")

    def shown_(total, tally, finished):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        progress = Progress(Plan("m"), None, total)
        progress.show(tally, 3, 1.0)
        progress.close(tally, finished=finished)
        return re.split(r"[\r\n]+", terminal.getvalue())[-2]

    return shown_


def test_a_map_of_unknown_length_has_no_time_that_is_left(shown):
    assert "left" not in shown(None, Tally(done=7), False)
    assert "left" in shown(10, Tally(done=7), False)


def test_one_that_was_stopped_does_not_look_finished(shown):
    assert "7/?" in shown(None, Tally(done=7), False)
    assert "7/10" in shown(10, Tally(done=7), False)
    assert "7/7" in shown(None, Tally(done=7), True)


def test_nothing_is_under_way_at_the_end_and_failures_are_told(shown):
    line = shown(10, Tally(done=10, failed=2), True)
    assert "under way" not in line
    assert "2 failed" in line
