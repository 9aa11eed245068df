"""The script changes under load: state stays, calls under way end, none fails, and errors harm nobody."""

import http.client
import json
import os
import signal
import threading

import pytest

from runtime import AsyncRuntime, Runtime, connect
from workers.errors import ScriptError

from .conftest import WRANGLER

SCRIPT = """
import asyncio
from pathlib import Path
from workers import DurableObject, Response, WorkerEntrypoint
VERSION = {version}

class Room(DurableObject):
    async def count(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return VERSION, count

    def version(self):
        return VERSION

    async def listen(self, fifo):
        self.listening = True
        return VERSION, await asyncio.to_thread(Path(fifo).read_text)

    async def is_listening(self):
        return getattr(self, "listening", False)

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/version"):
            return Response.json(VERSION)
        return Response.json([VERSION, await self.env.ROOMS.getByName("web").count()])
"""


@pytest.fixture
def worker(tmp_path):
    """A worker whose script is changed by calling it with a version, or with a whole script."""
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    (tmp_path / "src").mkdir()

    def change(to):
        script = SCRIPT.format(version=to) if isinstance(to, int) else to
        (tmp_path / "new").write_text(script)
        (tmp_path / "new").rename(tmp_path / "src/worker.py")

    change(1)
    change.folder = tmp_path
    return change


def test_a_reload_keeps_state_and_what_is_under_way_and_fails_no_call(house, worker, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with Runtime(worker.folder, hosts=2) as rt:
        rooms = [rt.env.ROOMS.getByName(f"r{n}") for n in range(8)]
        under_way = rooms[0].listen.submit(str(tmp_path / "fifo"))
        while not rooms[0].is_listening():
            pass
        [owner] = [host.host for host in rt.status() if host.waiting]
        seen = [[] for _ in rooms]
        stop = threading.Event()

        def load(room, said):
            while not stop.is_set():
                said.append(room.count())

        threads = [threading.Thread(target=load, args=it) for it in zip(rooms, seen, strict=True)]
        for thread in threads:
            thread.start()
        reloads = 3
        for version in range(2, 2 + reloads):
            worker(version)
            reload = threading.Thread(target=rt.reload)
            reload.start()
            if version == 2:  # its host leaves when the call has ended, and not before
                while rt.status()[owner].state != "leaving":
                    pass
                # Stateless calls go to the other host, which may be old or new.
                for _ in range(20):
                    assert rt.fetch("http://host/version").status == 200
                assert not under_way.done()
                (tmp_path / "fifo").write_text("ended")
            reload.join()
            assert rooms[0].version() == rooms[-1].version() == version
        stop.set()
        for thread in threads:
            thread.join()
        assert under_way.result() == (1, "ended")
        for said in seen:
            assert [count for _, count in said] == list(range(1, len(said) + 1))
            versions = [version for version, _ in said]
            assert versions == sorted(versions)
        assert [host.generation for host in rt.status()] == [1 + reloads] * 2
    assert not house.leftovers()


def test_clients_that_come_during_a_reload_are_served(house, worker):
    with Runtime(worker.folder, hosts=2) as rt:
        data = worker.folder / ".roost"
        done = threading.Event()

        def reload():
            for _ in range(5):
                rt.reload()
            done.set()

        reloading = threading.Thread(target=reload)
        reloading.start()
        while not done.is_set():
            with connect(data) as client:
                calls = [client.env.ROOMS.getByName(f"r{n}").version.submit() for n in range(8)]
                assert [call.result(30) for call in calls] == [1] * 8
                assert client.env.ROOMS.getByName("r1").version() == 1
        reloading.join()
    assert not house.leftovers()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise LookupError('at import')", r"LookupError: at import"),
        ("import os; os._exit(9)", "exited with code 9"),
        ("class Room: pass", r"wants a class Room\(DurableObject\)"),
    ],
)
def test_a_script_with_an_error_replaces_nothing(house, worker, script, why):
    with Runtime(worker.folder, hosts=2) as rt:
        pids = [host.pid for host in rt.status()]
        worker(script)
        with pytest.raises(ScriptError, match=why):
            rt.reload()
        assert rt.env.ROOMS.getByName("a").version() == 1
        assert [host.pid for host in rt.status()] == pids
        worker(2)
        rt.reload()
        assert rt.env.ROOMS.getByName("a").version() == 2


def test_a_trial_that_hangs_gives_way_to_the_next(house, worker, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with Runtime(worker.folder, hosts=1) as rt:
        worker(
            f"open({str(tmp_path / 'fifo')!r}, 'w').close()\n"
            "import threading; threading.Event().wait()"
        )
        first = threading.Thread(target=rt.reload)
        first.start()
        (tmp_path / "fifo").read_text()  # it hangs now
        worker(2)
        rt.reload()
        first.join(30)
        assert not first.is_alive()
        assert rt.env.ROOMS.getByName("a").version() == 2


async def test_an_async_runtime_reloads_too(house, worker):
    async with AsyncRuntime(worker.folder, hosts=2) as rt:
        worker(2)
        await rt.reload()
        assert await rt.env.ROOMS.getByName("a").version() == 2
        worker("nonsense of a script")
        with pytest.raises(ScriptError, match="SyntaxError"):
            await rt.reload()


def test_dev_reloads_when_the_script_changes_and_keeps_its_connections(serve, house, worker):
    served = serve(SCRIPT.format(version=1), verb="dev", folder=worker.folder)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)

    def ask():
        connection.request("GET", "/")
        return json.loads(connection.getresponse().read())

    assert ask() == [1, [1, 1]]
    local = connection.sock.getsockname()
    worker(2)
    served.err.wait("reloaded the script in")
    assert ask() == [2, [2, 2]]
    worker("raise LookupError('on trial')")
    served.err.wait("the changed script is not used")
    served.err.wait("LookupError: on trial")
    assert ask() == [2, [2, 3]]
    (worker.folder / "src/helper.py").write_text("NAME = 'helper'")
    worker("import helper\nassert helper.NAME\n" + SCRIPT.format(version=3))
    served.err.wait("reloaded the script in", after=served.err.all.index(served.err.all[-1]))
    assert ask() == [3, [3, 4]]
    assert connection.sock.getsockname() == local  # the gateway kept it all the while
    served.signal(signal.SIGTERM)
    assert served.ended() == 0
    assert served.err.text.count("Traceback") == 1
    assert not house.leftovers()
