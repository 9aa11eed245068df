"""HTTP clients of the gateway, while the slots of their objects move: each request is answered, and done once."""

import asyncio
import os
import random
import shutil
import signal
from collections import Counter as Tally
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from examples.demo.server import started
from runtime import aconnect
from tests.placement.test_moves import SLOTS, keep_moving, move_all
from tests.stepping import until
from workers.errors import HostLost

WRANGLER = f"""
name = "counters"
main = "worker.py"
[durable_objects]
bindings = [{{ name = "COUNTERS", class_name = "Counter" }}]
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Counter"]
[roost]
slots = {SLOTS}
balance = false
"""


class Client:
    """A connection that is kept alive; its requests have bodies of both kinds."""

    def __init__(self, url, name):
        self.url, self.name = urlsplit(url), name
        self.number = 0
        """What its object has counted."""
        self.answers = Tally()

    async def request(self):
        """Have the object count; returns the status."""
        body = b"x" * random.choice([5, 100_000])
        chunked = self.number % 2
        length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
        head = (
            f"POST /?name={self.name}&number={self.number} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n"
        )
        if chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(answer.split()[1])
        size = int(answer.partition("content-length: ")[2].partition("\r")[0])
        text = (await self.reader.readexactly(size)).decode()
        if status == HTTPStatus.OK:
            assert int(text.split()[1]) == self.number
        self.answers[status] += 1
        return status

    async def count(self, moving, rt):
        """Count until the slots stand still; nothing but 503 needs another try."""
        self.reader, self.writer = await asyncio.open_connection(self.url.hostname, self.url.port)
        while not moving.done():
            if await self.request() == HTTPStatus.OK:
                self.number += 1
            else:
                self.number = await self.found(rt)
        self.writer.close()
        assert await self.found(rt) == self.number

    async def found(self, rt):
        """What the object has counted, of which one may have been lost on its way back."""
        while True:
            try:
                found = await rt.env.COUNTERS.getByName(self.name).count()
            except HostLost:
                continue
            assert found in {self.number, self.number + 1}
            return found


@asynccontextmanager
async def counting(folder, clients, move):
    """Have clients count while slots move; yields the runtime, and all their answers at last."""
    shutil.copy(Path(__file__).with_name("worker.py"), folder / "worker.py")
    (folder / "wrangler.toml").write_text(WRANGLER)
    answers = Tally()
    with started(folder, folder / "data", 2) as server:
        async with await aconnect(folder / "data") as rt:
            moving = asyncio.create_task(move(rt))
            visits = [Client(server.url, f"c{n}") for n in range(clients)]
            counted = asyncio.gather(*(client.count(moving, rt) for client in visits))
            yield rt, moving, answers
            async with asyncio.timeout(30):
                await asyncio.gather(moving, counted)
            for client in visits:
                answers.update(client.answers)


async def test_no_request_fails_or_is_done_twice(tmp_path):
    async with counting(tmp_path, 16, lambda rt: move_all(rt, 5)) as (_, moving, answers):
        pass
    assert moving.result() == 5 * SLOTS
    assert set(answers) == {200}
    assert answers[200] > 100


async def test_where_hosts_are_killed_besides_what_fails_may_be_tried_again(tmp_path):
    async with counting(tmp_path, 16, lambda rt: keep_moving(rt, 200)) as (rt, moving, answers):
        for _ in range(5):
            victim = random.choice(rt.status())
            if victim.pid:
                os.kill(victim.pid, signal.SIGKILL)
            await until(
                lambda gone=victim.pid: all(h.state == "up" and h.pid != gone for h in rt.status())
            )
    assert moving.done()
    assert set(answers) == {200, 503}
