"""README.md and docs/: the code runs as it stands, the links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_project_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
