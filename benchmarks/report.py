"""What a benchmark found: results, each with its spread, and the targets they are held against.

A result is the median of several repeats; its spread is the lowest and the highest of them. A
target is computed from the results of the same run, so that it says something on any machine.
Nothing here measures anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


def as_json(name: str, machine: Mapping[str, object], report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(
        {
            "benchmark": name,
            "machine": dict(machine),
            "results": [asdict(found) for found in report.results],
            "targets": [asdict(target) for target in report.targets],
        },
        indent=2,
    )


def show(name: str, machine: Mapping[str, object], report: Report) -> None:
    """Print the report for people."""
    console = Console()
    console.print(f"[bold]{name}[/]  " + ", ".join(f"{k} {v}" for k, v in machine.items()))
    table = Table("what", "system")
    table.add_column("median", justify="right")
    table.add_column("unit")
    table.add_column("lowest to highest", justify="right")
    for found in report.results:
        low, high = found.spread
        table.add_row(
            found.name,
            found.system,
            f"[bold]{readable(found.value)}[/]",
            found.unit,
            f"{readable(low)} .. {readable(high)}",
        )
    console.print(table)
    for target in report.targets:
        mark = "[green]holds[/]" if target.holds else "[red]missed[/]"
        console.print(f"{mark}  {target.name}: {readable(target.value)} (target {target.target})")
