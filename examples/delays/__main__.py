"""`python -m examples.delays`: learn the delays of 4,043 aircraft in parallel, and report.

A year of real flights is read, and each sent to the object of its aircraft: once with one host, once
with two. What they learnt is compared to the last bit, and how long they took. Exit code 1 if the
results differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from examples.delays import report
from examples.delays.flights import DataMissingError, read
from examples.delays.run import run
from workers import ConfigError, DataDirInUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.delays.flights import Aircraft
    from examples.delays.run import Result

PLOT: Final = Path(__file__).with_name("report.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with each number of hosts, compare, report. Returns the exit code."""
    wanted = _parser().parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    try:
        return _learn(console, wanted)
    except (DataMissingError, ConfigError, DataDirInUse) as error:
        console.print(f"[red]{error}[/]")
        return 1


def _learn(console: Console, wanted: argparse.Namespace) -> int:
    fleet = read(wanted.sample)
    flights = sum(len(aircraft.flights) for aircraft in fleet)
    console.print(f"{flights:,} flights of {len(fleet):,} aircraft from New York City in 2013\n")
    with ExitStack() as ends:
        data: Path = wanted.data_dir or Path(
            ends.enter_context(tempfile.TemporaryDirectory(prefix="roost-delays-"))
        )
        results = [_run(console, fleet, data / f"hosts-{n}", n) for n in wanted.hosts]
    same = _compare(console, results)
    _report(console, fleet, results[0], wanted.plot)
    return 0 if same else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.delays",
        description="Learn the delays of all aircraft that left New York City in 2013.",
    )
    parser.add_argument(
        "--hosts", type=_positive, nargs="+", default=[1, 2], metavar="N", help="one run each (1 2)"
    )
    parser.add_argument(
        "--sample", type=_positive, default=1, metavar="N", help="only every N-th aircraft (1)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="keep what was learnt in DIR/hosts-N, and go on from what is there (kept nowhere)",
    )
    parser.add_argument(
        "--plot", type=Path, default=PLOT, metavar="PNG", help=f"where to draw ({PLOT.name} here)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _run(console: Console, fleet: Sequence[Aircraft], data: Path, hosts: int) -> Result:
    total = sum(len(aircraft.flights) for aircraft in fleet)
    columns = (TextColumn("flights"), BarColumn(50), MofNCompleteColumn())
    visible = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not visible) as progress:
        bar = progress.add_task("", total=total)
        result = run(fleet, data, hosts, lambda known: progress.update(bar, completed=known))
    how = "continued" if result.continued else f"{total / result.seconds:,.0f} flights a second"
    console.print(f"[bold]{_hosts(hosts)}[/]  {result.seconds:.1f} s, {how}")
    console.print(report.hosts_table(result))
    console.print()
    return result


def _compare(console: Console, results: Sequence[Result]) -> bool:
    """Say whether all runs learnt the same, and how much faster more hosts are."""
    first, *others = results
    same = True
    for result in others:
        if result.digest != first.digest:
            same = False
            differing = [
                tail for tail, found in result.summaries.items() if found != first.summaries[tail]
            ]
            console.print(
                f"[bold red]{_hosts(len(result.hosts))} learnt something else of "
                f"{len(differing):,} aircraft[/]: {', '.join(differing[:5])}"
            )
    if others and same:
        console.print(f"[green]✓[/] all runs learnt the same, to the last bit: {first.digest[:16]}")
    for result in others:
        if not (first.continued or result.continued):
            console.print(
                f"[green]✓[/] {_hosts(len(result.hosts))}: [bold]{first.seconds / result.seconds:.2f} "
                f"times[/] as fast as {_hosts(len(first.hosts))}"
            )
    return same


def _report(console: Console, fleet: Sequence[Aircraft], result: Result, path: Path) -> None:
    judged = report.judge(fleet, result.summaries)
    error, inside = report.forecasts(result.summaries)
    console.print(
        f"\n[bold]The least reliable[/] of {len(judged):,} aircraft that arrived {report.ENOUGH} times "
        "or more: one flight in ten arrives later than this"
    )
    if not judged:
        return
    console.print(report.worst_table(judged))
    console.print(
        f"\nForecasts at departure were {error:.1f} minutes off (root mean square); the intervals "
        f"meant for 90 % of flights held {inside:.1%}."
    )
    from examples.delays.plot import plot  # noqa: PLC0415  (0.4 s, not needed before)

    plot(judged, path)
    console.print(f"Drawn in {path}")


def _hosts(number: int) -> str:
    return f"{number} host" if number == 1 else f"{number} hosts"


if __name__ == "__main__":
    sys.exit(main())
