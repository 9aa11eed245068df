"""The delays example on real hosts: the same results however many, and whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from examples.delays import __main__ as command
from examples.delays import report
from examples.delays.aircraft import AircraftObject
from examples.delays.model import Model
from examples.delays.run import Result, feed, run
from runtime import Runtime

if TYPE_CHECKING:
    from examples.delays.flights import Aircraft
    from examples.delays.model import Summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected(fleet: list[Aircraft]) -> dict[str, Summary]:
    """What a plain loop in one process learns."""
    summaries = {}
    for aircraft in fleet:
        model = Model()
        for flight in aircraft.flights:
            model.observe(flight)
        summaries[aircraft.tail] = model.summary()
    return summaries


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_any_number_of_hosts_learns_what_a_plain_loop_learns(
    hosts: int, fleet: list[Aircraft], expected: dict[str, Summary], tmp_path: Path
) -> None:
    told: list[int] = []
    result = run(fleet, tmp_path, hosts, told.append)
    assert result.summaries == expected
    assert len(result.hosts) == hosts
    assert all(host.busy_s > 0 and host.calls > 0 for host in result.hosts)
    assert told == sorted(told)
    assert told[-1] == sum(len(aircraft.flights) for aircraft in fleet)


def test_a_host_that_is_killed_meanwhile_changes_nothing(
    fleet: list[Aircraft], expected: dict[str, Summary], tmp_path: Path
) -> None:
    with Runtime(objects={"AIRCRAFT": AircraftObject}, data_dir=tmp_path, hosts=2) as runtime:
        victims = runtime.status()

        def on_progress(known: int) -> None:
            if victims and known >= 2_000:
                os.kill(victims.pop().pid, signal.SIGKILL)

        objects = runtime.env.AIRCRAFT
        feed(objects, fleet, on_progress)
        assert victims == []
        assert [host.generation for host in runtime.status()] == [2, 2]
        found = {tail: objects.getByName(tail).summary() for tail in expected}
    assert found == expected


def test_another_run_goes_on_where_one_stopped(
    fleet: list[Aircraft], expected: dict[str, Summary], tmp_path: Path
) -> None:
    def stop(known: int) -> None:
        if known > 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fleet, tmp_path, 1, stop)
    result = run(fleet, tmp_path, 2)
    assert result.continued
    assert result.summaries == expected


def test_the_command_prints_the_report_and_draws_it(tmp_path: Path) -> None:
    png = tmp_path / "report.png"
    options = ["--sample", "40", "--hosts", "2", "3", "--data-dir", "data", "--plot", str(png)]
    ran = subprocess.run(
        [sys.executable, "-m", "examples.delays", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for told in (
        "of 102 aircraft",
        "learnt the same, to the last bit",
        "times as fast as 2 hosts",
        "ExpressJet",
    ):
        assert told in ran.stdout
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["hosts-2", "hosts-3"]


def test_results_that_differ_are_told_and_so_is_where(
    expected: dict[str, Summary], capsys: pytest.CaptureFixture[str]
) -> None:
    tail, summary = next(iter(expected.items()))
    other = {**expected, tail: summary._replace(digest=bytes(32))}
    good, wrong = (Result([], 1.0, continued=False, summaries=s) for s in (expected, other))
    assert command._compare(Console(), [good, good])
    assert not command._compare(Console(), [good, wrong])
    assert tail in capsys.readouterr().out


def test_more_hosts_than_slots_is_one_plain_message(
    fleet: list[Aircraft],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "read", lambda _: fleet)
    assert command.main(["--hosts", "99", "--data-dir", str(tmp_path)]) == 1
    assert "99 hosts need as many slots" in capsys.readouterr().out


def test_only_aircraft_that_flew_enough_are_judged_the_worst_first(
    fleet: list[Aircraft], expected: dict[str, Summary]
) -> None:
    judged = report.judge(fleet, expected)
    assert len(judged) == sum(s.arrivals >= report.ENOUGH for s in expected.values()) > 10
    delays = [each.one_in_ten for each in judged]
    assert delays == sorted(delays, reverse=True)
