"""A Runtime inside programs of all kinds: whatever their classes, threads, loops and forks."""

import asyncio
import concurrent.futures
import gc
import json
import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import nbclient
import nbformat
import pytest
import uvloop

from runtime import AsyncRuntime, Runtime, aconnect, connect, control
from runtime.client import connection
from workers import DurableObject
from workers.errors import RuntimeClosed

from .conftest import PROGRAMS, WRANGLER


@dataclass
class Note:
    """Something of this test module, which a host need not be able to import."""

    text: str


class MistakeError(Exception):
    pass


class Desk(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.lines = []
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()

    def write(self, *line):
        self.lines.append(line)
        return len(self.lines)

    def read(self):
        return self.lines

    def echo(self, value):
        return value

    def answer(self, note):
        return Note(note.text + "!")

    def err(self, text):
        raise MistakeError(text)

    async def wait(self):
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def is_called(self):
        await self.called.wait()

    async def was_cancelled(self):
        await self.cancelled.wait()
        return True

    async def remember(self, value):
        await self.ctx.storage.put("value", value)
        await self.env.KV.put("value", value)


BINDINGS = {"objects": {"DESKS": Desk}, "kv": ["KV"], "hosts": 2}


@pytest.fixture(scope="module")
def rt(house, tmp_path_factory):
    with Runtime(**BINDINGS, data_dir=tmp_path_factory.mktemp("shared") / "data") as rt:
        yield rt


@pytest.fixture
def nothing_left(house):
    """Call it at the end of a test: what the test started is gone."""
    before = house.inventory()
    return lambda: not house.leftovers(before)


@pytest.fixture
def desk(rt, request):
    return rt.env.DESKS.getByName(request.node.name)


# --- classes ---------------------------------------------------------------------------------------


def test_classes_of_main_of_modules_and_of_functions_work(run, house, tmp_path):
    program = run(PROGRAMS / "classes.py", tmp_path / "data")
    said = json.loads(program.out.whole() or "{}")
    assert program.err.whole() == ""
    assert said == {
        "an instance": True,
        "an exception": ["no RED left", True, True],
        "its traceback": True,
        "its object": True,
        "a module": True,
        "a function": 42,
        "an entrypoint": [14, "http://house/path"],
    }


def test_classes_of_a_test_module_work_as_objects_arguments_results_and_errors(desk):
    answer = desk.answer(Note("hello"))
    assert type(answer) is Note
    assert answer == Note("hello!")
    with pytest.raises(MistakeError, match="oh no") as raised:
        desk.err("oh no")
    assert "in err" in raised.value.remote_traceback


def test_classes_of_a_test_function_work(house, tmp_path):
    factor = 6

    @dataclass
    class Local:
        value: int

    class Multiplier(DurableObject):
        def times(self, local):
            return Local(local.value * factor)

    with Runtime(objects={"M": Multiplier}, data_dir=tmp_path / "data", hosts=1) as rt:
        assert rt.env.M.getByName("a").times(Local(7)) == Local(42)


def test_a_workers_folder_works(house, tmp_path):
    (tmp_path / "worker.py").write_text((PROGRAMS / "worker.py").read_text())
    (tmp_path / "wrangler.toml").write_text(WRANGLER.replace("src/", ""))
    with Runtime(tmp_path, hosts=2) as rt:
        assert rt.env.ROOMS.getByName("a").record(3) == 3
        assert rt.env.KV.get("a-000003") == "3"
        assert asyncio.run(rt.fetch("http://house/?room=a&do=recorded").json()) == [3]


NOTEBOOK = [
    """
import asyncio
from workers import DurableObject
from runtime import AsyncRuntime, Runtime

class Counter(DurableObject):
    async def add(self, n):
        total = (await self.ctx.storage.get("total") or 0) + n
        await self.ctx.storage.put("total", total)
        return total

rt = Runtime(objects={"COUNTERS": Counter}, data_dir=DATA, hosts=2)
rt.env.COUNTERS.getByName("a").add(1)
""",
    """
class Counter(Counter):  # written anew, on top of what is there
    async def add(self, n):
        return {"total": await super().add(n)}

rt.close()
rt = Runtime(objects={"COUNTERS": Counter}, data_dir=DATA, hosts=2)
rt.env.COUNTERS.getByName("a").add(1)
""",
    """
rt.close()
async with AsyncRuntime(objects={"COUNTERS": Counter}, data_dir=DATA, hosts=2) as art:
    said = await asyncio.gather(*(art.env.COUNTERS.getByName("a").add(1) for _ in range(5)))
said[-1]
""",
]


def test_a_jupyter_notebook_defines_its_objects_in_cells(nothing_left, tmp_path):
    notebook = nbformat.v4.new_notebook()
    data = f"DATA = {str(tmp_path / 'data')!r}\n"
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in (data, *NOTEBOOK)]
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    results = [
        output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert results == ["1", "{'total': 2}", "{'total': 7}"]
    assert nothing_left()


# --- threads and futures ---------------------------------------------------------------------------


def test_16_threads_call_at_once_and_each_keeps_the_order_of_its_stub(rt, desk):
    def work(number):
        stub = rt.env.DESKS.get(desk.id)  # a stub of its own, for the same object
        calls = []
        for n in range(0, 100, 4):
            stub.write(number, n)
            calls += [stub.write.submit(number, n + 1), stub.write.submit(number, n + 2)]
            stub.write(number, n + 3)
        for call in calls:
            call.result(30)

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    lines = desk.read()
    for number in range(16):
        assert [n for who, n in lines if who == number] == list(range(100))


def test_a_submitted_call_is_a_concurrent_future(rt, desk):
    heard = []
    calls = [desk.echo.submit(n) for n in range(100)]
    calls[0].add_done_callback(heard.append)
    done, waiting = concurrent.futures.wait(calls, timeout=30)
    assert not waiting
    assert done == set(calls)
    assert [call.result() for call in concurrent.futures.as_completed(calls)]
    assert heard == [calls[0]]
    failed = desk.err.submit("no")
    assert isinstance(failed.exception(30), MistakeError)
    with pytest.raises(MistakeError):
        failed.result()
    slow = desk.wait.submit()
    desk.is_called()
    with pytest.raises(TimeoutError):
        slow.result(0.01)
    assert not slow.done()
    assert slow.cancel()
    assert slow.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        slow.result()
    assert desk.was_cancelled()  # the code of the object, too
    assert not slow.cancel() or slow.cancelled()


def test_cancelling_in_a_crowd_loses_nobodys_answer(desk):
    for _ in range(20):
        calls = [desk.echo.submit(n) for n in range(200)]
        cancelled = {n for n in range(0, 200, 3) if calls[n].cancel()}
        for n, call in enumerate(calls):
            if n not in cancelled:
                assert call.result(30) == n


def test_a_callback_may_submit_and_is_told_that_it_cannot_wait(desk):
    told = concurrent.futures.Future()

    def again(call):
        try:
            desk.echo("waits for itself")
        except RuntimeError as error:
            desk.echo.submit(f"{call.result()}, {error}").add_done_callback(
                lambda call: told.set_result(call.result())
            )

    desk.echo.submit("first").add_done_callback(again)
    assert told.result(30).startswith("first, a callback of a submitted call cannot wait")


def test_a_callback_is_told_that_it_cannot_close_the_runtime(house, tmp_path):
    told = concurrent.futures.Future()
    with Runtime(**BINDINGS, data_dir=tmp_path / "data") as rt:

        def close(_):
            try:
                rt.close()
            except RuntimeError as error:
                told.set_result(str(error))

        desk = rt.env.DESKS.getByName("a")
        desk.echo.submit(1).add_done_callback(close)
        assert "cannot close the runtime" in told.result(30)
        assert desk.echo(2) == 2


# --- asyncio ---------------------------------------------------------------------------------------


async def work_with(rt):
    """What an asyncio program does."""
    desk = rt.env.DESKS.getByName("async")
    assert await asyncio.gather(*(desk.echo(n) for n in range(1000))) == list(range(1000))
    others = [rt.env.DESKS.getByName(f"async{n}") for n in range(50)]
    assert len(await asyncio.gather(*(other.write("x") for other in others))) == 50
    with pytest.raises(MistakeError):
        await desk.err("no")
    waiting = asyncio.ensure_future(desk.wait())
    await desk.is_called()
    waiting.cancel()
    assert await desk.was_cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await rt.env.DESKS.getByName("other").wait()
    done, waiting = await asyncio.wait([other.remember("kept") for other in others])
    assert (len(done), len(waiting)) == (50, 0)
    assert await rt.env.KV.get("value") == "kept"
    assert len(await rt.objects("Desk", limit=10)) == 10
    assert len(rt.status()) == 2


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_asyncio_program_embeds_an_instance_on_any_loop(nothing_left, tmp_path, loop):
    async def main():
        async with AsyncRuntime(**BINDINGS, data_dir=tmp_path / "data") as rt:
            await work_with(rt)
            async with await aconnect(tmp_path / "data") as other:
                await other.env.DESKS.getByName("b").remember("kept")
            last = rt.env.DESKS.getByName("c").remember("not awaited")
        assert await last is None  # it was under way, so the end waited for it
        await rt.close()
        with pytest.raises(RuntimeClosed):
            await rt.fetch("http://house/")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert nothing_left()


async def test_a_runtime_works_inside_the_thread_of_a_running_loop(house, tmp_path):
    with Runtime(**BINDINGS, data_dir=tmp_path / "data") as rt:
        desk = rt.env.DESKS.getByName("a")
        assert desk.write("blocking") == 1
        assert await asyncio.wrap_future(desk.write.submit("wrapped")) == 2
        assert await asyncio.to_thread(desk.write, "in a thread") == 3
        assert rt.env.KV.get("nothing") is None


# --- lives -----------------------------------------------------------------------------------------


def test_several_runtimes_live_in_one_process(rt, house, tmp_path):
    with (
        Runtime(**BINDINGS, data_dir=tmp_path / "one") as one,
        Runtime(**BINDINGS, data_dir=tmp_path / "two") as two,
        connect(tmp_path / "one") as third,
    ):
        runtimes = [rt, one, two]
        for number, runtime in enumerate(runtimes):
            runtime.env.DESKS.getByName("same").write(number)
        assert [r.env.DESKS.getByName("same").read() for r in runtimes] == [[(0,)], [(1,)], [(2,)]]
        assert third.env.DESKS.getByName("same").read() == [(1,)]
    assert rt.env.DESKS.getByName("same").read() == [(0,)]


def test_forks_of_a_program_break_nothing_and_are_told_how_to_call(run, nothing_left, tmp_path):
    # From Python 3.12 on, Python itself warns of a fork in a program with threads.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    program = run(PROGRAMS / "forking.py", tmp_path / "data", **quiet)
    assert program.ended() == 0
    said = program.out.whole().splitlines()
    assert said[0].startswith("inherited this process is a fork of the one")
    assert "connect()" in said[0]
    assert said[1:4] == ["kv value", "closed None", "pool [2, 3, 4, 5, 6, 7, 8, 9]"]
    assert (said[4], said[-1]) == ("after 10", "ended")
    # LMDB forbids a fork to open again what its parent has open; KV says so, and goes on.
    assert all("KV goes on without its shared cache" in line for line in program.err.all)
    assert nothing_left()


def test_a_connection_leaves_the_instance_running(rt, desk):
    data = rt._instance.data
    with connect(data) as first, connect(data) as second:
        assert first.env.DESKS.get(desk.id).write("first") == 1
        assert second.env.DESKS.get(desk.id).write("second") == 2
        first.close()
        with pytest.raises(RuntimeClosed):
            first.env.DESKS.get(desk.id).read()
        assert second.env.DESKS.get(desk.id).write("second") == 3
    assert desk.write("own") == 4


def test_after_its_end_a_runtime_says_so(nothing_left, tmp_path):
    rt = Runtime(**BINDINGS, data_dir=tmp_path / "data")
    desk = rt.env.DESKS.getByName("a")
    desk.write("x")
    last = [desk.echo.submit(n) for n in range(1000)]
    rt.close()
    assert [call.result(0) for call in last] == list(range(1000))  # close() waited for them
    rt.close()
    for use in (
        desk.read,
        desk.read.submit,
        rt.status,
        rt.objects,
        rt.reload,
        lambda: desk.fetch("http://house/"),
        lambda: rt.fetch("http://house/"),
    ):
        with pytest.raises(RuntimeClosed, match="the runtime is closed"):
            use()
    assert nothing_left()


def test_close_fails_what_other_threads_wait_for_after_the_grace_period(
    nothing_left, tmp_path, monkeypatch, caplog
):
    said = []

    def say(way, verb, text=""):
        said.append((verb, text))
        control.say(way, verb, text)

    monkeypatch.setattr(connection, "control", SimpleNamespace(say=say, hear=control.hear))
    rt = Runtime(**BINDINGS, data_dir=tmp_path / "data", grace_s=0.2)
    desks = [rt.env.DESKS.getByName(f"d{n}") for n in range(4)]

    def wait(desk):
        with pytest.raises(RuntimeClosed, match=f"wait.*{desk.id}"):
            desk.wait()
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(wait, desk) for desk in desks]
        for desk in desks:
            desk.is_called()
        rt.close()
        assert [call.result(30) for call in waiting] == [True] * 4
    assert ("finish", "0.0") in said  # the hosts get no second one
    del rt
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert nothing_left()


def test_threads_and_memory_of_a_closed_runtime_are_freed(house, tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        with Runtime(**BINDINGS, data_dir=tmp_path / "data") as rt:
            rt.env.DESKS.getByName("a").remember("x")
            rt.env.KV.put("a", "b")
    assert {thread.name for thread in threading.enumerate()} == before
    assert sys.getrefcount(rt) <= 3
