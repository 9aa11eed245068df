"""Many clients in a process apart: `python -m benchmarks.websockets.clients HOST PORT PATH COUNT`.

A %d in PATH is the number of the client. It connects them, says so, and then does what its standard input asks for, a line each. Clients do
not parse what they get, they count its bytes: the fewer cycles they take, the more the servers
have. Prints one JSON value a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

import uvloop

ANSWER = 204
"""Bytes of a frame that carries 200."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Client(asyncio.Protocol):
    """One connection; counts bytes into its crowd."""

    __slots__ = ("crowd", "opened", "transport")

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.opened: asyncio.Future[None] | None = crowd.loop.create_future()
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = transport  # type: ignore[assignment]
        path = self.crowd.path.replace("%d", str(len(self.crowd.clients)))
        self.transport.write(
            f"GET /{path} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Count."""
        if self.opened is None:
            self.crowd.count(len(data))
        else:
            if not data.startswith(b"HTTP/1.1 101") or not data.endswith(b"\r\n\r\n"):
                raise SystemExit(f"no upgrade: {data[:300]!r}")
            self.opened.set_result(None)
            self.opened = None

    def connection_lost(self, _exc: Exception | None) -> None:
        """End: a benchmark with fewer clients would be none."""
        os._exit(7)


class Crowd:
    """All clients, and how many bytes they still expect."""

    def __init__(self, path: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.path = path
        self.clients: list[Client] = []
        self.expected = 0
        self.done: asyncio.Future[None] = self.loop.create_future()

    def count(self, size: int) -> None:
        """Take bytes off those that are expected."""
        self.expected -= size
        if self.expected == 0:
            self.done.set_result(None)

    async def ask(self, text: str, size: int) -> float:
        """Have the first client send something; seconds until so many bytes have come to all."""
        self.expected, self.done = size, self.loop.create_future()
        mask = bytes(4)  # a mask of zeros is as good as any
        data = text.encode()
        began = time.perf_counter()
        self.clients[0].transport.write(bytes([0x81, 0x80 | len(data)]) + mask + data)
        await self.done
        return time.perf_counter() - began


async def main(host: str, port: str, path: str, count: str) -> None:
    """Connect, then do what standard input says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(path)
    for _ in range(int(count)):
        _, client = await crowd.loop.create_connection(lambda: Client(crowd), host, int(port))
        crowd.clients.append(client)
        if client.opened is not None:
            await client.opened
    print(json.dumps("connected"), flush=True)
    clients = len(crowd.clients)
    for line in iter(sys.stdin.readline, ""):
        what, times = line.split()
        if what == "burst":  # so many messages to all, at once
            seconds = await crowd.ask(f"broadcast {times}", ANSWER * clients * int(times))
            found: object = clients * int(times) / seconds
        elif what == "loop":
            seconds = await crowd.ask(f"loop {times}", ANSWER * clients * int(times))
            found = clients * int(times) / seconds
        elif what == "single":  # one message to all after another
            found = [
                await crowd.ask("broadcast 1", ANSWER * clients) * 1e3 for _ in range(int(times))
            ]
        else:  # one message that comes back, after another
            found = [await crowd.ask("echo", 6) * 1e6 for _ in range(int(times))]
        print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
