"""The line that shows how a map stands, on a terminal."""

import gzip
import io
import os
import re

import pytest

from runtime.batch.plan import Plan
from runtime.batch.progress import Progress
from runtime.batch.pump import Tally
from runtime.batch.source import total
from runtime.cli.records import Records


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


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.tsv", "in.parquet"])
@pytest.mark.parametrize("rest", [b"", b"\n"])
def test_a_file_says_how_many_records_it_has(tmp_path, name, rest):
    path = tmp_path / name
    if name.endswith("parquet"):
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"n": range(7)}), path)
    else:
        header = [] if "jsonl" in name else [b"n"]
        path.write_bytes(b"\n".join([*header, *[b"7"] * 7]) + rest)
    assert total(Records(str(path), None)) == 7


def test_of_a_long_file_it_is_as_if_it_went_on_as_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.cli.records.COUNTED", 6400)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"n": 1}\n' * 10_000)
    assert total(Records(str(path), None)) == pytest.approx(10_000, rel=0.01)


def test_nobody_knows_how_much_comes_through_a_pipe_or_is_packed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    (tmp_path / "in.parquet").write_bytes(b"no parquet")
    assert total(Records("-", None)) is None
    assert total(Records(str(tmp_path / "pipe"), "jsonl")) is None
    assert total(Records(str(tmp_path / "in.jsonl.gz"), None)) is None
    assert total(Records(str(tmp_path / "in.parquet"), None)) is None
    assert total(iter([1])) is None
    assert total([1]) == 1
