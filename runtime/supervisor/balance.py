"""Which slot to move when one host stays much busier than another.

For some seconds on end a host must have been busier than another by a quarter of a core, and half as
busy again. Then the slot moves whose time evens the two out best; none does if that gains little, so
a slot that is all of its host's load stays. Each slot then rests for a minute, and the watch begins anew.
Pure: whoever asks gives what the roster counts, and the time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS: Final = 5
"""Between so many looks, one a second, the difference must hold."""

APART: Final = 0.25
"""Of a core: so far must the two be apart."""

TIMES: Final = 1.5
"""So many times as busy must the one be."""

GAIN: Final = 0.1
"""Of a core: so much closer must a move bring them."""

REST_SECONDS: Final = 60.0
"""For how long a slot that was told to move stays where it is."""


class Look(NamedTuple):
    """What the roster counts at a moment."""

    at: float
    hosts: Sequence[int]
    """Nanoseconds that each host has been busy."""
    slots: Sequence[int]
    """Nanoseconds that each slot has taken."""
    owners: Sequence[int]


class Balance:
    """See the module's text."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=LOOKS + 1)
        self._rests: dict[int, float] = {}

    def forget(self) -> None:
        """Begin the watch anew: hosts come and go, or a slot moves."""
        self._looks.clear()

    def look(self, look: Look) -> tuple[int, int] | None:
        """Take what is counted now; returns which slot is to move to which host, if one is."""
        looks = self._looks
        if looks and (
            list(looks[-1].owners) != list(look.owners)
            or any(now < was for was, now in zip(looks[-1].hosts, look.hosts, strict=True))
        ):
            looks.clear()
        looks.append(look)
        if len(looks) <= LOOKS:
            return None
        rates = _rates(looks[0].hosts, look.hosts, look.at - looks[0].at)
        high, low = rates.index(max(rates)), rates.index(min(rates))
        for was, now in zip(looks, list(looks)[1:], strict=False):
            steps = _rates(was.hosts, now.hosts, now.at - was.at)
            if steps[high] - steps[low] <= APART or steps[high] <= TIMES * steps[low]:
                return None
        slot = self._best(looks[0], look, high, rates[high] - rates[low], rates[high])
        if slot is None:
            return None
        self._rests[slot] = look.at + REST_SECONDS
        looks.clear()
        return slot, low

    def _best(self, was: Look, now: Look, high: int, gap: float, busy: float) -> int | None:
        """Return the slot of a host that leaves the smallest gap when it moves; None if that gains little."""
        rates = _rates(was.slots, now.slots, now.at - was.at)
        own = [slot for slot, owner in enumerate(now.owners) if owner == high]
        # They are sampled by another clock than the hosts' own.
        scale = min(1.0, busy / max(1e-9, sum(rates[slot] for slot in own)))
        movable = [slot for slot in own if self._rests.get(slot, 0.0) <= now.at]
        best = min(movable, key=lambda slot: abs(gap - 2 * rates[slot] * scale), default=None)
        if best is None or gap - abs(gap - 2 * rates[best] * scale) < GAIN:
            return None
        return best


def _rates(was: Sequence[int], now: Sequence[int], seconds: float) -> list[float]:
    """Return what part of a core each took."""
    return [(after - before) / 1e9 / seconds for before, after in zip(was, now, strict=True)]
