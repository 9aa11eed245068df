"""Greets visitors and counts their visits.

Each name has a Visitor of its own, which lives on one host and keeps its count in its storage. The
greeting is a setting in KV, which all of them read and you may change at any time.
"""

from urllib.parse import parse_qs, urlsplit

from workers import DurableObject, Response, WorkerEntrypoint


class Visitor(DurableObject):
    """Everything about one visitor. There is one live instance a name, so no update is lost."""

    async def greet(self, name):
        """Count a visit and return what to say."""
        visits = (await self.ctx.storage.get("visits") or 0) + 1
        await self.ctx.storage.put("visits", visits)
        greeting = await self.env.SETTINGS.get("greeting") or "Hello"
        await self.env.SETTINGS.put("last-visitor", name)
        return {"greeting": f"{greeting}, {name}!", "visits": visits}


class Default(WorkerEntrypoint):
    """Answers HTTP requests."""

    async def fetch(self, request):
        """Ask the visitor that the request is about."""
        names = parse_qs(urlsplit(request.url).query).get("name")
        if not names:
            return Response("Who are you? Try /?name=ada\n", status=400)
        return Response.json(await self.env.VISITORS.getByName(names[0]).greet(names[0]))
