"""The report: medians, spreads and targets, as JSON and as a table."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import (
    Report,
    Result,
    Run,
    Target,
    as_json,
    at_least,
    at_most,
    from_json,
    percentile,
    result,
    show,
)


def test_a_result_is_the_median_and_its_spread_the_lowest_and_highest() -> None:
    found = result("round trip", "Roost", [3.0, 1.0, 9.0, 2.0, 4.0], "µs")
    assert found == Result("round trip", "Roost", 3.0, "µs", (1.0, 9.0))


@pytest.mark.parametrize(("value", "holds"), [(99.9, False), (100.0, True), (100.1, True)])
def test_at_least_holds_from_its_bound_up(value: float, holds: bool) -> None:
    assert at_least("calls", value, 100, "calls/s") == Target(
        "calls", value, ">= 100 calls/s", holds
    )


@pytest.mark.parametrize(("value", "holds"), [(0.69, True), (0.7, True), (0.71, False)])
def test_at_most_holds_up_to_its_bound(value: float, holds: bool) -> None:
    assert at_most("start", value, 0.7, "s") == Target("start", value, "<= 0.7 s", holds)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_at_least_so_many_percent_do_not_exceed_a_percentile(
    values: list[float], percent: float
) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values) * (1 - 1e-12)


FOUND = Run(
    "cold",
    {"cores": 2},
    Report([result("a", "b", [1.0, 2.0], "s")], [at_most("a", 1.5, 2.0, "s")]),
)


def test_the_json_has_the_agreed_fields() -> None:
    assert json.loads(as_json(FOUND)) == {
        "benchmark": "cold",
        "machine": {"cores": 2},
        "results": [{"name": "a", "system": "b", "value": 1.5, "unit": "s", "spread": [1.0, 2.0]}],
        "targets": [{"name": "a", "value": 1.5, "target": "<= 2.0 s", "holds": True}],
    }


def test_a_run_comes_back_from_its_json() -> None:
    assert from_json(as_json(FOUND)) == FOUND


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        as_json(FOUND).replace('"spread"', '"spreads"'),
        as_json(FOUND).replace('"value": 1.5', '"value": "1.5"'),
        as_json(FOUND).replace('"value": 1.5', '"value": 5.1'),
        as_json(FOUND).replace("2.0\n", "Infinity\n"),
    ],
)
def test_other_text_is_no_run(text: str) -> None:
    with pytest.raises(ValueError, match="not what `python -m benchmarks NAME --json` prints"):
        from_json(text)


def test_the_table_says_whether_targets_hold(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [at_most("fast", 1.0, 2.0, "s"), at_least("many", 1.0, 2.0, "calls/s")]
    found = Report([result("a", "Roost", [1234.5], "s")], targets)
    show(Run("calls", {"cores": 2}, found))
    shown = capsys.readouterr().out
    assert "1,234" in shown
    assert "holds  fast" in shown
    assert "missed  many" in shown
