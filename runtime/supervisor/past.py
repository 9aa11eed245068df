"""What each slot has taken of its hosts' time, remembered from one run of an instance to the next.

Of what was taken half counts after ten minutes of running, so that it is the latest that counts. It is
kept in a file of the data directory, written whole or not at all at the end of an instance and once in a
minute. Nothing but where slots begin depends on it: a file that is missing, torn or of something else
means that nothing is known, and one that cannot be written is no error.
"""

from __future__ import annotations

import json
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

from runtime.directories import write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEEP_SECONDS: Final = 60.0
"""Between two times that it is written down."""

HALF_SECONDS: Final = 600.0
"""After so long half of what was taken counts."""

LEAST_SECONDS: Final = 1.0
"""Less than this, of all slots, is not worth to be written down."""


class Past:
    """See the module's text. Belongs to the supervisor of whoever has claimed the data directory."""

    def __init__(self, data: Path, slots: int, now: float) -> None:
        self._path = data / "busy.json"
        self._counted = [0] * slots
        self._at = now
        self.taken = _read(self._path, slots) or [0.0] * slots
        """Seconds that each slot has taken, the older the fewer."""

    def keep(self, busy: Sequence[int], now: float) -> None:
        """Remember what the roster counts by now, in nanoseconds since the instance started."""
        fades = 0.5 ** ((now - self._at) / HALF_SECONDS)
        self._at, counted, self._counted = now, self._counted, list(busy)
        rows = zip(self.taken, counted, self._counted, strict=True)
        self.taken = [was * fades + max(0, after - before) / 1e9 for was, before, after in rows]
        if sum(self.taken) >= LEAST_SECONDS:
            text = json.dumps({"busy_s": [round(each, 3) for each in self.taken]})
            with suppress(OSError):
                write_private(self._path, text.encode())


def _read(path: Path, slots: int) -> list[float] | None:
    try:
        taken = [float(each) for each in json.loads(path.read_bytes())["busy_s"]]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return taken if len(taken) == slots and all(0 <= each < inf for each in taken) else None
