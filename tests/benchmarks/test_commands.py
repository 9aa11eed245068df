"""`python -m benchmarks`: every benchmark runs and prints the agreed object. Times are not judged."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import names

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, done.stderr


def test_without_a_name_it_lists_every_benchmark_how_long_it_takes_and_what_it_measures() -> None:
    lines = run()[0].splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(re.fullmatch(r"\w+ +\d+ (s|min) +\w.{30,}\.", line) for line in lines)


@pytest.mark.parametrize("name", names())
def test_every_benchmark_runs_and_prints_one_object(name: str) -> None:
    out, err = run(name, "--json", "--quick")
    printed = json.loads(out)
    assert list(printed) == ["benchmark", "machine", "results", "targets"]
    assert printed["benchmark"] == name
    assert printed["machine"]["cores"] > 0
    assert printed["machine"]["quick"]
    if name == "http" and shutil.which("wrk") is None:
        assert "skipped: everything: wrk is not installed (apt-get install wrk)" in err
    else:
        assert printed["results"]
    for found in printed["results"]:
        assert list(found) == ["name", "system", "value", "unit", "spread"]
        low, high = found["spread"]
        assert low <= found["value"] <= high
    for target in printed["targets"]:
        assert list(target) == ["name", "value", "target", "holds"]
