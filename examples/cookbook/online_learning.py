"""Learn online: a linear model for each aircraft, updated flight by flight.

`python -m examples.cookbook.online_learning [FLIGHTS]`. The flights are made up, so that what is to be
learnt is known; `examples/delays` does it with a year of real ones.
"""

from __future__ import annotations

import random
import sys
import tempfile
from typing import TYPE_CHECKING

from runtime import Runtime
from workers import DurableObject

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRCRAFT = 5
SLOPE, BIAS = 0.9, -2.0
"""What is to be learnt: how an arrival's delay follows from the departure's, in minutes."""


class Model(DurableObject):
    """What is known of one aircraft."""

    async def learn(self, flights: list[dict[str, float]]) -> tuple[float, float]:
        """Learn from its next flights."""
        slope, bias = await self.ctx.storage.get("model") or (0.0, 0.0)
        for flight in flights:
            error = flight["arrival"] - (slope * flight["departure"] + bias)
            slope += 0.001 * error * flight["departure"]
            bias += 0.01 * error
        await self.ctx.storage.put("model", (slope, bias))
        return slope, bias


def flights(count: int) -> Iterator[dict[str, str | float]]:
    """Make up flights, one at a time: the map reads them as it goes."""
    dice = random.Random(1)
    for _ in range(count):
        departure = dice.uniform(0, 20)
        arrival = SLOPE * departure + BIAS + dice.gauss(0, 1)
        yield {"tail": f"N{dice.randrange(AIRCRAFT)}", "departure": departure, "arrival": arrival}


def main(count: int = 20_000) -> None:
    """Learn, and print what was learnt."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"MODELS": Model}, data_dir=data, hosts=2) as rt,
    ):
        learnt = dict(rt.env.MODELS.map("learn", flights(count), key="tail", batch=256))
    for tail, (slope, bias) in sorted(learnt.items()):
        print(f"{tail}: arrives {slope:.2f} times as late as it left, less {-bias:.1f} minutes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
