"""Which items of an input are done: all below a number, and some above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Done:
    """A set of numbers from 0 that is nearly a prefix."""

    __slots__ = ("above", "low")

    low: int
    """All numbers below it are in the set, and it is not."""
    above: set[int]
    """The others."""

    def __init__(self, low: int = 0, above: Iterable[int] = ()) -> None:
        self.low = low
        self.above = set(above)

    @property
    def end(self) -> int:
        """One more than the highest number in the set."""
        return max(self.above) + 1 if self.above else self.low

    def __contains__(self, number: int) -> bool:
        return number < self.low or number in self.above

    def __len__(self) -> int:
        return self.low + len(self.above)

    def add(self, numbers: Sequence[int]) -> None:
        """Add numbers, in their order, that are not in the set."""
        low, above = self.low, self.above
        if numbers[0] == low and numbers[-1] == low + len(numbers) - 1:
            low += len(numbers)
        else:
            above.update(numbers)
        while low in above:
            above.remove(low)
            low += 1
        self.low = low

    def ranges(self) -> list[tuple[int, int]]:
        """Return what is above as ranges: (first, one after the last)."""
        found: list[tuple[int, int]] = []
        first = last = -1
        for number in sorted(self.above):
            if number != last:
                if last > first:
                    found.append((first, last))
                first = number
            last = number + 1
        if last > first:
            found.append((first, last))
        return found
