"""The command: lists the benchmarks, or runs one, or takes a saved run; prints, compares and plots it."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.compare import changes, warnings
from benchmarks.machine import machine
from benchmarks.plot import draw, panels
from benchmarks.report import Run, as_json, from_json, show

if TYPE_CHECKING:
    from types import ModuleType

SUFFIXES = (".svg", ".png")
"""What a plot can be; both, where its path has no suffix."""


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.ispkg]


def load(name: str) -> ModuleType:
    """Import a benchmark."""
    return importlib.import_module(f"benchmarks.{name}")


def describe(name: str) -> str:
    """Say in a line how long a benchmark takes, and what it measures."""
    benchmark = load(name)
    return f"{benchmark.TAKES:7} {(benchmark.__doc__ or '').partition(chr(10))[0]}"


def saved(path: str) -> Run:
    """Read the JSON of an earlier run."""
    try:
        run = from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise click.BadParameter(f"{path} is {error}.") from None
    if run.benchmark not in names():
        raise click.BadParameter(f"{path} is of {run.benchmark!r}, which is no benchmark here.")
    return run


def pictures(path: str) -> list[Path]:
    """Return the files that a plot is to become."""
    wanted = Path(path)
    if wanted.suffix not in ("", *SUFFIXES):
        raise click.BadParameter(f"{path} is neither .png nor .svg; without a suffix it is both.")
    if not wanted.parent.is_dir():
        raise click.BadParameter(f"there is no folder {wanted.parent}.")
    if find_spec("matplotlib") is None:
        raise click.BadParameter("it needs matplotlib: pip install -e '.[bench]'.")
    return [wanted] if wanted.suffix else [wanted.with_suffix(suffix) for suffix in SUFFIXES]


def measure(name: str, *, quick: bool) -> Run:
    """Run a benchmark."""
    benchmark = load(name)
    facts = machine(benchmark.RIVALS) | ({"quick": True} if quick else {})
    report = benchmark.run(quick=quick)
    for skipped in report.skipped:
        print(f"skipped: {skipped}", file=sys.stderr)
    return Run(name, facts, report)


@click.command()
@click.argument("name", required=False, type=click.Choice(names()))
@click.option(
    "--from",
    "past",
    type=saved,
    metavar="FILE",
    help="Take a run that --json has printed, and measure nothing.",
)
@click.option(
    "--compare",
    "earlier",
    type=saved,
    metavar="FILE",
    help="Show what is better or worse than in a run that --json has printed.",
)
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="With --compare: exit with 1 if a result is worse, by more than both spreads.",
)
@click.option(
    "--plot",
    "paths",
    type=pictures,
    metavar="PATH",
    help="Draw it: .png or .svg, or both if PATH has no suffix.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="Run for a moment only: the numbers mean nothing.")
def main(
    name: str | None,
    *,
    past: Run | None,
    earlier: Run | None,
    fail_if_worse: bool,
    paths: list[Path] | None,
    to_json: bool,
    quick: bool,
) -> None:
    """List the benchmarks, or run the one of a NAME.

    Tables and JSON go to the standard output, warnings to the standard error.
    """
    if past is not None and (name or quick):
        raise click.UsageError("--from measures nothing: give it, or a NAME.")
    if fail_if_worse and earlier is None:
        raise click.UsageError("--fail-if-worse needs --compare FILE.")
    chosen = past.benchmark if past else name
    if chosen is None:
        if earlier or paths or to_json or quick:
            raise click.UsageError(f"Which benchmark? One of {', '.join(names())}.")
        for each in names():
            print(f"{each:10} {describe(each)}")
        return
    if earlier is not None and earlier.benchmark != chosen:
        raise click.UsageError(f"--compare has a run of {earlier.benchmark}, this is {chosen}.")

    run = past or measure(chosen, quick=quick)
    since = None
    if earlier is not None:
        since = changes(earlier, run)
        for warning in warnings(earlier, run):
            print(f"compare: {warning}", file=sys.stderr)
    if to_json:
        print(as_json(run, since))
    else:
        show(run, since)
    if paths:
        shown = panels(run.report, load(chosen).PLOTTED)
        if not shown:
            raise click.ClickException("No result has a rival beside it: nothing to draw.")
        draw(run, shown, paths)
    if fail_if_worse and since and any(change.verdict == "worse" for change in since.values()):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
