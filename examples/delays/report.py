"""What the models say, for people: the ten least reliable aircraft, and how the hosts fared.

An aircraft is as unreliable as the arrival delay that one of its flights in ten exceeds: the 90 %
quantile of its delays. Only aircraft that arrived at least `ENOUGH` times are judged, about twice a
week through the year; of fewer flights that quantile says little.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.delays.flights import Aircraft
    from examples.delays.model import Summary
    from examples.delays.run import Result

ENOUGH: Final = 100
WORST: Final = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """An aircraft that flew enough."""

    aircraft: Aircraft
    summary: Summary

    @property
    def one_in_ten(self) -> float:
        """The delay that one flight in ten exceeds, in minutes."""
        return self.summary.quantiles[2]

    @property
    def failed(self) -> float:
        """The share of flights that were cancelled, or ended elsewhere."""
        return 1 - self.summary.arrivals / self.summary.flights


def judge(fleet: Sequence[Aircraft], summaries: Mapping[str, Summary]) -> list[Judged]:
    """Return the aircraft that flew enough, the least reliable first."""
    judged = [Judged(aircraft, summaries[aircraft.tail]) for aircraft in fleet]
    judged = [each for each in judged if each.summary.arrivals >= ENOUGH]
    # The sketch gives delays that are close one number: among equals, failed flights decide.
    return sorted(judged, key=lambda each: (-each.one_in_ten, -each.failed, each.aircraft.tail))


def worst_table(judged: Sequence[Judged]) -> Table:
    """Return the table of the least reliable aircraft."""
    table = Table("aircraft", "airline", "maker, model, year", box=None, header_style="dim")
    for heading in ("flights", "failed", "median", "one in ten\nlater than"):
        table.add_column(heading, justify="right")
    for each in judged[:WORST]:
        summary = each.summary
        table.add_row(
            f"[bold]{each.aircraft.tail}[/]",
            each.aircraft.airline,
            each.aircraft.model or "[dim]not in the register[/]",
            f"{summary.flights}",
            f"{each.failed:.1%}",
            f"{summary.quantiles[1]:.0f} min",
            f"[bold red]{each.one_in_ten:.0f} min[/]",
        )
    return table


def hosts_table(result: Result) -> Table:
    """Return the table of how busy each host was."""
    table = Table("host", box=None, header_style="dim")
    for heading in ("slots", "calls", "busy", "of the time"):
        table.add_column(heading, justify="right")
    for host in result.hosts:
        table.add_row(
            str(host.host),
            str(host.slots),
            f"{host.calls:,}",
            f"{host.busy_s:.1f} s",
            f"{host.busy_s / result.seconds:.0%}",
        )
    return table


def forecasts(summaries: Mapping[str, Summary]) -> tuple[float, float]:
    """Return the error of all forecasts, in minutes, and the share whose interval held."""
    scored = sum(summary.forecasts for summary in summaries.values())
    squares = sum(summary.error**2 * summary.forecasts for summary in summaries.values())
    inside = sum(summary.inside for summary in summaries.values())
    return (sqrt(squares / scored), inside / scored) if scored else (0.0, 0.0)
