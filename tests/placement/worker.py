"""Objects that notice when a call of theirs is lost, doubled or out of order."""

import asyncio
import os
import time

from workers import DurableObject, Response, WorkerEntrypoint


class Counter(DurableObject):
    """Counts in storage, and remembers in memory what it was last told."""

    born = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.going_on = asyncio.Event()

    async def add(self, number):
        """Take the numbers 0, 1, 2, ..., each once and in order."""
        storage = self.ctx.storage
        count = await storage.get("count") or 0
        assert number == count, f"told {number} after {count - 1}"
        await storage.put("count", count + 1)
        return count

    async def add_item(self, item):
        return await self.add(item[1])

    async def count(self):
        return await self.ctx.storage.get("count") or 0

    def insert(self, number):
        """The same in a table."""
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS told (number INTEGER PRIMARY KEY)")
        assert sql.exec("SELECT count(*) FROM told").raw().__next__()[0] == number
        sql.exec("INSERT INTO told VALUES (?)", number)
        return number

    async def fetch(self, request):
        body = await request.bytes()
        return Response(f"{len(body)} {await self.add(int(request.query['number']))}")

    async def pass_on(self, name, number):
        """Have another object count; this one waits for it."""
        return await self.env.COUNTERS.getByName(name).add(number)

    async def write_and_pass_on(self, name, first):
        """The same behind the output gate, two at once."""
        await self.ctx.storage.put("passed", first)
        other = self.env.COUNTERS.getByName(name)
        return await asyncio.gather(other.add(first), other.add(first + 1))

    async def ring(self, times):
        await self.ctx.storage.put("left", times)
        await self.ctx.storage.setAlarm(time.time() * 1000)

    async def alarm(self):
        left = await self.ctx.storage.get("left")
        await self.ctx.storage.put("rang", (await self.ctx.storage.get("rang") or 0) + 1)
        if left > 1:
            await self.ctx.storage.put("left", left - 1)
            await self.ctx.storage.setAlarm(time.time() * 1000)

    async def rang(self):
        return await self.ctx.storage.get("rang") or 0

    def pid(self):
        return os.getpid()

    def size(self, *arrays):
        return sum(array.nbytes for array in arrays)

    async def items(self, count):
        for number in range(count):
            yield number
            await asyncio.sleep(0)

    async def wait(self):
        await self.going_on.wait()
        return os.getpid()

    def go_on(self):
        self.going_on.set()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.COUNTERS.getByName(request.query["name"]).fetch(request)
