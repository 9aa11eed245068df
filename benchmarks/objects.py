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

    async def increment_async(self, by: int) -> int:
        """Do the same as a coroutine, which never waits."""
        self.total += by
        return self.total
