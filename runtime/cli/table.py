"""What commands print: tables for people, JSON for programs.

On a terminal a table has colour and lines; elsewhere it is plain columns, so that awk, cut and diff can
read it. Neither ever cuts a cell: what is too wide for the terminal wraps there, and copies whole.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANY_WIDTH = 1_000_000


def show(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """Print a table. Columns named in `numbers` stand to the right."""
    if sys.stdout.isatty():
        _show_on_terminal(headers, rows, numbers)
    else:
        write(plain_table(headers, rows, numbers) + "\n")


def _show_on_terminal(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]
) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  (30 ms that other commands can spare)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, justify="right" if header in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False)
    # As wide as the table is: rich cuts its cells otherwise, and a terminal can wrap its lines.
    wanted = console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum
    console.width = max(console.width, wanted)
    console.print(table)


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()
) -> str:
    """Return a table as lines of text."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    lines = []
    for row in (headers, *rows):
        cells = [
            cell.rjust(width) if header in numbers else cell.ljust(width)
            for header, cell, width in zip(headers, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def say_json(value: object) -> None:
    """Print a value as JSON.stringify(value, null, 2) would, in UTF-8 whatever the locale."""
    write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def say_json_list(values: Iterable[object]) -> None:
    """Print a list as `say_json` would, an item at a time."""
    output = sys.stdout.buffer
    before = "[\n"
    for value in values:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        lines = before + "\n".join("  " + line for line in text.split("\n"))
        output.write(lines.encode(errors="replace"))
        before = ",\n"
    write("[]\n" if before == "[\n" else "\n]\n")


def write(text: str) -> None:
    """Write text to the output at once, in UTF-8 whatever the locale."""
    output = sys.stdout.buffer
    output.write(text.encode(errors="replace"))
    output.flush()
