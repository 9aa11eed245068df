"""The least that HTTP from Python can cost: a server that answers a constant, on one core.

Of uvicorn, of granian, and of Roost's own gateway without anything behind it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvloop

from runtime.gateway import Server
from workers.response import response_from_parts

_BODY = b'{"count": 123456}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer, as an ASGI application."""
    if scope["type"] == "http":
        await send(_START)
        await send({"type": "http.response.body", "body": _BODY})


def uvicorn(listener: socket.socket) -> None:
    """Serve with uvicorn, as fast as it goes."""
    import uvicorn as server  # noqa: PLC0415

    config = server.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off"
    )
    server.Server(config).run(sockets=[listener])


def granian(listener: socket.socket) -> None:
    """Serve with granian, which binds the port itself."""
    from granian import Granian  # noqa: PLC0415

    port = listener.getsockname()[1]
    listener.close()
    Granian(
        f"{__spec__.name}:app",
        port=port,
        interface="asgi",  # RSGI, its own, takes as long
        loop="uvloop",
        log_enabled=False,
    ).serve()


def gateway(listener: socket.socket) -> None:
    """Serve with the gateway's server."""
    headers = [("content-type", "application/json")]

    def answer(exchange: Any, *_request: object) -> None:
        exchange.set_result(response_from_parts(200, "", headers, _BODY))

    async def serve() -> None:
        await Server(answer, mode="serve", max_body=0).start(listener)
        await asyncio.Event().wait()

    uvloop.run(serve())


def main() -> None:
    """Serve with the server that is named, until told to stop."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    {"uvicorn": uvicorn, "granian": granian, "gateway": gateway}[sys.argv[1]](listener)


if __name__ == "__main__":
    main()
