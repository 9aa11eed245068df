"""Chat: each room is one object; its clients' WebSockets stay open whatever becomes of its process.

The room keeps its history in storage and who is here in its sockets' attachments, so that it has
nothing in memory that it would miss. A message is acknowledged by coming back, which it does only
when it is durable. Clients number their messages: one that is sent again is stored once.
"""

import json
import time
from pathlib import Path
from typing import Any

from workers import (
    DurableObject,
    Request,
    Response,
    WebSocket,
    WebSocketPair,
    WebSocketRequestResponsePair,
    WorkerEntrypoint,
)

PAGE = Path(__file__).with_name("page.html")
SHOWN = 50
"""Messages of the history that a newcomer sees."""
LONGEST = 2_000
"""Characters of a message."""


class Room(DurableObject):
    """One room."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        # Answered for the room without waking it: an idle room costs no memory.
        ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair("ping", "pong"))

    async def fetch(self, request: Request) -> Response:
        """Let somebody in."""
        name = request.query.get("name", "").strip()[:40] or "somebody"
        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server)
        server.serializeAttachment(name)
        server.send(json.dumps({"type": "history", "messages": await self.history()}))
        self.tell_who_is_here()
        return Response(None, status=101, web_socket=client)

    async def history(self, most: int = SHOWN) -> list[dict[str, Any]]:
        """Return the last messages."""
        kept = await self.ctx.storage.list(prefix="message:", reverse=True, limit=most)
        return list(kept.values())[::-1]

    async def webSocketMessage(self, ws: WebSocket, message: str | bytes) -> None:
        """Store what somebody says, and tell all."""
        try:
            said = json.loads(message)
            text, mark = said["text"].strip()[:LONGEST], str(said["id"])[:80]
        except (ValueError, KeyError, TypeError, AttributeError):
            ws.send(json.dumps({"type": "error", "text": "send {text, id}"}))
            return
        storage = self.ctx.storage
        name = ws.deserializeAttachment()
        number = await storage.get(f"sent:{name}:{mark}")
        if number is not None:  # it was sent again, because its answer got lost
            ws.send(json.dumps(await storage.get(f"message:{number:012}")))
            return
        number = (await storage.get("count") or 0) + 1
        stored = {"number": number, "name": name, "text": text, "at": time.time(), "id": mark}
        await storage.put(
            {
                "count": number,
                f"message:{number:012}": stored,
                f"sent:{name}:{mark}": number,
            }
        )
        self.ctx.broadcast(json.dumps(stored))

    async def webSocketClose(self, _ws: WebSocket, *_how: Any) -> None:
        """Tell the others that somebody has left."""
        self.tell_who_is_here()

    async def webSocketError(self, ws: WebSocket, _error: Exception) -> None:
        """Have a client say again what the room may not have heard, because its process died."""
        ws.send(json.dumps({"type": "again"}))

    def tell_who_is_here(self) -> None:
        """Send everybody the list of names."""
        names = sorted({ws.deserializeAttachment() for ws in self.ctx.getWebSockets()})
        self.ctx.broadcast(json.dumps({"type": "people", "names": names}))


class Default(WorkerEntrypoint):
    """`/` is the page, `/rooms/NAME` the WebSocket of a room."""

    async def fetch(self, request: Request) -> Response:
        """Answer with the page, or forward the upgrade to its room."""
        _, _, path = request.url.partition("://")[2].partition("/")
        path = path.partition("?")[0]
        if not path:
            return Response(PAGE.read_text(), headers={"content-type": "text/html;charset=utf-8"})
        section, _, name = path.partition("/")
        if section != "rooms" or not name:
            return Response("There is only / and /rooms/NAME.\n", status=404)
        if request.headers.get("upgrade") != "websocket":
            return Response("A room is a WebSocket.\n", status=426)
        response: Response = await self.env.ROOMS.getByName(name).fetch(request)
        return response
