"""The report as a picture: how late the least reliable are, and how all aircraft compare."""

from __future__ import annotations

import random
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.delays.report import ENOUGH, WORST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from examples.delays.report import Judged

_INK: Final = "#22303c"
_SOFT: Final = "#7b8a97"
_LINE: Final = "#e6eaee"
_BLUE: Final = "#3d6d99"
_RED: Final = "#d1495b"

_STYLE: Final[Any] = {
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "xtick.color": _SOFT,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def plot(judged: Sequence[Judged], path: Path) -> None:
    """Draw the aircraft that flew enough, given from the least reliable on, into a PNG file."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(14, 7.6), dpi=144)
        _draw_worst(figure.add_axes((0.062, 0.085, 0.43, 0.80)), judged[:WORST])
        _draw_airlines(figure.add_axes((0.655, 0.085, 0.325, 0.80)), judged)
        figure.savefig(path, format="png", facecolor="white")


def _draw_worst(axes: Any, worst: Sequence[Judged]) -> None:
    """Draw the spread of each one's delays, from the 10 % to the 90 % quantile."""
    for row, each in enumerate(worst):
        low, middle, high = each.summary.quantiles
        axes.plot((low, high), (row, row), color=_RED, alpha=0.25, lw=9, solid_capstyle="round")
        axes.plot(middle, row, "o", color="white", markeredgecolor=_INK, ms=7, mew=1.6)
        axes.plot(high, row, "o", color=_RED, ms=9)
        axes.text(high + 4, row, f"{high:.0f} min", va="center", fontweight="bold", color=_RED)
        whose = f"{each.aircraft.airline}  {each.aircraft.model}"
        axes.text(low, row - 0.3, whose, fontsize=8.5, color=_SOFT, va="center")
    axes.axvline(0, color=_SOFT, lw=1, zorder=0.5)
    axes.set_yticks(range(len(worst)), [each.aircraft.tail for each in worst], fontweight="bold")
    axes.set_ylim(len(worst) - 0.5, -0.6)
    axes.set_xlim(right=1.15 * max(each.one_in_ten for each in worst))  # room for the numbers
    axes.set_xlabel("arrival delay, minutes")
    _title(
        axes,
        "The least reliable aircraft",
        "eight of ten flights arrive within the bar, half before the ring, one of ten after the dot",
    )


def _draw_airlines(axes: Any, judged: Sequence[Judged]) -> None:
    """Draw every aircraft as a dot in the row of its airline."""
    airlines: dict[str, list[Judged]] = defaultdict(list)
    for each in judged:
        airlines[each.aircraft.airline].append(each)
    middles = {name: median(each.one_in_ten for each in own) for name, own in airlines.items()}
    rows = sorted(middles, key=middles.__getitem__)
    places = {name: row for row, name in enumerate(rows)}
    jitter = random.Random(0)
    heights = [places[each.aircraft.airline] + jitter.uniform(-0.3, 0.3) for each in judged]
    delays = [each.one_in_ten for each in judged]
    axes.scatter(delays[WORST:], heights[WORST:], s=13, color=_BLUE, alpha=0.4, linewidths=0)
    axes.scatter(delays[:WORST], heights[:WORST], s=34, color=_RED, linewidths=0)
    for name, row in places.items():
        axes.plot((middles[name],) * 2, (row - 0.42, row + 0.42), color=_INK, lw=2)
    axes.set_yticks(range(len(rows)), [f"{name}   {len(airlines[name])}" for name in rows])
    axes.set_ylim(-0.6, len(rows) - 0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("one flight in ten arrives later than this, minutes")
    _title(
        axes,
        f"{len(judged):,} aircraft, by airline",
        f"all that arrived {ENOUGH} times or more; the line is the airline's median",
    )


def _title(axes: Any, text: str, below: str) -> None:
    axes.text(0, 1.062, text, transform=axes.transAxes, fontsize=14, fontweight="bold")
    axes.text(0, 1.02, below, transform=axes.transAxes, color=_SOFT)
