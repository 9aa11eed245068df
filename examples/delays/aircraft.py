"""The object: one for each tail number, it keeps the aircraft's model in its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.delays.model import Model, Summary
from workers import DurableObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.delays.flights import Flight


class AircraftObject(DurableObject):
    """Learns the delays of one aircraft."""

    async def observe(self, start: int, flights: Sequence[Flight]) -> int:
        """Learn from the aircraft's flights of number `start` and on; return how many it now knows.

        Flights that it knows already are passed over, so that a batch may be sent again when its
        sender cannot know whether it arrived. Raises ValueError if some before it are missing.
        """
        model = await self.ctx.storage.get("model") or Model()
        if start > model.flights:
            raise ValueError(
                f"flights {model.flights} to {start} of {self.ctx.id.name} are missing"
            )
        for flight in flights[model.flights - start :]:
            model.observe(flight)
        await self.ctx.storage.put("model", model)
        return model.flights

    async def summary(self) -> Summary:
        """Return what is known of the aircraft."""
        model = await self.ctx.storage.get("model") or Model()
        return model.summary()
