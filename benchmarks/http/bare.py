"""The least that HTTP from Python can cost: uvicorn answering a constant, on one core."""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn

_BODY = b'{"count": 123456}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer."""
    if scope["type"] == "http":
        await send(_START)
        await send({"type": "http.response.body", "body": _BODY})


def main() -> None:
    """Serve until the input closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
