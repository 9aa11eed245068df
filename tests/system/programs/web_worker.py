"""The worker of the tests over HTTP."""

import asyncio
import hashlib
import os
from urllib.parse import urlsplit

from workers import DurableObject, Response, WorkerEntrypoint


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def fetch(self, request):
        name = urlsplit(request.url).path.removeprefix("/")
        if name not in {"shout", "digest", "pour", "drip", "wait", "fail", "whoami"}:
            return Response("there is no such thing", status=404)
        return await getattr(self, name)(request)

    async def shout(self, request):
        """Answer each piece of the body as soon as it is there."""

        async def louder():
            try:
                async for piece in request.body:
                    yield piece.upper()
            finally:
                self.ended.set()

        return Response(louder())

    async def digest(self, request):
        digest, size = hashlib.sha256(), 0
        async for piece in request.body:
            digest.update(piece)
            size += len(piece)
        return Response.json({"size": size, "sha256": digest.hexdigest()})

    async def pour(self, request):
        async def pour():
            for number in range(int(request.query["pieces"])):
                yield bytes([number % 251]) * 65_536

        return Response(pour())

    async def drip(self, _request):
        """Give one piece, and then wait for ever."""

        async def drip():
            self.begun.set()
            try:
                yield b"drop"
                await asyncio.Event().wait()
            finally:
                self.ended.set()

        return Response(drip())

    async def wait(self, _request):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def has_begun(self):
        await self.begun.wait()
        return True

    async def has_ended(self):
        await self.ended.wait()
        return True

    async def fail(self, _request):
        raise LookupError("a secret of the script")

    async def whoami(self, _request):
        return Response.json({"name": self.ctx.id.name, "id": str(self.ctx.id), "pid": os.getpid()})


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.query.get("roomId") is None:
            return Response("a roomId is wanted", status=400)
        return await self.env.ROOMS.getByName(request.query["roomId"]).fetch(request)
