"""README.md and docs/: the code runs as it stands, the links lead somewhere."""

import re
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from runtime.config import load
from runtime.config.keys import ROOST
from runtime.config.sockets import SocketLimits

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text()) if found == language]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


PROGRAMS = [
    pytest.param(code, id=f"{named(page)}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
    if re.search(r"^(with Runtime|asyncio\.run)\(", code, re.MULTILINE)
]


@pytest.mark.parametrize("code", PROGRAMS)
def test_every_whole_program_in_the_docs_runs(code, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_readme_has_programs_to_run():
    assert len(PROGRAMS) >= 2


def test_the_readme_worker_answers_as_it_stands(tmp_path):
    from runtime import Runtime

    (script,) = [code for code in blocks(ROOT / "README.md", "python") if "# src/worker.py" in code]
    (config,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "worker.py").write_text(script)
    (tmp_path / "wrangler.toml").write_text(config)
    with Runtime(tmp_path, hosts=1) as rt:
        rt.env.SETTINGS.put("theme", "dark")
        responses = [rt.fetch("http://localhost/?roomId=a") for _ in range(2)]
    import asyncio

    told = [asyncio.run(response.json()) for response in responses]
    assert told == [{"theme": "dark", "visits": 1}, {"theme": "dark", "visits": 2}]


def test_the_page_of_the_configuration_has_every_setting_with_its_default(tmp_path):
    (text,) = blocks(ROOT / "docs" / "configuration.md", "toml")
    worker = 'name = "w"\n'
    (tmp_path / "shown.toml").write_text(worker + text)
    (tmp_path / "empty.toml").write_text(worker)
    shown, defaults = load(tmp_path / "shown.toml"), load(tmp_path / "empty.toml")
    assert replace(shown, hosts=None, slots=None) == defaults
    written = tomllib.loads(text)
    assert written["roost"].keys() == ROOST
    assert written["roost"]["websockets"].keys() == {field.name for field in fields(SocketLimits)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_project_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
