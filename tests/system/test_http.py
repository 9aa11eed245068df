"""HTTP from a socket through gateway, entrypoint and object, and back, of a real `roost serve`."""

import asyncio
import hashlib
import json
import os
import re

import pytest

from runtime import connect

from .conftest import PROGRAMS, WRANGLER

SCRIPT = (PROGRAMS / "web_worker.py").read_text()
LIMITED = WRANGLER + "[roost]\nrequest_body = 1_000_000\n"


@pytest.fixture(scope="module")
def served(serve):
    return serve(SCRIPT)


@pytest.fixture
def room(served, request):
    """The room of this test, called from beside."""
    with connect(served.data) as rt:
        yield rt.env.ROOMS.getByName(request.node.name)


class Wire:
    """A connection on which exactly that is sent which a test says."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, served):
        return cls(*await asyncio.open_connection("127.0.0.1", served.port))

    def send(self, *lines, body=b""):
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    def send_chunk(self, data):
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def head(self):
        """Take the head of a response: its status and its headers."""
        first, *lines = (
            (await self._soon(self.reader.readuntil(b"\r\n\r\n"))).decode().split("\r\n")
        )
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        return int(first.split()[1]), headers

    async def chunk(self):
        size = int(await self._soon(self.reader.readline()), 16)
        return (await self._soon(self.reader.readexactly(size + 2)))[:-2]

    async def reply(self):
        """Take a whole response: its status and its body."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return status, b"".join(pieces)
        return status, await self._soon(self.reader.readexactly(int(headers["content-length"])))

    async def ended(self):
        return await self._soon(self.reader.read(1)) == b""

    async def _soon(self, awaitable):
        return await asyncio.wait_for(awaitable, 30)

    def close(self):
        self.writer.close()


@pytest.fixture
async def wire(served):
    wire = await Wire.open(served)
    yield wire
    wire.close()


async def test_a_body_streams_through_an_object_both_ways_at_once(wire, room):
    wire.send(
        f"POST /shout?roomId={room.name} HTTP/1.1", "Host: house", "Transfer-Encoding: chunked"
    )
    wire.send_chunk(b"first ")
    assert (await wire.head())[0] == 200  # before the request has ended
    assert await wire.chunk() == b"FIRST "
    wire.send_chunk(b"second")
    assert await wire.chunk() == b"SECOND"
    wire.send_chunk(b"")
    assert await wire.chunk() == b""


async def test_large_bodies_arrive_whole(wire, room):
    data = os.urandom(1 << 20) * 20
    wire.send(
        f"POST /digest?roomId={room.name} HTTP/1.1", "Host: house", f"Content-Length: {len(data)}"
    )
    wire.writer.write(data)
    status, body = await wire.reply()
    assert status == 200
    said = json.loads(body)
    assert said == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    wire.send(f"GET /pour?roomId={room.name}&pieces=300 HTTP/1.1", "Host: house")
    status, body = await wire.reply()
    assert body == b"".join(bytes([n % 251]) * 65_536 for n in range(300))


@pytest.mark.parametrize("path", ["wait", "drip", "shout"])
async def test_a_client_that_leaves_cancels_the_code_of_the_object(served, room, path):
    wire = await Wire.open(served)
    wire.send(
        f"POST /{path}?roomId={room.name} HTTP/1.1", "Host: house", "Transfer-Encoding: chunked"
    )
    wire.send_chunk(b"x" * 10)
    if path != "wait":
        await wire.head()
        await wire.chunk()
    else:
        await asyncio.wrap_future(room.has_begun.submit())
    wire.close()
    assert await asyncio.wait_for(asyncio.wrap_future(room.has_ended.submit()), 30)


async def test_a_connection_serves_one_request_after_another(wire, room):
    for _ in range(20):
        wire.send(f"GET /whoami?roomId={room.name} HTTP/1.1", "Host: house")
        status, body = await wire.reply()
        assert (status, json.loads(body)["id"]) == (200, str(room.id))
    for _ in range(20):  # and many at once
        wire.send(f"GET /whoami?roomId={room.name} HTTP/1.1", "Host: house")
    for _ in range(20):
        assert (await wire.reply())[0] == 200
    wire.send(f"GET /whoami?roomId={room.name} HTTP/1.1", "Host: house", "Connection: close")
    assert (await wire.reply())[0] == 200
    assert await wire.ended()


async def test_a_body_over_the_limit_is_refused(serve):
    served = serve(SCRIPT, wrangler=LIMITED)
    start = ("POST /digest?roomId=a HTTP/1.1", "Host: house")
    wire = await Wire.open(served)
    wire.send(*start, "Content-Length: 1000001")
    status, body = await wire.reply()
    assert (status, body) == (413, b"The request body is larger than the limit of 1000000 bytes.\n")
    wire.writer.write_eof()
    assert await wire.ended()
    wire = await Wire.open(served)
    wire.send(*start, "Transfer-Encoding: chunked")
    for _ in range(11):
        wire.send_chunk(b"x" * 100_000)
    assert (await wire.reply())[0] == 413
    wire = await Wire.open(served)
    wire.send(*start, "Content-Length: 1000000", body=b"x" * 1_000_000)
    status, body = await wire.reply()
    assert (status, json.loads(body)["size"]) == (200, 1_000_000)


async def test_serve_answers_an_exception_with_an_incident_id_that_is_in_the_log(
    served, wire, room
):
    wire.send(f"GET /fail?roomId={room.name} HTTP/1.1", "Host: house", "Accept: text/html")
    status, body = await wire.reply()
    assert status == 500
    incident = re.fullmatch(rb"500 Internal Server Error\nincident ([0-9a-f]{8})\n", body)[1]
    line = await asyncio.to_thread(served.err.wait, f"incident={incident.decode()}")
    assert str(room.id) in line.string
    assert "LookupError: a secret of the script" in line.string
    await asyncio.to_thread(served.err.wait, "in fail", served.err.all.index(line.string))


async def test_dev_answers_an_exception_with_a_page_that_shows_it(serve):
    served = serve(SCRIPT, verb="dev")
    wire = await Wire.open(served)
    wire.send("GET /fail?roomId=a HTTP/1.1", "Host: house", "Accept: text/html,*/*")
    status, headers = await wire.head()
    page = await wire.reader.readexactly(int(headers["content-length"]))
    assert (status, headers["content-type"]) == (500, "text/html; charset=utf-8")
    with connect(served.data) as rt:
        object_id = str(rt.env.ROOMS.idFromName("a"))
    for shown in (b"LookupError", b"a secret of the script", b"in fail", object_id.encode()):
        assert shown in page
    wire.send("GET /fail?roomId=a HTTP/1.1", "Host: house")
    status, body = await wire.reply()
    assert status == 500
    assert b"in fail" in body
    assert b"<" not in body.partition(b"\n")[0]


@pytest.mark.parametrize("path", ["/cdn-cgi/", "/cdn-cgi/handler/scheduled", "/cdn-cgi/x?roomId=a"])
async def test_internal_paths_are_not_exposed(wire, path):
    wire.send(f"GET {path} HTTP/1.1", "Host: house")
    status, body = await wire.reply()
    assert (status, body) == (404, b"/cdn-cgi/ is reserved; nothing is served at this path.\n")


async def test_an_access_log_line_tells_of_each_request(served, wire, room):
    wire.send(f"GET /whoami?roomId={room.name} HTTP/1.1", "Host: house")
    _, body = await wire.reply()
    path = re.escape(f"/whoami?roomId={room.name}")
    line = rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ GET {path} 200 {len(body)}B \d+\.\d\dms$"
    await asyncio.to_thread(served.out.wait, line)
