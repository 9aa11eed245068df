"""The room of the storm: it stores what is said, answers with its number, and tells all of some."""

from workers import DurableObject, Response, WebSocketPair, WorkerEntrypoint

TOLD = 100
"""Every so many messages one goes to all; with all of them the clients would hear nothing else."""


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.sql = ctx.storage.sql
        self.sql.exec(
            "CREATE TABLE IF NOT EXISTS said "
            "(number INTEGER PRIMARY KEY, client TEXT, serial INTEGER, id TEXT UNIQUE)"
        )

    async def fetch(self, request):
        client, server = WebSocketPair()
        name = request.query["name"]
        self.ctx.acceptWebSocket(server, [name])
        server.serializeAttachment(name)
        return Response(None, status=101, web_socket=client)

    def webSocketMessage(self, ws, message):
        serial, _, mark = message.partition(" ")
        known = self.sql.exec("SELECT number FROM said WHERE id = ?", mark).toArray()
        if known:
            ws.send(f"{known[0]['number']} {mark}")
            return
        row = self.sql.exec(
            "INSERT INTO said (client, serial, id) VALUES (?, ?, ?) RETURNING number",
            ws.deserializeAttachment(),
            int(serial),
            mark,
        ).one()
        text = f"{row['number']} {mark}"
        if row["number"] % TOLD:
            ws.send(text)
        else:
            self.ctx.broadcast(text)

    def webSocketError(self, ws, _error):
        ws.send("again")

    def history(self):
        return list(self.sql.exec("SELECT number, client, serial, id FROM said ORDER BY 1").raw())

    def members(self):
        """Who is here: the tag and the attachment of each socket."""
        return [
            (*self.ctx.getTags(ws), ws.deserializeAttachment()) for ws in self.ctx.getWebSockets()
        ]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.ROOMS.getByName("one").fetch(request)
