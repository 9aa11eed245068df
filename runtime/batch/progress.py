"""Shows how a map stands: on a terminal's standard error, in a notebook's cell, else not at all."""

from __future__ import annotations

import re
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

_MARKUP: Final = re.compile(r"\[[^\]]*\]")

EVERY: Final = 0.1
"""Seconds between two looks."""

LOADS: Final = 8
"""Hosts whose load is shown; of more, only the mean."""


def shows() -> bool:
    """Whether there is somewhere to show it."""
    return _in_notebook() or sys.stderr.isatty()


class Progress:
    """Items done, items a second, what each host does, and how long it will take."""

    def __init__(self, plan: Plan, roster: Roster | None, total: int | None) -> None:
        self._roster = roster
        self._total = total
        self._shown = 0.0
        self._busy: list[float] = []
        self._rate = 0.0
        self._done = 0
        self._title = plan.title or plan.method
        self._bar: Bar | None = None
        self._task: Any = None
        self._cell: Any = None  # what updates the line in a notebook: rich would want ipywidgets
        if _in_notebook():
            shown = {"text/plain": self._title}
            self._cell = sys.modules["IPython.display"].display(shown, raw=True, display_id=True)
            return
        left = (TextColumn("left"), TimeRemainingColumn()) if total is not None else ()
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            *left,
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(self._title, total=total, facts="")
        self._bar.start()

    def show(self, tally: Tally, under_way: int, now: float) -> None:
        """Show the numbers, if some time has passed since they were last shown."""
        if (self._bar is None and self._cell is None) or now - self._shown < EVERY:
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
        self._write(done, facts)

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

    def close(self, tally: Tally, *, finished: bool) -> None:
        """Show the last numbers and leave the line as it is."""
        done = tally.done + tally.skipped
        if self._bar is not None and finished:
            self._bar.update(self._task, total=done)
        if self._bar is not None or self._cell is not None:
            self._write(done, [f"[red]{tally.failed:,} failed[/]"] if tally.failed else [])
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._cell = None

    def _write(self, done: int, facts: list[str]) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, facts=" · ".join(facts))
            self._bar.refresh()
            return
        of = f" of {self._total:,}" if self._total is not None else ""
        line = " · ".join([f"{self._title}: {done:,}{of} done", *facts])
        self._cell.update({"text/plain": _MARKUP.sub("", line)}, raw=True)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return current is not None and type(current).__name__ == "ZMQInteractiveShell"
