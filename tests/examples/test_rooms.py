"""The rooms example, served by the `roost` command to real HTTP clients."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import __main__ as demo
from examples.demo.clients import refusal, visit
from examples.demo.server import NotServingError, started
from examples.demo.traces import Traces

ROOT = Path(__file__).parents[2]


def test_the_demonstration_keeps_every_promise() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "100 instances in 6,400 answers" in ran.stdout
    assert "all 13 promises kept" in ran.stdout


def test_a_request_without_a_room_gets_400_and_is_told_what_to_ask(tmp_path: Path) -> None:
    with started(demo.FOLDER, tmp_path / "data", 1) as server:
        for url in (server.url, f"{server.url}/?roomId=", f"{server.url}/?room=a"):
            status, text = asyncio.run(refusal(url))
            assert status == 400
            assert text == "Which room? Ask for one like this: GET /?roomId=a\n"


def test_visits_go_on_after_a_restart_in_a_new_instance(tmp_path: Path) -> None:
    answers = []
    for hosts in (1, 3):
        with started(demo.FOLDER, tmp_path / "data", hosts) as server:
            answers += asyncio.run(visit(server.url, ["a"], 2)).answers
            assert server.stop() == 0
    assert sorted(answer.visits for answer in answers) == [1, 2, 3, 4]
    assert len({answer.instance for answer in answers}) == 2


def test_nothing_of_a_server_runs_after_its_block(tmp_path: Path) -> None:
    traces = Traces(tmp_path, "mark")
    with started(demo.FOLDER, tmp_path / "data", 2) as server:
        traces.note(server.process.pid)
        assert traces.processes == 5
    assert traces.alive() == []
    traces.close()


def test_a_server_that_does_not_come_up_tells_why(tmp_path: Path) -> None:
    with pytest.raises(NotServingError, match=r"no wrangler\.toml"), started(tmp_path, tmp_path, 1):
        pass


def test_a_broken_promise_ends_the_demonstration_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(demo.FOLDER, tmp_path / "rooms")
    script = folder / "src" / "worker.py"
    script.write_text(
        script.read_text().replace('"instance": self.instance', '"instance": uuid4().hex')
    )
    monkeypatch.setattr(demo, "FOLDER", folder)
    monkeypatch.setattr(demo, "ROOMS", ["a", "b", "c"])
    assert demo.main() == 1
    told = capsys.readouterr().out
    assert f"room a was {demo.CLIENTS} instances" in told
    assert "2 promises were broken" in told


def test_a_worker_that_does_not_load_ends_it_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(demo.FOLDER, tmp_path / "rooms")
    (folder / "src" / "worker.py").write_text("raise RuntimeError('not today')")
    monkeypatch.setattr(demo, "FOLDER", folder)
    assert demo.main() == 1
    assert "not today" in capsys.readouterr().out
