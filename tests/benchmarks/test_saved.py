"""The command with runs that were saved: it compares and plots them, and measures nothing."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from benchmarks import __main__ as command
from benchmarks.plot import panels
from benchmarks.report import Report, result

SAVED = """{
  "benchmark": "calls",
  "machine": {
    "cpu": "AMD EPYC", "cores": 2, "memory_gib": 23.5, "kernel": "6.18", "python": "3.11.7",
    "roost": "0.1.0", "rivals": "ray 2.60.0, xoscar 0.12.2", "date": "2026-11-24", "load_before": 0.1
  },
  "results": [
    {"name": "synchronous round trip p50", "system": "Roost", "value": 136.0, "unit": "µs",
     "spread": [130.0, 150.0]},
    {"name": "synchronous round trip p50", "system": "Ray", "value": 742.0, "unit": "µs",
     "spread": [700.0, 800.0]},
    {"name": "pipelined to one actor", "system": "Ray", "value": 3300.0, "unit": "calls/s",
     "spread": [3000.0, 3500.0]},
    {"name": "pipelined to one actor", "system": "Roost", "value": 402000.0, "unit": "calls/s",
     "spread": [390000.0, 410000.0]},
    {"name": "object to object, awaited", "system": "Roost", "value": 157000.0, "unit": "calls/s",
     "spread": [150000.0, 160000.0]}
  ],
  "targets": [{"name": "start-up", "value": 0.29, "target": "<= 0.4 s", "holds": true}]
}"""

PLOTS = Path(__file__).parents[2] / "docs" / "plots"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *, quick: bool) -> None:
        raise AssertionError(f"{name} was run")

    monkeypatch.setattr(command, "measure", refuse)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "calls.json"
    path.write_text(SAVED)
    return str(path)


def changed(tmp_path: Path, *pairs: tuple[str, str]) -> str:
    text = SAVED
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "changed.json"
    path.write_text(text)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command.main, arguments, env={"COLUMNS": "160"})


def row(output: str, *words: str) -> str:
    (found,) = [line for line in output.splitlines() if all(word in line for word in words)]
    return found


def words(picture: Path) -> list[str]:
    root = ET.parse(picture).getroot()
    return ["".join(found.itertext()).strip() for found in root.iter(f"{SVG}text")]


def test_a_saved_run_is_printed_again(saved: str) -> None:
    shown = run("--from", saved).stdout
    assert "402,000" in row(shown, "pipelined to one actor", "Roost")
    assert "holds  start-up" in shown
    assert json.loads(run("--from", saved, "--json").stdout) == json.loads(SAVED)


def test_a_comparison_shows_the_earlier_median_the_ratio_and_whether_they_differ(
    saved: str, tmp_path: Path
) -> None:
    now = changed(
        tmp_path,
        ("136.0", "68.0"),
        ("[130.0, 150.0]", "[60.0, 70.0]"),
        ("3300.0", "3350.0"),
        ("object to object, awaited", "object to object"),
        ("AMD EPYC", "Xeon"),
    )
    done = run("--from", now, "--compare", saved)
    assert done.exit_code == 0
    cells = [cell.strip() for cell in row(done.stdout, "round trip", "Roost").split("│")]
    assert cells[3] == "68"
    assert cells[6:9] == ["136", "0.50", "better"]
    assert "within the spreads" in row(done.stdout, "pipelined", "Ray")
    assert "new" in row(done.stdout, "object to object")
    assert done.stderr.splitlines() == [
        "compare: another machine or library: cpu was AMD EPYC, is Xeon",
        "compare: only in the earlier run: object to object, awaited, Roost",
    ]


def test_a_comparison_is_in_the_json_too(saved: str, tmp_path: Path) -> None:
    now = changed(tmp_path, ("[390000.0, 410000.0]", "[390000.0, 420000.0]"))
    printed = run("--from", now, "--compare", saved, "--json").stdout
    found = json.loads(printed)["changes"]
    assert [each["earlier"] for each in found] == json.loads(SAVED)["results"]
    assert {(each["ratio"], each["verdict"]) for each in found} == {(1.0, "within the spreads")}
    (tmp_path / "again.json").write_text(printed)
    assert run("--from", str(tmp_path / "again.json")).exit_code == 0


def test_only_who_asks_for_it_fails_because_a_result_is_worse(saved: str, tmp_path: Path) -> None:
    worse = changed(tmp_path, ("136.0", "236.0"), ("[130.0, 150.0]", "[230.0, 250.0]"))
    assert run("--from", worse, "--compare", saved).exit_code == 0
    assert run("--from", worse, "--compare", saved, "--fail-if-worse").exit_code == 1
    assert run("--from", saved, "--compare", worse, "--fail-if-worse").exit_code == 0


def test_a_plot_has_every_value_the_machine_the_date_and_the_versions(
    saved: str, tmp_path: Path
) -> None:
    assert run("--from", saved, "--plot", str(tmp_path / "calls.svg")).exit_code == 0
    assert not (tmp_path / "calls.png").exists()
    texts = words(tmp_path / "calls.svg")
    assert [text for text in texts if text.endswith(("µs", "calls/s"))] == [
        "136 µs",
        "742 µs",
        "402,000 calls/s",
        "3,300 calls/s",
    ]
    assert "synchronous round trip p50: less is better" in texts
    assert "pipelined to one actor: more is better, log scale" in texts
    whole = " ".join(texts)
    for fact in ("Roost 0.1.0", "AMD EPYC", "2 cores", "Python 3.11.7", "2026-11-24", "ray 2.60.0"):
        assert fact in whole
    assert "quick" not in whole


def test_a_plot_without_a_suffix_is_an_svg_and_a_png_and_the_same_each_time(
    saved: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        assert run("--from", saved, "--plot", str(tmp_path / name)).exit_code == 0
    for suffix in (".svg", ".png"):
        one, two = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in ("one", "two"))
        assert one == two
    assert one.startswith(b"\x89PNG")


def test_a_plot_of_a_quick_run_says_so(tmp_path: Path) -> None:
    quick = changed(tmp_path, ('"cores": 2', '"cores": 2, "quick": true'))
    run("--from", quick, "--plot", str(tmp_path / "calls.svg"))
    assert "the numbers mean nothing" in (tmp_path / "calls.svg").read_text()


def test_without_names_all_results_with_a_rival_are_drawn_the_best_first() -> None:
    found = [
        result("slow", "Ray", [3.0], "s"),
        result("slow", "Roost", [1.0], "s"),
        result("alone", "Roost", [1.0], "s"),
        result("many", "Roost", [1.0], "calls/s"),
        result("many", "Ray", [3.0], "calls/s"),
    ]
    drawn = panels(Report(found), ())
    assert drawn == [[found[1], found[0]], [found[4], found[3]]]
    assert panels(Report(found), ["many", "absent"]) == drawn[1:]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--from", "absent.json"], "cannot read absent.json: No such file"),
        (["--from", "."], "cannot read .: Is a directory"),
        (["--from", "{empty}"], "is not what `python -m benchmarks NAME --json` prints"),
        (["--from", "{other}"], "is of 'chess', which is no benchmark here"),
        (["calls", "--from", "{saved}"], "--from measures nothing"),
        (["--from", "{saved}", "--quick"], "--from measures nothing"),
        (
            ["calls", "--compare", "{empty}"],
            "is not what `python -m benchmarks NAME --json` prints",
        ),
        (["kv", "--compare", "{saved}"], "--compare has a run of calls, this is kv"),
        (["calls", "--fail-if-worse"], "--fail-if-worse needs --compare"),
        (["calls", "--plot", "calls.pdf"], "calls.pdf is neither .png nor .svg"),
        (["calls", "--plot", "absent/calls"], "there is no folder absent"),
        (["--json"], "Which benchmark? One of batch, calls"),
        (["--compare", "{saved}"], "Which benchmark?"),
        (["--plot", "calls"], "Which benchmark?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    arguments: list[str], error: str, saved: str, tmp_path: Path
) -> None:
    files = {"saved": saved, "other": changed(tmp_path, ('"calls"', '"chess"'))}
    (tmp_path / "empty.json").touch()
    files["empty"] = str(tmp_path / "empty.json")
    done = run(*(each.format(**files) for each in arguments))
    assert done.exit_code == 2
    assert error in " ".join(done.stderr.split())


def test_a_plot_without_matplotlib_is_refused_with_what_to_install(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    done = run("--from", saved, "--plot", str(tmp_path / "calls"))
    assert done.exit_code == 2
    assert "pip install -e '.[bench]'" in " ".join(done.stderr.split())


def test_a_run_without_rivals_is_not_drawn(tmp_path: Path) -> None:
    alone = json.loads(SAVED)
    alone["results"] = [found for found in alone["results"] if "object to" in found["name"]]
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    done = run("--from", str(tmp_path / "alone.json"), "--plot", str(tmp_path / "calls"))
    assert done.exit_code == 1
    assert "nothing to draw" in done.stderr
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("saved_run", sorted(PLOTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_plots_of_the_docs_are_those_of_the_runs_beside_them(
    saved_run: Path, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn.svg"
    assert run("--from", str(saved_run), "--plot", str(drawn)).exit_code == 0
    assert words(saved_run.with_suffix(".svg")) == words(drawn)
    assert saved_run.with_suffix(".png").exists()
