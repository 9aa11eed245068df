"""Values over 1 MiB stream to files and from them: never whole in memory, never half in the store."""

import asyncio
import contextlib
import io
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from runtime.kv import KVNamespace, SyncKVNamespace, open_store
from workers import Request, Response
from workers.errors import KVError

PIECE = bytes(range(256)) * 256  # 64 KiB
PIECES = 24 * 16  # 24 MiB


@pytest.fixture
def files(directory):
    return lambda: sorted((directory / "values").iterdir())


def pieces(count=PIECES):
    for number in range(count):
        yield number.to_bytes(4, "big") + PIECE[4:]


async def async_pieces(count=PIECES):
    for piece in pieces(count):
        yield piece


@pytest.fixture
def grown():
    """Start to measure how many bytes this process has grown by at its peak."""
    status = Path("/proc/self/status")

    def read(name):
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def begin():
        Path("/proc/self/clear_refs").write_text("5")
        before = read("VmRSS")
        return lambda: read("VmHWM") - before

    return begin


async def count(stream):
    return sum([len(piece) async for piece in stream])


async def test_a_value_of_24_mib_is_held_in_memory_on_no_way(kv, sync_kv, grown):
    for put in (
        lambda: kv.put("k", async_pieces()),
        lambda: kv.put("k", pieces()),
        lambda: asyncio.to_thread(sync_kv.put, "k", pieces()),
    ):
        growth = grown()
        await put()
        assert growth() < 5 << 20
    for read in (
        lambda: count_of(kv),
        lambda: asyncio.to_thread(lambda: sum(map(len, sync_kv.get("k", "stream")))),
    ):
        growth = grown()
        assert await read() == PIECES * len(PIECE)
        assert growth() < 5 << 20


async def count_of(kv):
    return await count(await kv.get("k", "stream"))


async def test_what_streams_in_streams_out_to_the_byte(kv, sync_kv):
    value = b"".join(pieces(40))
    sources = [
        lambda: async_pieces(40),
        lambda: pieces(40),
        lambda: io.BytesIO(value),
        lambda: AsyncFile(value),
        lambda: Request("http://x/", method="PUT", body=async_pieces(40)).body,
        lambda: Request("http://x/", method="PUT", body=value).body,
    ]
    for source in sources:
        await kv.put("k", source(), metadata={"a": 1})
        found = await kv.get_with_metadata("k", "stream")
        assert found.metadata == {"a": 1}
        assert b"".join([piece async for piece in found.value]) == value
        assert await kv.get("k", "bytes") == value
    for source in sources[1:3]:
        sync_kv.put("k", source())
        assert sync_kv.get("k", "bytes") == value


class AsyncFile:
    def __init__(self, value):
        self._file = io.BytesIO(value)

    async def read(self, size):
        await asyncio.sleep(0)
        return self._file.read(size)


@pytest.mark.parametrize("size", [1, 40])
async def test_a_stream_is_the_body_of_a_response(kv, size):
    await kv.put("k", pieces(size))
    response = Response(await kv.get("k", "stream"))
    assert await response.bytes() == b"".join(pieces(size))


async def test_a_blocking_stream_is_a_file(sync_kv, tmp_path):
    for size in (1, 40):
        sync_kv.put("k", pieces(size))
        with sync_kv.get("k", "stream") as stream, (tmp_path / "copy").open("wb") as copy:
            assert stream.read(3) == next(pieces(1))[:3]
            shutil.copyfileobj(stream, copy)
        assert (tmp_path / "copy").read_bytes() == b"".join(pieces(size))[3:]
        with (tmp_path / "copy").open("rb") as copy:
            sync_kv.put("copy", copy)
        assert sync_kv.get("copy", "bytes") == b"".join(pieces(size))[3:]


async def test_an_open_stream_reads_on_though_its_key_is_written_anew(kv, files):
    await kv.put("k", pieces(40))
    stream = await kv.get("k", "stream")
    await kv.put("k", "new")
    assert files() == []
    assert await count(stream) == 40 * len(PIECE)


def open_values():
    """Return which values' files this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            links.append(descriptor.readlink())
    return [link for link in links if link.suffix == ".val"]


async def test_a_stream_that_is_not_read_keeps_no_file_open(kv, sync_kv):
    await kv.put("k", pieces(40))
    for read in (1, 0):
        stream = await kv.get("k", "stream")
        blocking = sync_kv.get("k", "stream")
        if read:
            await anext(stream)
            next(blocking)
        assert len(open_values()) == 2
        del stream, blocking
        assert open_values() == []


async def failing(count, error):
    async for piece in async_pieces(count):
        yield piece
    raise error


@pytest.mark.parametrize("size", [1, 40])
async def test_an_error_in_the_source_leaves_the_old_value(kv, sync_kv, files, size):
    await kv.put("k", "old")
    with pytest.raises(OSError, match="gone"):
        await kv.put("k", failing(size, OSError("the peer is gone")))

    def blocking():
        yield from pieces(size)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        sync_kv.put("k", blocking())
    assert await kv.get("k") == "old"
    assert files() == []


async def test_a_value_that_grows_past_the_limit_is_refused_and_its_source_is_closed(
    kv, sync_kv, files
):
    closed = []

    async def endless():
        try:
            while True:
                yield PIECE
        finally:
            closed.append(True)

    await kv.put("k", "old")
    refusal = r"KV PUT failed: 413 Value length of \d+ exceeds limit of 26214400\."
    with pytest.raises(KVError, match=refusal):
        await kv.put("k", endless())
    assert closed == [True]
    with pytest.raises(KVError, match=refusal):
        sync_kv.put("k", iter(lambda: PIECE, None))
    assert await kv.get("k") == "old"
    assert files() == []
    await kv.put("k", (PIECE for _ in range(400)))
    assert await count(await kv.get("k", "stream")) == 26214400


async def test_options_are_checked_before_a_stream_is_touched(kv, sync_kv):
    for face in (kv.put, sync_kv.put):
        stream = pieces(1)
        with pytest.raises(KVError, match="expiration_ttl"):
            await kv.put("k", stream, expirationTtl=1) if face == kv.put else face(
                "k", stream, expirationTtl=1
            )
        assert next(stream)


async def test_a_cancelled_caller_leaves_the_old_value_and_no_file(kv, files):
    arrived = asyncio.Event()

    async def stuck():
        async for piece in async_pieces(40):
            yield piece
        arrived.set()
        await asyncio.Event().wait()

    await kv.put("k", "old")
    put = asyncio.create_task(kv.put("k", stuck()))
    await arrived.wait()
    assert len(files()) == 1
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert files() == []
    assert await kv.get("k") == "old"


async def test_a_stream_whose_gate_breaks_leaves_nothing(store, files):
    held = asyncio.Queue()
    kv = KVNamespace(store, say=held.put_nowait)
    put = asyncio.create_task(kv.put("k", pieces(40)))
    write = await held.get()
    assert len(files()) == 1
    write.fail(RuntimeError("the commit failed"))
    with pytest.raises(RuntimeError, match="the commit failed"):
        await put
    assert files() == []


async def test_a_stream_into_a_closed_store_leaves_nothing(store, kv, files):
    store.close()
    with pytest.raises(KVError, match="closed"):
        await kv.put("k", pieces(40))
    assert files() == []


def test_a_writer_killed_within_a_stream_leaves_the_old_value_and_no_orphan(fast_directory, start):
    def stream_for_ever(say):
        def stuck():
            yield from pieces(40)
            say("half")
            os.read(os.pipe()[0], 1)

        SyncKVNamespace(open_store(fast_directory)).put("k", stuck())

    with closing(open_store(fast_directory)) as store:
        SyncKVNamespace(store).put("k", "old")
    writer = start(stream_for_ever)
    assert writer.said.readline() == "half\n"
    writer.kill()
    assert len(list((fast_directory / "values").iterdir())) == 1
    with closing(open_store(fast_directory)) as store:
        store.tidy()
        assert list((fast_directory / "values").iterdir()) == []
        assert SyncKVNamespace(store).get("k") == "old"
