"""Call an API that allows each account so many requests a second, with an object for each account.

`python -m examples.cookbook.rate_limited [REQUESTS]`. The service is a small local server that refuses
whoever comes too early.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp

from runtime import Runtime
from workers import DurableObject

GAP = 0.02
"""Seconds that must lie between two requests of an account."""
EARLY = 0.002
"""Seconds that a sleep may end too early: a host's clock counts whole milliseconds, and rounds."""
ACCOUNTS = 8


class Account(DurableObject):
    """The one place from which an account's requests are made: so it can keep the rate."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.free_at = 0.0

    async def request(self, item: dict[str, str]) -> int:
        """Make a request as soon as it may be made; the other accounts do not wait for it."""
        await asyncio.sleep(max(0.0, self.free_at - time.monotonic()))
        async with aiohttp.ClientSession() as session, session.get(item["url"]) as response:
            self.free_at = time.monotonic() + GAP + EARLY
            return response.status


class Service(BaseHTTPRequestHandler):
    """The service: 429 for who comes early."""

    last: dict[str, float]

    def do_GET(self) -> None:
        """Answer a request to /ACCOUNT/ANYTHING."""
        account, now = self.path.split("/")[1], time.monotonic()
        early = now - self.last.get(account, 0.0) < GAP
        self.last[account] = now
        self.send_response(429 if early else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(count: int = 200) -> None:
    """Make all requests, and print how they were answered."""
    Service.last = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    names = [f"a{number % ACCOUNTS}" for number in range(count)]
    items = [{"account": name, "url": f"{url}/{name}/{n}"} for n, name in enumerate(names)]
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"ACCOUNTS": Account}, data_dir=data, hosts=2) as rt,
    ):
        answers = Counter(
            status for _, status in rt.env.ACCOUNTS.map("request", items, key="account")
        )
    server.shutdown()
    print(f"{answers[200]} of {count} requests were let in, {answers[429]} were too early")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
