"""A picture of one run: a panel a result, a bar a system, its value beside it.

Drawn from a report alone, so that a saved one gives the same picture again, byte for byte in SVG. Its
ground is transparent and its ink a grey that stands out from white as much as from a dark page. A scale
is logarithmic where the longest bar would be over 100 times the shortest, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.compare import more_is_better
from benchmarks.report import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.report import Report, Result, Run

    Panel = list[Result]

_INK: Final = "#797979"
"""4.3 : 1 against white, and against the page of a dark theme."""
_OURS: Final = "#d9730d"
_OTHERS: Final = "#8b949e"
_SPREAD: Final = "#5d656e"
_OF_A_LOG_SCALE: Final = 100


_STYLE: Final[Any] = {
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.bottom": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.bottom": False,
    "xtick.labelbottom": False,
    "ytick.color": _INK,
    "ytick.major.size": 0,
    "svg.fonttype": "none",  # a fifth of the size of outlines
    "svg.hashsalt": "roost",
}


def panels(report: Report, names: Iterable[str]) -> list[Panel]:
    """Return the results to draw, the best first: those of some names, or all with a rival."""
    found: dict[tuple[str, str], Panel] = {}
    for each in report.results:
        found.setdefault((each.name, each.unit), []).append(each)
    wanted = [panel for name in names for (its, _), panel in found.items() if its == name]
    return [
        sorted(panel, key=lambda each: each.value, reverse=more_is_better(panel[0].unit))
        for panel in wanted or [panel for panel in found.values() if len(panel) > 1]
    ]


def draw(run: Run, shown: Sequence[Panel], paths: Sequence[Path]) -> None:
    """Draw panels, as PNG or SVG by the suffix of each path."""
    import matplotlib as mpl  # noqa: PLC0415  (of the extra `bench`; nothing else needs it)
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns = min(2, len(shown))
    rows = [shown[first : first + columns] for first in range(0, len(shown), columns)]
    heights = [max(map(len, row)) + 1.5 for row in rows]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5 * columns, 0.27 * sum(heights) + 0.8), layout="constrained")
        grid = figure.subplots(
            len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for number, axes in enumerate(grid.flat):
            if number < len(shown):
                _bars(axes, shown[number])
            else:
                axes.remove()
        figure.supxlabel(_beneath(run), x=0.01, ha="left", fontsize=8)
        for path in paths:
            svg = path.suffix == ".svg"
            figure.savefig(
                path, dpi=120, transparent=True, metadata={"Date": None} if svg else None
            )


def _bars(axes: Any, panel: Panel) -> None:
    values = [each.value for each in panel]
    rows = range(len(panel))
    unit = panel[0].unit
    colours = [_OURS if each.system.startswith("Roost") else _OTHERS for each in panel]
    title = f"{panel[0].name}: {'more' if more_is_better(unit) else 'less'} is better"
    low, high = min(values), max(values)
    left = 0.0
    if 0 < low < high / _OF_A_LOG_SCALE:
        axes.set_xscale("log")
        title += ", log scale"
        left = low / 2
    axes.set_title(title)
    axes.barh(rows, values, color=colours, height=0.7)
    for row, each in enumerate(panel):
        axes.plot(each.spread, (row, row), color=_SPREAD, lw=1.2, solid_capstyle="butt")
        axes.annotate(
            f"{readable(each.value)} {unit}",
            (max(each.value, each.spread[1]), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold" if colours[row] == _OURS else "normal",
            color=colours[row] if colours[row] == _OURS else _INK,
        )
    axes.set_yticks(rows, [each.system for each in panel])
    axes.set_ylim(len(panel) - 0.4, -0.6)
    axes.set_xlim(left=left)


def _beneath(run: Run) -> str:
    facts = defaultdict(lambda: "unknown", run.machine)
    where = "Roost {roost} on {cpu}, {cores} cores, {memory_gib} GiB, Python {python}, {date}."
    said = [where.format_map(facts)]
    if run.machine.get("rivals"):
        said.append(f"Beside it: {run.machine['rivals']}.")
    said.append(f"python -m benchmarks {run.benchmark}: medians; a line spans all repeats.")
    if run.machine.get("quick"):
        said.append("A quick run: the numbers mean nothing.")
    return "\n".join(said)
