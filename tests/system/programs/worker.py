"""The worker of these tests: rooms that remember, wait, and say who they are."""

import asyncio
import os
import uuid
from pathlib import Path

from workers import DurableObject, Response, WorkerEntrypoint


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.token = uuid.uuid4().hex
        self.waiting = asyncio.Event()
        self.released = asyncio.Event()

    def pid(self):
        return os.getpid()

    async def visit(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return self.token, os.getpid(), count

    async def record(self, number):
        await self.ctx.storage.put(f"{number:06}", number)
        await self.env.KV.put(f"{self.ctx.id.name}-{number:06}", str(number))
        return number

    async def recorded(self):
        return list((await self.ctx.storage.list()).values())

    async def hold(self):
        self.waiting.set()
        await self.released.wait()
        return "released"

    async def held(self):
        await self.waiting.wait()

    async def release(self):
        self.released.set()

    async def listen(self, fifo):
        """Wait until something is written to a named pipe, and return it."""
        self.waiting.set()
        return await asyncio.to_thread(Path(fifo).read_text)

    def spin(self, fifo):
        Path(fifo).write_text("spinning")
        while True:
            pass


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        """Call a method of a room, with one argument or none: ?room=a&do=listen&with=/tmp/pipe."""
        query = request.query
        method = getattr(self.env.ROOMS.getByName(query.get("room", "a")), query.get("do", "visit"))
        return Response.json(await (method(query["with"]) if "with" in query else method()))
