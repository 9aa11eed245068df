"""How soon a process that died is started again: at once, then ever later, and at last not at all."""

from __future__ import annotations

QUICK = 1.0
"""Seconds: a process that dies sooner after it came up counts towards a crash loop."""

CRASHES = 8
"""So many quick deaths of one process in a row are a crash loop."""

FIRST_DELAY = 0.1
"""Seconds before the second start of a crash loop; each further one waits twice as long."""

LONGEST_DELAY = 5.0


class Restarts:
    """The deaths of all processes, by name."""

    def __init__(self) -> None:
        self._quick: dict[str, int] = {}

    def died(self, name: str, lived: float, *, by_event: bool = False) -> float | None:
        """Return after how many seconds to start a process again that lived for so many.

        None says that it is a crash loop; never where it came up and may have died of what it was
        given (`by_event`): the objects of others need it. The first death is mended at once.
        """
        deaths = self._quick[name] = self._quick.get(name, 0) + 1 if lived < QUICK else 0
        if deaths >= CRASHES and not by_event:
            return None
        return 0.0 if deaths < 2 else min(LONGEST_DELAY, FIRST_DELAY * 2 ** (deaths - 2))
