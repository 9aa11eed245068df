"""Rooms: Workers KV used from a Durable Object, the classic example, in Python.

`GET /?roomId=a` reaches the one live object of room `a`, whichever process is asked. Beside the
theme and the number of visits it answers who it is: `instance` is made anew with every activation.
"""

import os
from typing import Any
from uuid import uuid4

from workers import DurableObject, Request, Response, WorkerEntrypoint


class Room(DurableObject):
    """One room: counts its visits."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.instance = uuid4().hex

    async def fetch(self, _request: Request) -> Response:
        """Take a visit."""
        await self.env.SETTINGS.put("last-room", str(self.ctx.id))
        theme = await self.env.SETTINGS.get("theme")
        visits = (await self.ctx.storage.get("visits") or 0) + 1
        await self.ctx.storage.put("visits", visits)
        return Response.json(
            {
                "room": self.ctx.id.name,
                "theme": theme,
                "visits": visits,
                "id": str(self.ctx.id),
                "instance": self.instance,
                "pid": os.getpid(),
            }
        )


class Default(WorkerEntrypoint):
    """Shows every request to its room."""

    async def fetch(self, request: Request) -> Response:
        """Answer GET /?roomId=NAME."""
        name = request.query.get("roomId")
        if not name:
            return Response("Which room? Ask for one like this: GET /?roomId=a\n", status=400)
        room = self.env.ROOMS.getByName(name)
        response: Response = await room.fetch(request)
        return response
