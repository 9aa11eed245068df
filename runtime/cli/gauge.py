"""Shows how a measurement stands, on a terminal's standard error; elsewhere nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.progress import Progress

    from runtime.cli.load import Load

_RECENT: Final = 5
"""Marks that the shown rate is of."""


class Gauge:
    """One line, which tells of one load after another."""

    def __init__(self) -> None:
        self._line: Progress | None = None
        self._task: Any = None
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415  (30 ms that a pipe can spare)
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

            self._line = Progress(
                SpinnerColumn(),
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[facts]}"),
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
            )
            self._task = self._line.add_task("starting", total=None, facts="")
            self._line.start()
            self._line.refresh()

    def follow(self, load: Load, title: str, *, seconds: float | None, calls: int | None) -> None:
        """Show a load that is about to run."""
        if self._line is None:
            return
        line, task = self._line, self._task
        line.reset(task, description=title, total=calls or seconds, facts="")

        def look() -> None:
            now, answered = load.marks[-1]
            before, had = load.marks[max(0, len(load.marks) - 1 - _RECENT)]
            facts = [f"{(answered - had) / (now - before) * 1e9:,.0f} calls/s"]
            facts.append(f"{load.under_way:,} under way")
            if load.failed:
                facts.append(f"[red]{load.failed.total():,} failed[/]")
            done = answered + load.failed.total() if calls else (now - load.began) / 1e9
            line.update(task, completed=done, facts=" · ".join(facts))
            line.refresh()

        load.on_mark = look

    def close(self) -> None:
        """Leave nothing of the line."""
        if self._line is not None:
            self._line.stop()
            self._line = None
