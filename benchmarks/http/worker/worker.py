"""The counter that `http` asks: in memory, in storage, and with KV as the rooms example does it."""

from workers import DurableObject, Request, Response, WorkerEntrypoint


class Counter(DurableObject):
    """Counts requests in three ways, by path."""

    count = 0

    async def fetch(self, request: Request) -> Response:
        """Answer the count."""
        path = request.url.partition("?")[0].rpartition("/")[2]
        if path == "memory":
            self.count += 1
            return Response.json({"count": self.count})
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        if path == "storage":
            return Response.json({"count": count})
        await self.env.SETTINGS.put("last-room", str(self.ctx.id))
        theme = await self.env.SETTINGS.get("theme")
        return Response.json({"theme": theme, "count": count})


class Default(WorkerEntrypoint):
    """Sends every request to the object that it names."""

    async def fetch(self, request: Request) -> Response:
        """Pass the request on."""
        counted: Response = await self.env.COUNTERS.getByName(request.query["id"]).fetch(request)
        return counted
