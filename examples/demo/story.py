"""Tells what the demonstration does, and keeps count of the promises it finds kept or broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXAMPLES: Final = 5
"""So many ways in which a promise was broken are told; more of them say no more."""


class Story:
    """See the module's text."""

    kept: int = 0
    broken: int = 0

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 100

    def step(self, title: str, detail: str = "") -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.print(Text.assemble((title, "bold"), "  ", (detail, "dim")))

    def fact(self, text: str) -> None:
        """Tell something that is no promise."""
        self._console.print(Text(f"    {text}"))

    def promise(self, text: str, broken: Sequence[object], evidence: str = "") -> None:
        """Tell of a promise: that it was kept, and how one knows; or in which ways it was broken."""
        if not broken:
            self.kept += 1
            self._console.print(Text.assemble(("  ✓ ", "green"), f"{text:<45} ", (evidence, "dim")))
            return
        self.broken += 1
        self._console.print(Text.assemble(("  ✗ ", "bold red"), (text, "red")))
        for way in broken[:_EXAMPLES]:
            self._console.print(Text(f"      {way}"))
        if len(broken) > _EXAMPLES:
            self._console.print(Text(f"      and {len(broken) - _EXAMPLES:,} more"))

    def bar(self, total: int) -> tuple[Progress, Callable[[int], None]]:
        """Return a progress bar, to be entered, and what moves it; it vanishes at its end."""
        columns = (TextColumn("   "), BarColumn(46), MofNCompleteColumn())
        visible = self._console.is_terminal
        progress = Progress(*columns, console=self._console, transient=True, disable=not visible)
        task = progress.add_task("", total=total)

        def move(done: int) -> None:
            progress.update(task, completed=done)

        return progress, move

    def end(self, seconds: float) -> int:
        """Sum up, and return the exit code."""
        self._console.print()
        if self.broken:
            self._console.print(Text(f"{self.broken} promises were broken", "bold red"))
            return 1
        self._console.print(
            Text.assemble((f"all {self.kept} promises kept", "bold green"), f" in {seconds:.0f} s")
        )
        return 0
