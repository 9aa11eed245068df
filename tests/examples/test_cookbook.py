"""The programs of the cookbook: each does what its page says, and the page shows what is in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.cookbook import leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "cookbook"
PAGE = (ROOT / "docs" / "cookbook.md").read_text()
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., list[str]]:
    """Run a program and return the lines that it printed."""

    def run(name: str, size: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", f"examples.cookbook.{name}", str(size)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []
        return done.stdout.splitlines()

    return run


def test_each_aircraft_learns_what_its_delays_follow(told: Callable[..., list[str]]) -> None:
    lines = told("online_learning", 5_000)
    slopes = [float(line.split()[2]) for line in lines]
    assert len(slopes) == 5
    assert all(0.8 < slope < 1 for slope in slopes)


def test_all_copies_are_found_and_nothing_else(told: Callable[..., list[str]]) -> None:
    (line,) = told("near_duplicates", 500)
    assert line.startswith("50 of 50 copies were found")


def test_no_request_comes_too_early(told: Callable[..., list[str]]) -> None:
    assert told("rate_limited", 40) == ["40 of 40 requests were let in, 0 were too early"]


def test_a_gap_ends_a_session(told: Callable[..., list[str]]) -> None:
    assert told("sessions", 2_000) == ["60 sessions were closed, the longest after 24 minutes"]


def test_the_best_score_of_all_is_published(told: Callable[..., list[str]]) -> None:
    lines = told("leaderboard", 1_000)
    best = {
        game: max(
            played["points"] for played in leaderboard.scores(1_000) if played["game"] == game
        )
        for game in ("g0", "g1", "g2", "g3")
    }
    found = {line[:2]: int(line.split()[4]) for line in lines}
    assert found == best


def test_each_station_adds_up_its_own_rows(told: Callable[..., list[str]]) -> None:
    (line,) = told("tables", 7_000)
    assert literal_eval(line) == {station: station for station in range(7)}


def test_the_hosts_are_an_executor(told: Callable[..., list[str]]) -> None:
    assert sorted(told("pool", 2_000)) == [
        "a hundred at once: 1415",
        "below 1000: 168",
        "below 100: 25",
        "below 2000: 303",
        "in asyncio: 168",
    ]


def test_every_program_has_its_story() -> None:
    linked = re.findall(r"\(\.\./examples/cookbook/(\w+)\.py\)", PAGE)
    assert sorted(linked) == PROGRAMS


def test_what_the_page_shows_is_in_the_programs() -> None:
    sections = PAGE.split("\n## ")[1:]
    shown = 0
    for section in sections:
        for name in re.findall(r"\(\.\./(examples/[\w/]+\.py)\)", section):
            program = (ROOT / name).read_text()
            for code in re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
                shown += 1
                for piece in code.strip("\n").split("\n\n\n"):
                    assert piece in program, name
    assert shown >= len(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_is_short(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 100
