"""fetch() against a real server: the output gate, redirects, streams, errors, its pool."""

import asyncio
import gc
import gzip
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvloop
from aiohttp import web

from workers import FormData, Request, Response, fetch
from workers.body import take_content
from workers.current import current_event
from workers.fetch import _sessions, close_session


class Server:
    """A server that records requests; a handler can wait at `gate` between two pieces."""

    def __init__(self):
        self.seen = []
        self.gate = asyncio.Event()

    async def handle(self, request):
        body = await request.read()
        self.seen.append((request.method, request.path_qs, request.headers, body))
        return await getattr(self, request.path.split("/")[1])(request, body)

    async def echo(self, request, body):
        return web.Response(body=body, headers={"X-Method": request.method, "X-Multi": "1"})

    async def status(self, request, body):
        return web.Response(status=int(request.path.split("/")[2]))

    async def cookies(self, request, body):
        response = web.Response()
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response

    async def zipped(self, request, body):
        return web.Response(body=gzip.compress(b"plain"), headers={"Content-Encoding": "gzip"})

    async def go(self, request, body):
        _, _, status, target = request.path.split("/", 3)
        target = target.removeprefix("to:") if target.startswith("to:") else "/" + target
        return web.Response(status=int(status), headers={"Location": target})

    async def loop(self, request, body):
        return web.Response(status=302, headers={"Location": "/loop/"})

    async def slow(self, request, body):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await self.gate.wait()
        await response.write(b"second")
        return response

    async def broken(self, request, body):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"first")
        request.transport.close()
        return response


@pytest.fixture
async def server():
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{server.port}"
    yield server
    server.gate.set()
    await close_session()
    await runner.cleanup()


class GatedEvent:
    """An event with an unconfirmed write, confirmed or failed by the test."""

    env = None

    def __init__(self):
        self.confirmed = asyncio.get_running_loop().create_future()

    def wait_until(self, awaitable):
        raise AssertionError

    def confirm(self):
        return self.confirmed


async def test_method_headers_and_body_arrive(server):
    response = await fetch(
        server.url + "/echo/a%2Fb?q=%C3%A9", method="POST", headers={"X-A": "1"}, body="é"
    )
    assert (response.status, response.status_text, response.ok) == (200, "OK", True)
    assert response.url == server.url + "/echo/a%2Fb?q=%C3%A9"
    assert not response.redirected
    assert response.headers["x-method"] == "POST"
    assert await response.text() == "é"
    method, path, headers, body = server.seen[0]
    assert (method, path, body) == ("POST", "/echo/a%2Fb?q=%C3%A9", "é".encode())
    assert headers["X-A"] == "1"
    assert headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert headers["User-Agent"].startswith("roost ")


async def test_a_request_object_and_a_trailing_mapping_work_too(server):
    await fetch(Request(server.url + "/echo/", method="PUT", body=b"1"))
    await fetch(server.url + "/echo/", {"method": "DELETE", "headers": {"User-Agent": "mine"}})
    assert [seen[0] for seen in server.seen] == ["PUT", "DELETE"]
    assert server.seen[1][2]["User-Agent"] == "mine"
    assert "Content-Type" not in server.seen[0][2]


async def test_a_forwarded_request_gets_the_headers_of_its_own_hop(server):
    headers = {"Host": "elsewhere", "Connection": "close", "Content-Length": "99", "X-A": "1"}
    response = await fetch(server.url + "/echo/", method="POST", headers=headers, body=b"xy")
    assert await response.bytes() == b"xy"
    seen = server.seen[0][2]
    assert seen["Host"] == f"127.0.0.1:{server.port}"
    assert (seen["Content-Length"], seen["X-A"]) == ("2", "1")


async def test_a_form_arrives_as_multipart(server):
    response = await fetch(server.url + "/echo/", method="POST", body=FormData({"a": "1"}))
    copy = Response(await response.bytes(), headers=server.seen[0][2])
    assert (await copy.form_data())["a"] == "1"


async def test_error_statuses_are_responses_and_cookies_stay_apart(server):
    response = await fetch(server.url + "/status/503")
    assert (response.status, response.ok) == (503, False)
    assert (await fetch(server.url + "/cookies/")).headers.get_set_cookie() == ["a=1", "b=2"]


async def test_responses_without_a_body_have_none(server):
    assert (await fetch(server.url + "/status/204")).body is None
    assert (await fetch(server.url + "/echo/", method="HEAD")).body is None


async def test_a_body_arrives_while_the_server_still_writes(server):
    response = await fetch(server.url + "/slow/")
    body = response.body
    assert await anext(body) == b"first"
    server.gate.set()
    assert b"".join([piece async for piece in body]) == b"second"


async def test_a_decoded_body_no_longer_declares_its_encoding(server):
    response = await fetch(server.url + "/zipped/")
    assert await response.text() == "plain"
    assert "content-encoding" not in response.headers
    assert "content-length" not in response.headers


async def test_a_streamed_body_is_sent_as_it_comes(server):
    async def pieces():
        yield "one,"
        yield b"two"

    response = await fetch(server.url + "/echo/", method="POST", body=pieces())
    assert await response.text() == "one,two"
    assert server.seen[0][2]["Transfer-Encoding"] == "chunked"


async def test_a_response_streams_into_the_next_request(server):
    first = await fetch(server.url + "/echo/", method="POST", body="x")
    second = await fetch(server.url + "/echo/", method="POST", body=first.body)
    assert await second.text() == "x"


async def test_a_break_in_the_body_is_a_connection_error(server):
    response = await fetch(server.url + "/broken/")
    with pytest.raises(ConnectionError, match=r"GET http://.*/broken/ broke off"):
        await response.text()


async def test_a_body_that_nobody_reads_can_be_given_up(server):
    content = take_content(await fetch(server.url + "/slow/"))
    await content.aclose()
    assert (await fetch(server.url + "/status/200")).ok


async def test_a_peer_that_is_not_there_is_a_connection_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(ConnectionError, match=f"GET {url} failed: .*[Cc]onnect"):
            await fetch(url)


async def test_other_schemes_and_upgrades_are_refused():
    with pytest.raises(TypeError, match="http: and https: URLs only"):
        await fetch("ftp://x.dev/")
    with pytest.raises(TypeError, match="Invalid URL: /x"):
        await fetch("/x")
    with pytest.raises(TypeError, match="upgrades to WebSockets only"):
        await fetch("http://127.0.0.1:1/", headers={"Upgrade": "h2c"})


async def test_a_websocket_that_cannot_be_reached_is_a_connection_error():
    with pytest.raises(ConnectionError, match=r"the WebSocket http://127\.0\.0\.1:1/ failed"):
        await fetch("http://127.0.0.1:1/", headers={"Upgrade": "websocket"})


@pytest.mark.parametrize(
    ("status", "method", "becomes", "body"),
    [
        (301, "POST", "GET", b""),
        (302, "POST", "GET", b""),
        (302, "PUT", "PUT", b"x"),
        (303, "PUT", "GET", b""),
        (307, "POST", "POST", b"x"),
        (308, "POST", "POST", b"x"),
    ],
)
async def test_redirects_keep_or_drop_the_body_as_their_status_says(
    server, status, method, becomes, body
):
    response = await fetch(f"{server.url}/go/{status}/echo/", method=method, body="x")
    assert await response.bytes() == body
    assert response.redirected
    assert response.url == server.url + "/echo/"
    assert server.seen[-1][0] == becomes
    assert ("Content-Type" in server.seen[-1][2]) == bool(body)


async def test_manual_and_error_do_not_follow(server):
    response = await fetch(server.url + "/go/302/echo/", redirect="manual")
    assert (response.status, response.headers["location"]) == (302, "/echo/")
    with pytest.raises(
        ConnectionError, match='redirected to /echo/, and its redirect mode is "err'
    ):
        await fetch(server.url + "/go/302/echo/", redirect="error")
    assert len(server.seen) == 2


async def test_endless_redirects_end_in_an_error(server):
    with pytest.raises(ConnectionError, match="redirected more than 20 times"):
        await fetch(server.url + "/loop/")
    assert len(server.seen) == 21


async def test_a_streamed_body_is_not_sent_twice(server):
    async def pieces():
        yield "x"

    with pytest.raises(ConnectionError, match="streamed body cannot be sent again"):
        await fetch(server.url + "/go/307/echo/", method="POST", body=pieces())
    response = await fetch(server.url + "/go/303/echo/", method="POST", body=pieces())
    assert await response.bytes() == b""


async def test_credentials_do_not_follow_to_another_origin(server):
    other = f"http://localhost:{server.port}/echo/"
    secrets = {"Authorization": "Bearer x", "Cookie": "a=1", "X-A": "1"}
    await fetch(server.url + "/go/302/echo/", headers=secrets)
    assert server.seen[-1][2]["Authorization"] == "Bearer x"
    await fetch(server.url + "/go/302/to:" + other, headers=secrets)
    seen = server.seen[-1][2]
    assert "Authorization" not in seen
    assert "Cookie" not in seen
    assert seen["X-A"] == "1"


@pytest.mark.parametrize("target", ["to:file:///etc/passwd", "to:http://", "to:ftp://x/"])
async def test_a_redirect_out_of_http_is_refused(server, target):
    with pytest.raises(ConnectionError, match="redirected"):
        await fetch(f"{server.url}/go/302/{target}")


async def test_nothing_is_sent_before_the_events_writes_are_confirmed(server):
    event = GatedEvent()
    token = current_event.set(event)
    try:
        sending = asyncio.create_task(fetch(server.url + "/status/200"))
        # Another request makes the whole way there and back meanwhile.
        current_event.set(None)
        await fetch(server.url + "/status/201")
        assert not sending.done()
        assert [seen[1] for seen in server.seen] == ["/status/201"]
        event.confirmed.set_result(None)
        assert (await sending).status == 200
    finally:
        current_event.reset(token)


async def test_a_failed_write_stops_the_request(server):
    event = GatedEvent()
    event.confirmed.set_exception(OSError("disk full"))
    token = current_event.set(event)
    try:
        with pytest.raises(OSError, match="disk full"):
            await fetch(server.url + "/status/200")
    finally:
        current_event.reset(token)
    assert server.seen == []


async def test_a_fetcher_takes_the_networks_place():
    async def fetcher(request):
        return Response(f"{request.method} {request.url}")

    response = await fetch("http://binding/x", method="POST", fetcher=fetcher)
    assert await response.text() == "POST http://binding/x"


async def test_a_loop_has_one_pool_and_close_session_ends_it(server):
    loop = asyncio.get_running_loop()
    await fetch(server.url + "/status/200")
    session = _sessions[loop][0]
    await fetch(server.url + "/status/200")
    assert _sessions[loop][0] is session
    await close_session()
    assert session.closed
    assert loop not in _sessions
    await close_session()
    assert (await fetch(server.url + "/status/200")).ok


class Hello(BaseHTTPRequestHandler):
    """A server of another thread, so that the loop under test has only fetch's own sockets."""

    protocol_version = "HTTP/1.1"  # keeps connections open, so that the pool has one to close

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_pool_closes_with_its_loop_and_without_a_warning(monkeypatch, loop_factory):
    sessions, unraisable = [], []

    async def main():
        assert await (await fetch(url)).text() == "hi"
        sessions.append(_sessions[asyncio.get_running_loop()][0])

    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_value))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            gc.collect()
        server.shutdown()
        thread.join()
    assert sessions[0].closed
    assert unraisable == []
    assert not [loop for loop in _sessions if loop.is_closed()]
