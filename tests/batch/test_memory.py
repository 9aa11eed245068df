"""The memory of client and hosts does not grow with the number of items."""

import os
import subprocess
import sys

ITEMS = int(os.environ.get("ROOST_MAP_ITEMS", "100000"))

PROGRAM = """
import sys
import psutil
from runtime import Runtime
from workers import DurableObject

class Last(DurableObject):
    async def keep(self, n):
        await self.ctx.storage.put("last", n)
        return n

def megabytes(rt):
    processes = [psutil.Process(), *(psutil.Process(s.pid) for s in rt.status())]
    return [process.memory_info().rss / 2**20 for process in processes]

data, items, checkpoint = sys.argv[1], int(sys.argv[2]), sys.argv[3] or None
objects = {"LASTS": Last}
with Runtime(objects=objects, data_dir=data, hosts=2, durability="relaxed") as rt:
    results = rt.env.LASTS.map("keep", iter(range(items)), key=lambda n: n % 500, checkpoint=checkpoint)
    for count, _ in enumerate(results):
        if count == items // 4:
            before = megabytes(rt)
    print(results.tally.done, max(after - b for after, b in zip(megabytes(rt), before)))
"""


def test_memory_is_flat_over_many_items(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(ITEMS), "memory"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60 + ITEMS / 2000,
    )
    count, grown = done.stdout.split()
    assert int(count) == ITEMS
    assert float(grown) < 12
