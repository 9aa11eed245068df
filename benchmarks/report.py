"""What a benchmark found: results, each with its spread, and the targets they are held against.

A result is the median of several repeats; its spread is the lowest and the highest of them. A
target is computed from the results of the same run, so that it says something on any machine.
A run is printed as a table or as JSON, and is read back from that. Nothing here measures anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.compare import Change

    Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """One number of one system."""

    name: str
    """What was measured; the same for all systems that can be compared in it."""
    system: str
    value: float
    unit: str
    spread: tuple[float, float]
    """The lowest and the highest of the repeats."""

    @property
    def key(self) -> Key:
        """What makes it the same result in another run."""
        return self.name, self.system, self.unit


@dataclass(frozen=True, slots=True)
class Target:
    """What the project promises, and whether this run kept it."""

    name: str
    value: float
    target: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run of a benchmark found."""

    results: Sequence[Result]
    targets: Sequence[Target] = ()
    skipped: Sequence[str] = ()
    """Rivals that are not installed here, each with what is missing."""


@dataclass(frozen=True, slots=True)
class Run:
    """A report, and of what."""

    benchmark: str
    machine: Mapping[str, object]
    """Where and when it ran."""
    report: Report


def result(name: str, system: str, repeats: Sequence[float], unit: str) -> Result:
    """Return the median of repeats, with their spread."""
    return Result(name, system, median(repeats), unit, (min(repeats), max(repeats)))


def at_least(name: str, value: float, bound: float, unit: str) -> Target:
    """Return the target of a value that must not be lower than a bound."""
    return Target(name, value, f">= {bound:,} {unit}", value >= bound)


def at_most(name: str, value: float, bound: float, unit: str) -> Target:
    """Return the target of a value that must not be higher than a bound."""
    return Target(name, value, f"<= {bound:,} {unit}", value <= bound)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up: nearest rank
    return ordered[max(0, int(rank) - 1)]


def readable(value: float) -> str:
    """Write a number with the digits that mean something."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_json(run: Run, changes: Mapping[Key, Change] | None = None) -> str:
    """Return the run as one JSON object, with what has changed since another if that is given."""
    printed: dict[str, object] = {
        "benchmark": run.benchmark,
        "machine": dict(run.machine),
        "results": [asdict(found) for found in run.report.results],
        "targets": [asdict(target) for target in run.report.targets],
    }
    if changes is not None:
        printed["changes"] = [asdict(change) for change in changes.values()]
    return json.dumps(printed, indent=2)


def from_json(text: str) -> Run:
    """Read what `as_json` has written; anything else is a ValueError."""
    try:
        read = json.loads(text)
        results = [_result(**row) for row in read["results"]]
        targets = [Target(**row) for row in read["targets"]]
        return Run(str(read["benchmark"]), dict(read["machine"]), Report(results, targets))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"not what `python -m benchmarks NAME --json` prints: {error!r}"
        ) from error


def _result(name: str, system: str, value: float, unit: str, spread: Sequence[float]) -> Result:
    low, high = spread
    if not low <= value <= high or not isfinite(high - low):
        raise ValueError(f"{name}, {system}: {value} of {spread}")
    return Result(str(name), str(system), value, str(unit), (low, high))


def show(run: Run, changes: Mapping[Key, Change] | None = None) -> None:
    """Print the run for people, with what has changed since another if that is given."""
    console = Console()
    facts = ", ".join(f"{k} {v}" for k, v in run.machine.items())
    console.print(f"[bold]{run.benchmark}[/]  {facts}")
    table = Table("what", "system")
    table.add_column("median", justify="right")
    table.add_column("unit")
    table.add_column("lowest to highest", justify="right")
    if changes is not None:
        table.add_column("earlier", justify="right")
        table.add_column("ratio", justify="right")
        table.add_column("change")
    for found in run.report.results:
        low, high = found.spread
        table.add_row(
            found.name,
            found.system,
            f"[bold]{readable(found.value)}[/]",
            found.unit,
            f"{readable(low)} .. {readable(high)}",
            *(() if changes is None else _since(changes.get(found.key))),
        )
    console.print(table)
    for target in run.report.targets:
        mark = "[green]holds[/]" if target.holds else "[red]missed[/]"
        console.print(f"{mark}  {target.name}: {readable(target.value)} (target {target.target})")


def _since(change: Change | None) -> tuple[str, str, str]:
    if change is None:
        return "", "", "new"
    ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
    colour = {"better": "[green]", "worse": "[red]"}.get(change.verdict, "[dim]")
    return readable(change.earlier.value), ratio, colour + change.verdict
