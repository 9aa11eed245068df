"""The cache of a running instance: shared by all its processes, private, and gone with it."""

import pytest

from runtime import AsyncRuntime, Runtime
from runtime.directories import SHARED_MEMORY, mark_of
from workers import DurableObject, Response, WorkerEntrypoint


class Reader(DurableObject):
    async def read(self, key):
        return await self.env.KV.get(key)

    async def write(self, key, value):
        await self.env.KV.put(key, value)


@pytest.fixture
def shelves(tmp_path):
    return lambda: list(SHARED_MEMORY.glob(f"{mark_of(tmp_path / 'data')}-*"))


def test_objects_and_the_embedding_program_share_it_and_it_goes_with_them(tmp_path, shelves):
    with Runtime(objects={"READERS": Reader}, kv=["KV"], hosts=2, data_dir=tmp_path / "data") as rt:
        readers = [rt.env.READERS.getByName(name) for name in "abcd"]
        for number in range(20):
            rt.env.KV.put("k", f"{number}")
            assert {reader.read("k") for reader in readers} == {f"{number}"}
            readers[number % 4].write("k", f"object {number}")
            assert rt.env.KV.get("k") == f"object {number}"
        assert rt.env.KV._store.statistics().hits == 20
        (shelf,) = shelves()
        assert shelf.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in shelf.iterdir()} == {0o600}
    assert shelves() == []


def test_a_setting_turns_it_off(tmp_path, shelves):
    with Runtime(kv=["KV"], hosts=1, data_dir=tmp_path / "data", kv_cache_bytes=0) as rt:
        rt.env.KV.put("k", "v")
        assert rt.env.KV.get("k") == "v"
        assert rt.env.KV._store.statistics().hits == 0


class Files(WorkerEntrypoint):
    """Keeps what is sent, and gives it back, both as streams."""

    async def fetch(self, request):
        if request.method == "PUT":
            await self.env.KV.put("file", request.body)
            return Response(None, status=204)
        return Response(await self.env.KV.get("file", "stream"))


async def test_a_request_s_body_streams_into_kv_and_out_again(tmp_path):
    async def body():
        for piece in pieces:
            yield piece

    pieces = [bytes([number]) * 100_000 for number in range(50)]
    async with AsyncRuntime(entrypoint=Files, kv=["KV"], hosts=1, data_dir=tmp_path / "data") as rt:
        put = await rt.fetch("http://x/", method="PUT", body=body())
        assert put.status == 204
        found = await rt.fetch("http://x/")
        assert await found.bytes() == b"".join(pieces)
