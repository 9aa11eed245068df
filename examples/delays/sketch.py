"""A quantile sketch: how a stream of numbers is distributed, in little memory and with a sure error.

It counts numbers in buckets that grow geometrically (DDSketch: Masson, Rim and Lee, VLDB 2019), so
that a quantile is off by at most `ACCURACY` of itself, or by `SMALLEST` close to zero. The order in
which numbers come does not matter.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import ceil, log
from typing import Final

ACCURACY: Final = 0.01
"""Of itself: the most that a quantile is off."""

SMALLEST: Final = 0.25
"""Numbers closer to zero than this are all one to the sketch."""

_BASE: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_BASE: Final = log(_BASE)
_CENTRE: Final = SMALLEST * 2 / (1 + _BASE)
"""Times a bucket's upper bound: the number from which both its bounds are equally far, relatively."""


class Sketch:
    """See the module's text."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        # Bucket n > 0 holds the numbers in (SMALLEST * BASE**(n - 1), SMALLEST * BASE**n], bucket -n
        # their negatives, bucket 0 what is smaller: so buckets are in the order of their numbers.
        self._counts: dict[int, int] = {}

    def add(self, number: float) -> None:
        """Count a number."""
        size = abs(number) / SMALLEST
        bucket = ceil(log(size) / _LOG_BASE) if size > 1 else 0
        if number < 0:
            bucket = -bucket
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def __len__(self) -> int:
        return sum(self._counts.values())

    def quantiles(self, *fractions: float) -> list[float]:
        """Return the numbers that those fractions of all, 0 to 1, do not exceed.

        Of n numbers in order, the one at index `int(fraction * (n - 1))`. Raises ValueError when
        there are none.
        """
        buckets = sorted(self._counts)
        ranks = list(accumulate(map(self._counts.__getitem__, buckets)))
        if not ranks:
            raise ValueError("a sketch of nothing has no quantiles")
        last = ranks[-1] - 1
        return [_number(buckets[bisect_right(ranks, int(f * last))]) for f in fractions]

    def state(self) -> tuple[object, ...]:
        """Return all that it knows, comparable and printable."""
        return tuple(sorted(self._counts.items()))


def _number(bucket: int) -> float:
    """Return the number that stands for a bucket."""
    if bucket == 0:
        return 0.0
    size = _CENTRE * _BASE ** abs(bucket)
    return size if bucket > 0 else -size
