"""Push a table through objects: each gets DataFrames with the rows of its key.

`python -m examples.cookbook.tables [ROWS]`. Nothing is turned into Python objects on the way.
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import pandas as pd

from runtime import Runtime
from workers import DurableObject

STATIONS = 7


class Station(DurableObject):
    """One weather station."""

    async def add(self, rows: pd.DataFrame) -> float:
        """Take its next rows; return the mean temperature so far."""
        count, total = await self.ctx.storage.get("sum") or (0, 0.0)
        count, total = count + len(rows), total + float(rows["temperature"].sum())
        await self.ctx.storage.put("sum", (count, total))
        return total / count


def main(rows: int = 100_000) -> None:
    """Print the mean of each station."""
    table = pd.DataFrame(
        {
            "station": np.arange(rows) % STATIONS,
            "temperature": np.arange(rows) % STATIONS + np.sin(np.arange(rows)),
        }
    )
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"STATIONS": Station}, data_dir=data, hosts=2) as rt,
    ):
        means = dict(rt.env.STATIONS.map("add", table, key="station", batch=500))
    print({int(station): round(mean, 1) for station, mean in sorted(means.items())})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
