"""One room: it sends what its clients ask for to all of them."""

from workers import (
    DurableObject,
    Request,
    Response,
    WebSocket,
    WebSocketPair,
    WorkerEntrypoint,
)


class Room(DurableObject):
    """A number is asked for so many messages of 200 bytes to all; anything else comes back."""

    async def fetch(self, _request: Request) -> Response:
        """Accept a client."""
        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    def webSocketMessage(self, ws: WebSocket, message: str) -> None:
        """Do what a client asks for."""
        verb, _, count = message.partition(" ")
        if verb == "broadcast":
            for number in range(int(count)):
                self.ctx.broadcast(f"{number:0200}")
        elif verb == "loop":
            for number in range(int(count)):
                for each in self.ctx.getWebSockets():
                    each.send(f"{number:0200}")
        else:
            ws.send(message)


class Default(WorkerEntrypoint):
    """`/NAME` is the room of that name."""

    async def fetch(self, request: Request) -> Response:
        """Forward a client to its room."""
        response: Response = await self.env.ROOMS.getByName(request.url.rsplit("/", 1)[1]).fetch(
            request
        )
        return response
