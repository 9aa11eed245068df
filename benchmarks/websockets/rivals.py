"""The same room on a bare server: `python -m benchmarks.websockets.rivals websockets|picows`.

No objects, no storage, one process: the limit of what a Python server can send. Prints its port.
"""

from __future__ import annotations

import logging
import sys

import uvloop


async def with_websockets() -> None:
    """Serve with the `websockets` package and its broadcast()."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve  # noqa: PLC0415

    clients: set[ServerConnection] = set()

    async def handle(ws: ServerConnection) -> None:
        clients.add(ws)
        async for message in ws:
            verb, _, count = str(message).partition(" ")
            if verb == "broadcast":
                for number in range(int(count)):
                    broadcast(clients, f"{number:0200}")
            else:
                await ws.send(message)

    async with serve(
        handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def with_picows() -> None:
    """Serve with the `picows` package."""
    import picows  # noqa: PLC0415

    clients: set[picows.WSTransport] = set()

    class Room(picows.WSListener):  # type: ignore[misc]  # picows has no types
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            clients.add(transport)

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            clients.discard(transport)

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type != picows.WSMsgType.TEXT:
                return
            verb, _, count = frame.get_payload_as_utf8_text().partition(" ")
            if verb == "broadcast":
                for number in range(int(count)):
                    text = f"{number:0200}".encode()
                    for client in clients:
                        client.send(picows.WSMsgType.TEXT, text)
            else:
                transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_bytes())

    server = await picows.ws_create_server(lambda _: Room(), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    logging.disable()  # the clients are killed in the end, which is no error
    uvloop.run({"websockets": with_websockets, "picows": with_picows}[sys.argv[1]]())
