"""The objects that benchmarks call, the same for all systems."""

from __future__ import annotations

from typing import Any

from workers import DurableObject


class Counter(DurableObject):
    """Counts in memory: what is measured is the call, not the work."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.total = 0

    def increment(self, by: int) -> int:
        """Add and return the total."""
        self.total += by
        return self.total

    def take(self, array: Any) -> int:
        """Take an array."""
        return len(array)

    async def call_another(self, name: str, calls: int) -> int:
        """Call another counter so many times, one call after another."""
        other = self.env.COUNTERS.getByName(name)
        for _ in range(calls):
            await other.increment(1)
        return calls

    async def increment_async(self, by: int) -> int:
        """Do the same as a coroutine, which never waits."""
        self.total += by
        return self.total
