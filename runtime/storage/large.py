"""Large values stand apart from the entries, in a table of their own, found by the same keys.

A search in a table WITHOUT ROWID compares keys, and SQLite reads the whole row for that: beside a value of
60 MiB each small put took 10 ms, in a slot file also those of other objects. So such an entry is empty, as no
value is that a script has put, and its value is in a table with row numbers, whose index has only keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["APART", "LARGE_BYTES", "is_large"]

LARGE_BYTES: Final = 16 << 10
"""The largest value that is within its entry: a search reads five of its pages, not one."""

APART: Final = b""
"""What an entry has whose value is apart."""


def is_large(row: Sequence[bytes]) -> bool:
    """Whether the value of a row, its last column, is to be apart."""
    return len(row[-1]) > LARGE_BYTES
