"""A body is read once, whole or streamed, and the engine takes it without a coroutine."""

import asyncio

import pytest

from workers import Blob, FormData, Request, Response
from workers.body import BodyStream, take_content


async def pieces(*items):
    for item in items:
        yield item


def streamed(*items):
    return Response(pieces(*items))


async def test_every_reader_gives_the_same_body():
    assert await Response("é").text() == "é"
    assert await Response("é").bytes() == "é".encode()
    assert await Response("é").buffer() == "é".encode()
    assert await Response(b"[1]").json() == [1]
    assert await streamed("é", b"b", bytearray(b"c")).text() == "ébc"
    blob = await Response("x", headers={"content-type": "a/b"}).blob()
    assert (await blob.text(), blob.content_type) == ("x", "a/b")


async def test_json_passes_keyword_arguments_on():
    assert await Response("[1.5]").json(parse_float=str) == ["1.5"]
    with pytest.raises(ValueError, match="Expecting value"):
        await Response("nope").json()


@pytest.mark.parametrize("make", [lambda: Response("x"), lambda: streamed("x")])
@pytest.mark.parametrize("reader", ["text", "json", "bytes", "buffer", "form_data", "blob"])
async def test_a_second_reading_is_an_os_error(make, reader):
    message = make()
    assert not message.body_used
    await message.text()
    assert message.body_used
    assert message.bodyUsed
    with pytest.raises(OSError, match="Body already used"):
        await getattr(message, reader)()


async def test_a_message_without_a_body_reads_as_empty_any_number_of_times():
    response = Response(None)
    assert response.body is None
    assert await response.text() == await response.text() == ""
    assert not response.body_used


async def test_text_drops_a_byte_order_mark_and_replaces_malformed_bytes():
    assert await Response(b"\xef\xbb\xbfa\xff").text() == "a\ufffd"
    assert await Response(b"\xef\xbb\xbf[]").json() == []


async def test_forms_are_read_as_their_type_says():
    request = Request("http://x/", method="POST", body=FormData({"a": "1"}))
    assert (await request.form_data())["a"] == "1"
    response = Response("a=2", headers={"content-type": "application/x-www-form-urlencoded"})
    assert (await response.formData())["a"] == "2"
    with pytest.raises(TypeError, match="content type is text/plain"):
        await Response("a=2").form_data()


async def test_the_body_can_be_iterated_and_is_used_from_the_first_piece_on():
    response = streamed("a", "b")
    body = response.body
    assert isinstance(body, BodyStream)
    assert not response.body_used
    assert await anext(body) == b"a"
    assert response.body_used
    assert [piece async for piece in body] == [b"b"]
    assert [piece async for piece in Response("whole").body] == [b"whole"]


async def test_a_body_given_to_another_message_stays_whole_or_streamed_and_is_used():
    whole = Response("whole")
    assert take_content(Response(whole.body)) == b"whole"
    assert whole.body_used
    stream = streamed("a", "b")
    first = stream.body
    await anext(first)
    assert await Response(first).text() == "b"
    with pytest.raises(OSError, match="Body already used"):
        Response(whole.body)


async def test_taking_the_content_costs_no_copy_and_marks_it_used():
    data = b"x" * 100
    response = Response(data)
    assert take_content(response) is data
    assert response.body_used
    with pytest.raises(OSError, match="Body already used"):
        take_content(response)
    assert take_content(Response(None)) is None
    assert [piece async for piece in take_content(streamed("a"))] == [b"a"]


@pytest.mark.parametrize("body", [5, {"a": 1}, [1], object()])
def test_bodies_of_other_types_are_refused(body):
    with pytest.raises(TypeError, match=f"Unsupported type in Response: {type(body).__name__}"):
        Response(body)


async def test_a_stream_of_other_types_fails_at_that_piece_and_closes_its_source():
    closed = []

    async def source():
        try:
            yield b"a"
            yield 5
        finally:
            closed.append(True)

    with pytest.raises(TypeError, match="gives str or bytes, found int"):
        await Response(source()).text()
    assert closed == [True]


def test_blobs_and_buffers_are_bodies():
    assert take_content(Response(Blob("x", "A/B"))) == b"x"
    assert Response(Blob("x", "a/b")).headers["content-type"] == "a/b"
    assert take_content(Response(memoryview(b"xy"))) == b"xy"
    changing = bytearray(b"xy")
    response = Response(changing)
    changing[:] = b"zz"
    assert take_content(response) == b"xy"


async def test_both_sides_of_a_clone_read_the_whole_stream_in_any_order():
    response = streamed("a", "b", "c")
    clone = response.clone()
    assert await clone.text() == "abc"
    assert await response.text() == "abc"
    response = streamed("a", "b", "c")
    first, second = response.body, response.clone().body
    # The clone took the stream over: both iterate over their own half.
    both = await asyncio.gather(*[collect(half) for half in (first, second)])
    assert both == [[b"a", b"b", b"c"]] * 2


async def collect(stream):
    return [piece async for piece in stream]


async def test_a_clone_of_whole_content_and_of_nothing_reads_the_same():
    response = Response("x")
    assert await response.clone().text() == await response.text() == "x"
    assert await Response(None).clone().text() == ""
    with pytest.raises(OSError, match="Body already used"):
        response.clone()


async def test_neither_side_of_a_clone_takes_a_broken_stream_for_whole():
    async def source():
        yield b"a"
        raise ConnectionError("broke off")

    response = Response(source())
    clone = response.clone()
    with pytest.raises(ConnectionError, match="broke off"):
        await response.text()
    with pytest.raises(OSError, match="could not be read whole"):
        await clone.text()


async def test_a_cancelled_reader_does_not_shorten_the_other_sides_stream():
    never = asyncio.Event()

    async def source():
        yield b"a"
        await never.wait()
        yield b"b"

    response = Response(source())
    clone = response.clone()
    body = response.body
    assert await anext(body) == b"a"
    reading = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(OSError, match="could not be read whole"):
        await clone.text()
