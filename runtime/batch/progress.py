"""Shows how a map stands: on a terminal's standard error, in a notebook's cell, else not at all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from runtime.status import status_of

if TYPE_CHECKING:
    from runtime.batch.plan import Plan
    from runtime.batch.pump import Tally
    from runtime.roster import Roster

EVERY: Final = 0.1
"""Seconds between two looks."""

LOADS: Final = 8
"""Hosts whose load is shown; of more, only the mean."""


class Progress:
    """Items done, items a second, what each host does, and how long it will take."""

    def __init__(self, plan: Plan, roster: Roster | None, total: int | None) -> None:
        self._roster = roster
        self._total = total
        self._shown = 0.0
        self._busy: list[float] = []
        self._rate = 0.0
        self._done = 0
        self._bar: Bar | None = None
        self._task: Any = None
        if not (sys.stderr.isatty() or _in_notebook()):
            return
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=not _in_notebook()),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(plan.title or plan.method, total=total, facts="")
        self._bar.start()

    def show(self, tally: Tally, under_way: int, now: float) -> None:
        """Show the numbers, if some time has passed since they were last shown."""
        if self._bar is None or now - self._shown < EVERY:
            return
        done = tally.done + tally.skipped
        if self._shown:
            rate = (done - self._done) / (now - self._shown)
            self._rate += (rate - self._rate) * 0.2 if self._rate else rate
        facts = [f"{self._rate:,.0f}/s", f"{under_way:,} under way", *self._loads(now)]
        if tally.failed:
            facts.append(f"[red]{tally.failed:,} failed[/]")
        if tally.retried:
            facts.append(f"[yellow]{tally.retried:,} again[/]")
        self._done, self._shown = done, now
        self._bar.update(self._task, completed=done, facts=" · ".join(facts))
        self._bar.refresh()

    def _loads(self, now: float) -> list[str]:
        """Say how much of the time since the last look each host was busy."""
        if self._roster is None:
            return []
        busy = [status.busy_s for status in status_of(self._roster)]
        before, self._busy = self._busy, busy
        if not before or now <= self._shown:
            return []
        passed = now - self._shown
        loads = [min(1.0, max(0.0, (b - a) / passed)) for a, b in zip(before, busy, strict=True)]
        if len(loads) > LOADS:
            return [f"{len(loads)} hosts {sum(loads) / len(loads):.0%}"]
        return ["hosts " + " ".join(f"{load:.0%}" for load in loads)]

    def close(self, tally: Tally) -> None:
        """Show the last numbers and leave the line as it is."""
        if self._bar is None:
            return
        done = tally.done + tally.skipped
        self._bar.update(self._task, completed=done, total=self._total or done)
        self._bar.refresh()
        self._bar.stop()
        self._bar = None


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return current is not None and type(current).__name__ == "ZMQInteractiveShell"
