"""The command: lists the benchmarks, or runs one and prints its report."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.machine import machine
from benchmarks.report import as_json, show

if TYPE_CHECKING:
    from types import ModuleType

    from benchmarks.report import Report


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.ispkg]


def load(name: str) -> ModuleType:
    """Import a benchmark."""
    return importlib.import_module(f"benchmarks.{name}")


def describe(name: str) -> str:
    """Say in a line what a benchmark measures."""
    return (load(name).__doc__ or "").partition("\n")[0]


@click.command()
@click.argument("name", required=False, type=click.Choice(names()))
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="Run for a moment only: the numbers mean nothing.")
def main(name: str | None, *, to_json: bool, quick: bool) -> None:
    """List the benchmarks, or run the one of a NAME."""
    if name is None:
        for each in names():
            print(f"{each:10} {describe(each)}")
        return
    facts = machine()
    report: Report = load(name).run(quick=quick)
    for skipped in report.skipped:
        print(f"skipped: {skipped}", file=sys.stderr)
    if to_json:
        print(as_json(name, facts, report))
    else:
        show(name, facts, report)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
