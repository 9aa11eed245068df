"""An instance that the tests of a module share, and the objects they map over."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from runtime import Runtime
from workers import DurableObject


def lies_in_shared_memory(array):
    """Whether an array is the mapping of a file there, and no copy that came through a socket."""
    address = array.ctypes.data
    with Path("/proc/self/maps").open() as mappings:
        for line in mappings:
            first, end = (int(bound, 16) for bound in line.partition(" ")[0].split("-"))
            if first <= address < end:
                return "/dev/shm/" in line
    return False


class Account(DurableObject):
    """Adds up; keeps what it was given, in order."""

    async def add(self, n):
        total = (await self.ctx.storage.get("total") or 0) + n
        await self.ctx.storage.put("total", total)
        return total

    async def add_all(self, numbers):
        total = (await self.ctx.storage.get("total") or 0) + sum(numbers)
        await self.ctx.storage.put("total", total)
        return list(numbers)

    async def add_pair(self, pair):
        return await self.add(pair[1])

    async def add_twice(self, n):
        await self.add(n)
        await asyncio.sleep(0)
        return await self.add(n)

    async def add_when_open(self, n):
        self.opened = asyncio.get_running_loop().create_future()
        await self.opened
        return await self.add(n)

    def open(self):
        self.opened.set_result(None)

    async def total(self):
        return await self.ctx.storage.get("total")

    async def log(self, n):
        seen = await self.ctx.storage.get("seen") or []
        await self.ctx.storage.put("seen", [*seen, n])
        return n

    async def log_all(self, items):
        await self.ctx.storage.put("seen", items)
        return items

    async def seen(self):
        return await self.ctx.storage.get("seen")

    def double(self, n):
        return 2 * n

    def fail_on_odd(self, n):
        if n % 2:
            raise ValueError(f"{n} is odd")
        return n

    async def fail_on(self, item):
        """Write, and fail for one item in a way that a plain method's error is not."""
        number, odd, how = item
        await self.ctx.storage.put(f"applied {number}", True)
        if number != odd:
            return number
        if how == "exit":
            sys.exit(4)
        if how == "interrupt":
            raise KeyboardInterrupt
        raise asyncio.CancelledError

    def lock_on(self, item):
        """Return for one item what no other process can have."""
        number, odd = item
        return threading.Lock() if number == odd else [number]

    async def never(self, _n):
        await asyncio.get_running_loop().create_future()

    async def abort_on(self, item):
        number, odd = item
        if number == odd:
            self.ctx.abort("enough")
        await self.ctx.storage.put(f"applied {number}", True)
        return number

    def die_on(self, item):
        number, deadly = item
        if number == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def rows(self, table):
        return len(table)

    def look_at(self, table):
        """Say of what kind a table is, and what is in it."""
        columns = [table["n"], table["key"]]
        numbers, keys = [c.to_pylist() if hasattr(c, "to_pylist") else list(c) for c in columns]
        return type(table).__name__, numbers, set(keys)

    def same(self, item):
        return item

    def sum_of(self, array):
        return int(array.sum())

    def is_mapped(self, array):
        return lies_in_shared_memory(array)

    async def wipe(self, _n):
        await self.ctx.storage.deleteAll()

    async def map_over(self, numbers):
        """Map from inside an object."""
        results = self.env.ACCOUNTS.map("add", numbers, key=lambda n: f"inner {n % 3}")
        return [pair async for pair in results]


@pytest.fixture(scope="session")
def account_class():
    return Account


@pytest.fixture(scope="session")
def is_mapped():
    return lies_in_shared_memory


@pytest.fixture(scope="module")
def rt(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with Runtime(objects={"ACCOUNTS": Account}, data_dir=data, hosts=2, log_level="critical") as rt:
        yield rt


@pytest.fixture(scope="module")
def accounts(rt):
    return rt.env.ACCOUNTS


@pytest.fixture
def kill():
    """Kill a host of an instance and wait for nothing."""

    def kill_(rt, number=0):
        pid = rt.status()[number].pid
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    return kill_
