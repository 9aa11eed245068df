"""Put the hosts where an Executor is wanted: `concurrent.futures`, asyncio, joblib, dask.

`python -m examples.cookbook.pool [LARGEST]`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from concurrent.futures import as_completed

from runtime import Runtime


def primes_below(n: int) -> int:
    """Count them, slowly."""
    return sum(all(k % d for d in range(2, int(k**0.5) + 1)) for k in range(2, n))


def main(largest: int = 20_000) -> None:
    """Count primes with futures, with asyncio, and with `run`."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(data_dir=data, hosts=2) as rt,
        rt.executor() as pool,
    ):
        futures = {pool.submit(primes_below, n): n for n in (100, 1000, largest)}
        for future in as_completed(futures):
            print(f"below {futures[future]}: {future.result()}")

        async def in_asyncio() -> int:
            return await asyncio.get_running_loop().run_in_executor(pool, primes_below, 1000)

        print(f"in asyncio: {asyncio.run(in_asyncio())}")
        print(f"a hundred at once: {sum(rt.run(primes_below, range(100)))}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
