"""fetch(): requests and responses as values, bodies as streams, through an object or the entrypoint."""

import asyncio
import logging

import pytest

from tests.stepping import settle, soon
from workers import DurableObject, Request, Response, WorkerEntrypoint, wait_until
from workers.errors import Overloaded, RemoteError, RoostError, ScriptError


class Page(DurableObject):
    """Answers requests in every way there is."""

    seen = None

    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        return await getattr(self, path)(request)

    async def echo(self, request):
        return Response(request.body, status=201, status_text="Made", headers={"x": "1"})

    async def upper(self, request):
        async def pieces():
            async for piece in request.body:
                yield piece.upper()

        return Response(pieces())

    async def length(self, request):
        return Response(str(len(await request.bytes())))

    async def head(self, request):
        Page.seen = (str(request.method), request.url, list(request.headers.raw()))
        request.headers.set("x", "changed by the object")
        return Response("ok")

    async def ignore(self, request):
        return Response("not read")

    async def keep(self, request):
        self.kept = request
        return Response("answered")

    async def read_late(self, request):
        try:
            await self.kept.bytes()
        except OSError as error:
            return Response(str(error))

    async def nothing(self, request):
        return None

    async def text(self, request):
        return "text"

    async def fail(self, request):
        raise LookupError("no such page")

    async def slow(self, request):
        try:
            await request.bytes()
        finally:
            Page.seen = "ended"

    async def endless(self, request):
        async def pieces():
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                Page.seen = "closed"

        return Response(pieces())

    async def broken(self, request):
        async def pieces():
            yield b"first"
            raise LookupError("half way")

        return Response(pieces())

    def rpc(self, n):
        return n + 1


class Default(WorkerEntrypoint):
    """Hands requests to the object, or answers itself."""

    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        if hasattr(self, path):
            return await getattr(self, path)(request)
        return await self.env.PAGES.getByName("a").fetch(request)

    async def after(self, request):
        self.ctx.waitUntil(self.env.PAGES.getByName("a").rpc(1))
        wait_until(Default.later())
        return Response("first")

    @staticmethod
    async def later():
        await asyncio.sleep(0)
        Page.seen = "later"

    async def count(self, request):
        self.calls = getattr(self, "calls", 0) + 1
        return Response(str(self.calls))

    async def mine(self, request):
        async def pieces():
            async for piece in request.body:
                yield piece[::-1]

        return Response(pieces())

    async def double(self, n):
        return [n, n]

    def leave(self):
        raise SystemExit(2)

    async def wait(self, request=None):
        await asyncio.get_running_loop().create_future()


@pytest.fixture
async def opened(house):
    Page.seen = None
    return await house(PAGES=Page, entrypoint=Default)


@pytest.fixture(params=["object", "entrypoint"])
async def send(request, opened):
    """Send a request to the object, straight or through the entrypoint."""
    page = opened.env.PAGES.getByName("a")

    async def send_(path, body=None, **init):
        if body is not None:
            init |= {"method": "POST", "body": body}
        asked = Request(f"http://x/{path}", **init)
        if request.param == "object":
            return await soon(page.fetch(asked))
        return await soon(opened.caller.fetch(None, asked))

    return send_


async def large(total=3_000_000):
    for number in range(total // 1000):
        yield bytes([number % 256]) * 1000


LARGE = b"".join(bytes([number % 256]) * 1000 for number in range(3000))


async def quiet(opened):
    """Nothing is left under way: no event, no body."""
    await settle()
    assert opened.host.waiting == 0
    assert opened.host.local.streams.writing == 0
    assert opened.caller.links[0].streams.writing == 0
    assert opened.caller.links[0].unanswered == {}
    assert opened.host.idle


# --- whole -----------------------------------------------------------------------------------------


async def test_status_headers_and_bodies_travel(send, opened):
    response = await send("echo", b"body")
    assert (response.status, response.status_text, response.headers["x"]) == (201, "Made", "1")
    assert await response.bytes() == b"body"
    assert await (await send("length")).text() == "0"
    await quiet(opened)


async def test_headers_are_values_of_the_moment_of_the_call(opened):
    page = opened.env.PAGES.getByName("a")
    request = Request("http://x/head", headers={"x": "as sent"})
    call = page.fetch(request)
    request.headers.set("x", "changed by the caller")
    await call
    assert Page.seen == ("GET", "http://x/head", [("x", "as sent")])
    assert request.headers["x"] == "changed by the caller"


@pytest.mark.parametrize("size", [0, 1, 70_000])
async def test_a_streamed_body_is_echoed_whole(send, opened, size):
    async def body():
        for _ in range(3):
            yield b"x" * size

    assert await (await send("echo", body())).bytes() == b"x" * 3 * size
    await quiet(opened)


@pytest.mark.parametrize("path", ["echo", "upper"])
async def test_a_response_may_be_made_of_its_request_while_that_still_arrives(send, opened, path):
    expected = LARGE if path == "echo" else LARGE.upper()
    assert await soon((await send(path, large())).bytes()) == expected
    await quiet(opened)


async def test_the_entrypoint_may_do_so_itself(opened):
    response = await opened.fetch("http://x/mine", method="POST", body=large())
    assert await soon(response.bytes()) == b"".join(
        LARGE[at : at + 1000][::-1] for at in range(0, len(LARGE), 1000)
    )
    await quiet(opened)


# --- not whole -------------------------------------------------------------------------------------


async def test_a_body_that_is_not_read_is_closed(send, opened):
    closed = []

    async def body():
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append(1)

    assert await (await send("ignore", body())).text() == "not read"
    await quiet(opened)
    assert closed in ([], [1])  # never begun, or begun and closed


async def test_a_body_read_after_the_answer_is_an_error_and_never_cut_short(send, opened):
    assert await (await send("keep", large())).text() == "answered"
    late = await send("read_late")
    assert await late.text() == "Can't read from request stream after response has been sent."
    await quiet(opened)


async def test_a_body_that_breaks_breaks_for_its_reader(send, opened):
    async def body():
        yield b"x"
        raise LookupError("the upload broke")

    with pytest.raises(LookupError, match="the upload broke"):
        await send("length", body())
    response = await send("echo", body())
    with pytest.raises(LookupError, match="the upload broke"):
        await soon(response.bytes())
    response = await send("broken")
    with pytest.raises(LookupError, match="half way"):
        await soon(response.bytes())
    await quiet(opened)


async def test_a_response_that_is_not_read_to_its_end_is_closed(send, opened):
    response = await send("endless")
    pieces = aiter(response.body)
    assert len(await soon(anext(pieces))) == 100_000
    del response, pieces
    await quiet(opened)
    assert Page.seen == "closed"


async def test_a_cancelled_request_cancels_the_event_and_closes_its_body(opened):
    closed = []

    async def body():
        try:
            yield b"x"
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append(1)

    page = opened.env.PAGES.getByName("a")
    call = page.fetch(Request("http://x/slow", method="POST", body=body()))
    await settle()
    call.cancel()
    await quiet(opened)
    assert closed == [1]
    assert Page.seen == "ended"


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "what"), [("nothing", "NoneType"), ("text", "str")])
async def test_what_is_no_response_is_a_type_error(send, opened, path, what):
    with pytest.raises(TypeError, match=rf"fetch\(\) must return a Response, and returned {what}"):
        await send(path, large())
    await quiet(opened)


async def test_an_exception_goes_to_who_sent_the_request(send, opened):
    with pytest.raises(LookupError, match="no such page") as raised:
        await send("fail", large())
    assert raised.value.remote
    await quiet(opened)


async def test_a_class_without_fetch_says_so(house):
    class Mute(DurableObject):
        pass

    class Silent(WorkerEntrypoint):
        pass

    opened = await house(MUTE=Mute, entrypoint=Silent)
    for call in (opened.env.MUTE.getByName("a").fetch("http://x/"), opened.fetch()):
        with pytest.raises(RoostError, match=r"^Handler does not export a fetch\(\) function\.$"):
            await soon(call)


async def test_a_url_that_is_not_absolute_is_refused_at_the_call(opened):
    with pytest.raises(TypeError, match="Invalid URL: /x"):
        opened.env.PAGES.getByName("a").fetch("/x")


async def test_a_fetch_without_a_parameter_is_called_without_the_request(house):
    class Lax(DurableObject):
        async def fetch(self):
            return Response("object")

    class LaxEntrypoint(WorkerEntrypoint):
        def fetch(self, *, key=1):
            return Response(f"entrypoint {key}")

    opened = await house(LAX=Lax, entrypoint=LaxEntrypoint)
    assert await (await opened.env.LAX.getByName("a").fetch("http://x/")).text() == "object"
    assert await (await opened.fetch()).text() == "entrypoint 1"


# --- the entrypoint --------------------------------------------------------------------------------


async def test_each_call_of_the_entrypoint_has_an_instance_of_its_own(opened):
    for _ in range(2):
        assert await (await opened.fetch("http://x/count")).text() == "1"


async def test_methods_of_the_entrypoint_can_be_called(opened):
    assert await opened.caller.call(None, "double", (2,), {}) == [2, 2]
    with pytest.raises(RemoteError, match="SystemExit: 2"):
        await opened.caller.call(None, "leave", (), {})


@pytest.mark.parametrize("name", ["nope", "mro", "ctx", "env", "__init__", "__class__", "__x"])
async def test_what_is_no_method_of_the_entrypoint_is_not_implemented(opened, name):
    with pytest.raises(TypeError, match="The RPC receiver does not implement the method") as raised:
        await opened.caller.call(None, name, (), {})
    assert raised.value.remote


async def test_what_it_gives_to_wait_until_goes_on_after_the_answer(opened):
    assert await (await opened.fetch("http://x/after")).text() == "first"
    await settle()
    assert Page.seen == "later"
    await quiet(opened)


async def test_what_fails_after_the_answer_is_logged(house, caplog):
    class Failing(WorkerEntrypoint):
        def fetch(self, request):
            async def fail():
                raise LookupError("afterwards")

            self.ctx.wait_until(fail())
            return Response("first")

    opened = await house(PAGES=Page, entrypoint=Failing)
    with caplog.at_level(logging.ERROR, "roost.host"):
        await opened.fetch()
        await settle()
    assert "waitUntil() of the worker's entrypoint failed" in caplog.text


async def test_a_worker_without_an_entrypoint_says_so(house):
    opened = await house(PAGES=Page)
    with pytest.raises(ScriptError, match="the worker has no entrypoint: define a class Default"):
        await opened.fetch()


async def test_too_many_calls_of_the_entrypoint_are_refused(house):
    opened = await house(PAGES=Page, entrypoint=Default, mailbox=2)
    waiting = [opened.caller.call(None, "wait", (), {}) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 events wait for the worker's entrypoint"):
        await soon(opened.caller.call(None, "double", (1,), {}))
    for call in waiting:
        call.cancel()
    await quiet(opened)


async def test_an_error_of_its_constructor_is_its_caller_s(house):
    class Broken(WorkerEntrypoint):
        def __init__(self, ctx, env):
            raise LookupError("cannot be made")

        def fetch(self, request):
            return Response("never")

    opened = await house(PAGES=Page, entrypoint=Broken)
    with pytest.raises(LookupError, match="cannot be made"):
        await opened.fetch()
