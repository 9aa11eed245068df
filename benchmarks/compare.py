"""One run beside an earlier one: which results are others than they were.

A result is another when its spread does not meet the earlier one's: even the nearest of their repeats
differ. Whether more is better tells its unit. Two runs say nothing of the code unless they were made on
the same machine, so what differs there is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.report import Key, Result, Run

OF_THE_RUN = ("date", "load_before", "quick", "roost")
"""The facts that differ between runs on the same machine."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one result."""

    earlier: Result
    ratio: float | None
    """The median against the earlier one; None if that was 0."""
    verdict: Literal["better", "worse", "within the spreads"]


def more_is_better(unit: str) -> bool:
    """Whether a unit is one of rates, or of how many times as fast."""
    return unit.endswith("/s") or unit == "x"


def changes(earlier: Run, run: Run) -> dict[Key, Change]:
    """Compare the results that both runs have."""
    before = {found.key: found for found in earlier.report.results}
    return {
        found.key: _change(before[found.key], found)
        for found in run.report.results
        if found.key in before
    }


def _change(before: Result, now: Result) -> Change:
    ratio = now.value / before.value if before.value else None
    (low, high), (low_before, high_before) = now.spread, before.spread
    if low <= high_before and low_before <= high:
        return Change(before, ratio, "within the spreads")
    better = (now.value > before.value) == more_is_better(now.unit)
    return Change(before, ratio, "better" if better else "worse")


def warnings(earlier: Run, run: Run) -> list[str]:
    """Say what makes two runs hard to compare: other machines, quick runs, missing results."""
    return [
        *_other_facts(earlier.machine, run.machine),
        *(
            f"the {which} run was a quick one: its numbers mean nothing"
            for which, its in (("earlier", earlier), ("later", run))
            if its.machine.get("quick")
        ),
        *_missing(earlier.report.results, run.report.results),
    ]


def _other_facts(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [
        f"another machine or library: {fact} was {before.get(fact, 'unknown')}, "
        f"is {now.get(fact, 'unknown')}"
        for fact in {**before, **now}
        if fact not in OF_THE_RUN and before.get(fact) != now.get(fact)
    ]


def _missing(before: Sequence[Result], now: Sequence[Result]) -> list[str]:
    here = {found.key for found in now}
    return [
        f"only in the earlier run: {found.name}, {found.system}"
        for found in before
        if found.key not in here
    ]
