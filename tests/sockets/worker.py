"""The worker that the tests of sockets talk to: a room whose messages are commands."""

import asyncio
import json
import os

from js import WebSocket, WebSocketPair

from workers import (
    DurableObject,
    Response,
    WebSocketRequestResponsePair,
    WorkerEntrypoint,
    fetch,
)


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.born = len(ctx.getWebSockets())
        self.heard = 0
        self.produced = 0
        self.ended = 0
        self.feeds = []

    async def fetch(self, request):
        query = request.query
        if query.get("stream"):
            body = getattr(self, f"stream_{query['stream']}")()
            return Response(self.counted(body), headers={"content-type": "text/event-stream"})
        if request.headers.get("upgrade") != "websocket":
            return Response("a room", status=426)
        client, server = WebSocketPair.new().object_values()
        if query.get("api") == "standard":
            server.accept()
            server.addEventListener("message", lambda event: server.send(f"heard {event.data}"))
            server.addEventListener("close", self.closed)
        else:
            self.ctx.acceptWebSocket(
                server, query.get("tags", "").split(",") if query.get("tags") else []
            )
        if query.get("name"):
            server.serializeAttachment({"name": query["name"]})
        if query.get("greet"):
            server.send(query["greet"])
        headers = {}
        if request.headers.get("sec-websocket-protocol"):
            headers["sec-websocket-protocol"] = request.headers["sec-websocket-protocol"].split(
                ", "
            )[0]
        return Response(None, status=101, web_socket=client, headers=headers)

    async def counted(self, body):
        try:
            async for event in body:
                self.produced += 1
                yield f"data: {event}\n\n"
        finally:
            self.ended += 1

    async def stream_endless(self):
        while True:
            yield "z" * 50_000
            await asyncio.sleep(0)

    async def stream_silent(self):
        await asyncio.Event().wait()
        yield "never"

    async def stream_feed(self):
        feed = asyncio.Queue()
        self.feeds.append(feed)
        while True:
            yield await feed.get()

    async def streams(self):
        return {"produced": self.produced, "ended": self.ended, "feeds": len(self.feeds)}

    async def publish(self):
        for number in range(20):
            for feed in self.feeds:
                feed.put_nowait(number)

    async def closed(self, event):
        await self.ctx.storage.put("last close", [event.code, event.reason, event.wasClean])

    async def webSocketMessage(self, ws, message):
        self.heard += 1
        if isinstance(message, bytes):
            ws.send(message)
            return
        verb, _, rest = message.partition(" ")
        await getattr(self, f"do_{verb}")(ws, rest)

    async def webSocketClose(self, ws, code, reason, wasClean):
        name = (ws.deserializeAttachment() or {}).get("name")
        await self.ctx.storage.put("last close", [code, reason, wasClean])
        await self.ctx.storage.put("left", [*(await self.ctx.storage.get("left") or []), name])
        self.ctx.broadcast(f"left {name} {code} {reason}")

    async def webSocketError(self, ws, error):
        ws.send(f"error {type(error).__name__} {error.retryable}")

    async def do_echo(self, ws, rest):
        ws.send(rest)

    async def do_facts(self, ws, _rest):
        facts = {
            "born": self.born,
            "heard": self.heard,
            "pid": os.getpid(),
            "tags": self.ctx.getTags(ws),
            "attachment": ws.deserializeAttachment(),
            "all": len(self.ctx.getWebSockets()),
            "state": ws.readyState,
            "protocol": ws.protocol,
        }
        ws.send(json.dumps(facts))

    async def do_tag(self, ws, tag):
        for each in self.ctx.getWebSockets(tag):
            each.send(f"to {tag}")
        ws.send(f"{len(self.ctx.getWebSockets(tag))} of {tag}")

    async def do_all(self, _ws, text):
        self.ctx.broadcast(text)

    async def do_big(self, _ws, size):
        self.ctx.broadcast("z" * int(size))

    async def do_numbered(self, _ws, rest):
        number, size = rest.split(" ")
        self.ctx.broadcast(f"{number} {'z' * int(size)}")

    async def do_dropped(self, ws, tag):
        ws.send(str([each.dropped for each in self.ctx.getWebSockets(tag)]))

    async def do_relay(self, ws, url):
        response = await fetch(url, {"headers": {"upgrade": "websocket"}})
        if response.web_socket is None:
            ws.send(f"refused {response.status}")
            return
        self.upstream = response.web_socket
        self.upstream.addEventListener("message", lambda event: ws.send(f"relayed {event.data}"))
        self.upstream.addEventListener("close", lambda event: ws.send(f"upstream {event.code}"))
        self.upstream.accept()
        ws.send("relaying")

    async def do_up(self, _ws, text):
        self.upstream.send(text)

    async def do_dial(self, ws, url):
        self.upstream = WebSocket.new(url)
        self.upstream.onopen = lambda _: ws.send(f"open {self.upstream.readyState}")
        self.upstream.onmessage = lambda event: ws.send(f"dialled {event.data}")
        self.upstream.onerror = lambda event: ws.send(f"failed {type(event.error).__name__}")
        ws.send(f"dialling {self.upstream.readyState}")

    async def do_hang(self, _ws, _rest):
        self.upstream.close(4005, "enough")

    async def do_others(self, ws, text):
        ws.send(str(self.ctx.broadcast(text, except_=ws)))

    async def do_loop(self, _ws, text):
        for each in self.ctx.getWebSockets():
            each.send(json.dumps({"text": text}))

    async def do_count(self, _ws, rest):
        for number in range(int(rest)):
            self.ctx.broadcast(str(number))

    async def do_attach(self, ws, text):
        ws.serializeAttachment(text)
        ws.send("attached")

    async def do_close(self, ws, rest):
        code, _, reason = rest.partition(" ")
        ws.close(int(code), reason)

    async def do_add(self, ws, text):
        log = await self.ctx.storage.get("log") or []
        log.append(text)
        await self.ctx.storage.put("log", log)
        ws.send(f"added {text}")

    async def do_log(self, ws, _rest):
        ws.send(json.dumps(await self.ctx.storage.get("log") or []))

    async def do_die(self, _ws, _rest):
        os.kill(os.getpid(), 9)

    async def do_abort(self, ws, _rest):
        await self.ctx.storage.put("log", ["lost"])
        ws.send("never sent")
        self.ctx.abort("on demand")

    async def do_fail(self, _ws, _rest):
        raise ValueError("on demand")

    async def do_auto(self, ws, rest):
        pair = WebSocketRequestResponsePair.new(*rest.split(" ")) if rest else None
        self.ctx.setWebSocketAutoResponse(pair)
        ws.send("set")

    async def do_stamp(self, ws, _rest):
        stamp = self.ctx.getWebSocketAutoResponseTimestamp(ws)
        ws.send("none" if stamp is None else str(stamp.timestamp()))

    async def left(self):
        return [await self.ctx.storage.get("left"), await self.ctx.storage.get("last close")]

    async def errors(self):
        """What the API refuses, as (type, text)."""
        found = []

        def refused(function, *args):
            try:
                function(*args)
            except Exception as error:
                found.append((type(error).__name__, str(error)))
            else:
                found.append(("nothing", ""))

        client, server = WebSocketPair()
        refused(server.send, "x")
        refused(self.ctx.acceptWebSocket, object())
        refused(self.ctx.acceptWebSocket, server, [str(n) for n in range(11)])
        refused(self.ctx.acceptWebSocket, server, ["x" * 257])
        refused(self.ctx.getTags, server)
        server.accept()
        refused(self.ctx.acceptWebSocket, server)
        refused(self.ctx.getTags, server)
        refused(server.serializeAttachment, "x" * 17_000)
        refused(server.send, {"a": 1})
        refused(server.close, 1005)
        refused(server.close, 1000, "x" * 124)
        refused(server.close, None, "why")
        server.close(1000, "done")
        refused(server.send, "x")
        refused(WebSocketRequestResponsePair.new, "x" * 3000, "y")
        refused(self.ctx.setHibernatableWebSocketEventTimeout, 604_800_001)
        other = WebSocketPair()[1]
        self.ctx.acceptWebSocket(other, ["a", "b", "a"])
        found.append(("tags", self.ctx.getTags(other)))
        refused(other.accept)
        refused(Response, None, {"status": 101})
        refused(client.close, 1000)
        return found

    async def crowd(self):
        """How many sockets the object accepts, and what it says to one more."""
        count = 0
        while True:
            try:
                self.ctx.acceptWebSocket(WebSocketPair()[1])
            except RuntimeError as error:
                return [count, str(error)]
            count += 1

    async def noted(self):
        return self.born


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("/", 3)[3].partition("?")[0]
        if path == "own":
            client, server = WebSocketPair()
            server.accept()
            server.addEventListener("message", lambda event: server.send(event.data.upper()))
            return Response(None, status=101, web_socket=client)
        if path == "pid":
            return Response(str(os.getpid()))
        stub = self.env.ROOMS.getByName(path)
        if request.headers.get("upgrade") == "websocket" or request.query.get("stream"):
            return await stub.fetch(request)
        if request.query.get("call"):
            return Response.json(await getattr(stub, request.query["call"])())
        return Response("no socket", status=404)
