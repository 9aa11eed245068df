"""The program beside: another process that reads or writes the namespace.

Says when it is ready, waits for a line, then gets or puts so often and says when it began and ended;
or writes until its input says stop.
"""

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.kv.ours import KIB, in_flight
from runtime.kv import KVNamespace, open_store


async def main(what: str, calls: int, directory: Path, shelf: Path) -> None:
    """Do what is asked."""
    store = open_store(directory, cache=lambda: shelf)
    kv = KVNamespace(store)
    await kv.get("hot 1 KiB")
    print("ready", flush=True)
    sys.stdin.readline()
    value = "y" * KIB
    began = time.monotonic()
    if what == "get":
        for _ in range(calls):
            await kv.get("hot 1 KiB")
    elif what == "put":
        await in_flight(calls, 256, lambda number: kv.put(f"put {number % 1000}", value))
    else:
        print("writing", flush=True)
        stopped = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        while not stopped.done():
            await in_flight(256, 64, lambda number: kv.put(f"put {number}", value))
    print(began, time.monotonic(), flush=True)
    store.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
