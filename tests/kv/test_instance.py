"""The cache of a running instance: shared by all its processes, private, and gone with it."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing

import pytest

from runtime import AsyncRuntime, Runtime
from runtime.bindings import kv_directory
from runtime.directories import SHARED_MEMORY, mark_of
from runtime.kv import SyncKVNamespace, open_store
from runtime.kv.shared import FORMAT
from runtime.kv.write_lock import write_lock
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


def test_the_embedding_program_asks_no_host(tmp_path):
    with Runtime(objects={"READERS": Reader}, kv=["KV"], hosts=2, data_dir=tmp_path / "data") as rt:
        rt.env.READERS.getByName("a").write("k", "v")
        hosts = [host.pid for host in rt.status()]
        for pid in hosts:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert rt.env.KV.get("k") == "v"
            rt.env.KV.put("k", "w")
            assert rt.env.KV.get("k") == "w"
            assert [key.name for key in rt.env.KV.list()["keys"]] == ["k"]
        finally:
            for pid in hosts:
                os.kill(pid, signal.SIGCONT)
        assert rt.env.READERS.getByName("a").read("k") == "w"


class Later(DurableObject):
    def write(self, key, value):
        self.ctx.waitUntil(self.env.KV.put(key, value))


class LaterEntrypoint(WorkerEntrypoint):
    async def fetch(self, request):
        self.ctx.waitUntil(self.env.KV.put("entrypoint", "v"))
        return Response("later")


def test_stopping_waits_for_puts_that_nobody_awaits(tmp_path):
    data = tmp_path / "data"
    with closing(open_store(kv_directory(data, "KV"))) as store:
        kv = SyncKVNamespace(store)
        rt = Runtime(
            objects={"LATER": Later}, entrypoint=LaterEntrypoint, kv=["KV"], hosts=2, data_dir=data
        )
        with write_lock(store.directory / "write.lock"):  # no put can become durable
            rt.env.LATER.getByName("a").write("object", "v")
            assert rt.fetch("http://x/").status == 200
            stopping = threading.Thread(target=rt.close)
            stopping.start()
            assert kv.list()["keys"] == []
            assert stopping.is_alive()
        stopping.join()
        assert [key.name for key in kv.list()["keys"]] == ["entrypoint", "object"]


def test_a_cache_that_is_of_no_use_is_said_once_by_all_processes(tmp_path, shelves, capfd, caplog):
    with Runtime(
        objects={"READERS": Reader}, kv=["KV", "OTHER"], hosts=3, data_dir=tmp_path / "data"
    ) as rt:
        (shelf,) = shelves()
        (shelf / f"kv-{FORMAT}").write_bytes(os.urandom(100_000))
        readers = [rt.env.READERS.getByName(name) for name in "abcdefgh"]
        for number in range(10):
            rt.env.KV.put("k", f"{number}")
            rt.env.OTHER.put("k", f"{number}")
            assert {reader.read("k") for reader in readers} == {f"{number}"}
            readers[number % 8].write("k", f"object {number}")
            assert rt.env.KV.get("k") == f"object {number}"
        assert rt.env.KV._store.statistics().hits == 0
    said = capfd.readouterr().err + "\n".join(record.getMessage() for record in caplog.records)
    assert said.count("KV goes on without its shared cache, from disk: ") == 1


WITHOUT_SHARED_MEMORY = """
import sys
from pathlib import Path
import runtime.directories
runtime.directories.SHARED_MEMORY = Path("/nowhere")
from runtime.cli import main
sys.argv[0] = "roost"
main()
"""
WRANGLER = 'name = "w"\nmain = "worker.py"\nkv_namespaces = [{ binding = "KV" }]\n'
WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        await self.env.KV.put("k", request.query["v"])
        return Response(await self.env.KV.get("k"))
"""


def test_without_shared_memory_kv_works_and_it_is_said_once(tmp_path, shelves):
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    (tmp_path / "worker.py").write_text(WORKER)
    arguments = ["serve", "--port", "0", "--hosts", "2", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_SHARED_MEMORY, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        said = []
        while not (ready := re.search(r"is ready on (http://\S+)", "".join(said))):
            line = server.stdout.readline()
            assert line, said
            said.append(line)
        for number in range(20):
            with urllib.request.urlopen(f"{ready[1]}/?v={number}", timeout=30) as answer:
                assert answer.read() == b"%d" % number
        assert shelves() == []
        server.terminate()
        said.append(server.communicate(timeout=60)[0])
    assert "".join(said).count("there is no usable ") == 1
    assert "goes on without" not in "".join(said)


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
