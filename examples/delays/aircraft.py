"""The object: one for each tail number, it keeps the aircraft's model in its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.delays.model import Model, Summary
from workers import DurableObject

if TYPE_CHECKING:
    from examples.delays.flights import Batch


class AircraftObject(DurableObject):
    """Learns the delays of one aircraft."""

    async def observe(self, batch: Batch) -> int:
        """Learn from the aircraft's next flights; return how many they were."""
        model = await self.ctx.storage.get("model") or Model()
        for flight in batch.flights:
            model.observe(flight)
        await self.ctx.storage.put("model", model)
        return len(batch.flights)

    async def summary(self) -> Summary:
        """Return what is known of the aircraft."""
        model = await self.ctx.storage.get("model") or Model()
        return model.summary()
