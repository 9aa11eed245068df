"""Which results of a run are others than those of an earlier one, and what makes runs incomparable."""

import pytest

from benchmarks.compare import changes, warnings
from benchmarks.report import Report, Result, Run, result

FACTS = {"cpu": "AMD EPYC", "cores": 2, "python": "3.11.7", "date": "2026-11-24", "roost": "0.1.0"}


def run(*results: Result, **facts: object) -> Run:
    return Run("calls", FACTS | facts, Report(results))


@pytest.mark.parametrize(
    ("unit", "before", "now", "verdict"),
    [
        ("µs", (2.0, 3.0), (1.0, 1.5), "better"),
        ("µs", (2.0, 3.0), (3.5, 4.0), "worse"),
        ("calls/s", (2.0, 3.0), (1.0, 1.5), "worse"),
        ("calls/s", (2.0, 3.0), (3.5, 4.0), "better"),
        ("x", (2.0, 3.0), (3.5, 4.0), "better"),
        ("MiB", (2.0, 3.0), (3.0, 4.0), "within the spreads"),
        ("MiB", (2.0, 3.0), (1.0, 2.0), "within the spreads"),
        ("MiB", (2.0, 3.0), (1.0, 9.0), "within the spreads"),
        ("MiB", (2.0, 3.0), (2.4, 2.6), "within the spreads"),
    ],
)
def test_a_result_is_another_when_the_spreads_do_not_meet(
    unit: str, before: tuple[float, float], now: tuple[float, float], verdict: str
) -> None:
    earlier = result("a", "Roost", before, unit)
    later = result("a", "Roost", now, unit)
    (change,) = changes(run(earlier), run(later)).values()
    assert change.verdict == verdict
    assert change.earlier == earlier
    assert change.ratio == pytest.approx(sum(now) / sum(before))


def test_what_was_nothing_has_no_ratio() -> None:
    before, now = (result("a", "Roost", [value], "bytes") for value in (0.0, 1.0))
    (change,) = changes(run(before), run(now)).values()
    assert (change.ratio, change.verdict) == (None, "worse")


def test_a_result_is_compared_with_that_of_its_name_system_and_unit() -> None:
    earlier = [
        result("a", "Roost", [1.0], "s"),
        result("a", "Roost", [2.0], "MiB"),
        result("a", "Ray", [3.0], "s"),
        result("b", "Roost", [4.0], "s"),
    ]
    found = changes(run(*earlier), run(*earlier[:3], result("c", "Roost", [5.0], "s")))
    assert list(found) == [each.key for each in earlier[:3]]
    assert [change.earlier for change in found.values()] == earlier[:3]


def test_facts_that_differ_are_told_but_those_of_any_two_runs() -> None:
    earlier = run(load_before=0.1)
    later = run(
        cpu="Xeon", cores=2, date="2027-01-01", roost="0.2.0", load_before=2.0, rivals="ray 3"
    )
    assert warnings(earlier, later) == [
        "another machine or library: cpu was AMD EPYC, is Xeon",
        "another machine or library: rivals was unknown, is ray 3",
    ]
    assert warnings(earlier, earlier) == []


def test_a_quick_run_is_told() -> None:
    assert warnings(run(quick=True), run()) == [
        "the earlier run was a quick one: its numbers mean nothing"
    ]


def test_results_that_are_no_more_are_told() -> None:
    gone = result("a", "Ray", [1.0], "s")
    assert warnings(run(gone), run()) == ["only in the earlier run: a, Ray"]
    assert warnings(run(), run(gone)) == []
