"""An instance ends in order when it is asked to, at once when it must, and says why when it fails."""

import contextlib
import http.client
import os
import signal
import socket
from urllib.parse import quote

import pytest

from runtime import Runtime, connect
from workers import DurableObject
from workers.errors import HostLost, RuntimeClosed, ScriptError

from .conftest import PROGRAMS, ROOST, WRANGLER

SCRIPT = (PROGRAMS / "worker.py").read_text()


class Client:
    """An HTTP request under way in a thread."""

    def __init__(self, port, path):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.request("GET", path)

    def answer(self):
        response = self.connection.getresponse()
        return response.status, response.read()


def until(error, function, *args):
    """Call again and again until it is refused."""
    while True:
        try:
            function(*args)
        except error as refusal:
            return refusal


def knock(port):
    with contextlib.suppress(ConnectionResetError):  # was in line when the door was closed
        socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.fixture
def make_fifo(tmp_path):
    """Make a named pipe: writing waits for the reader, reading for the writer."""

    def make():
        path = tmp_path / os.urandom(4).hex()
        os.mkfifo(path)
        return path

    return make


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_is_under_way_ends_and_what_is_new_is_refused(serve, house, make_fifo, number):
    served, web, rpc = serve(SCRIPT), make_fifo(), make_fifo()
    with connect(served.data) as rt:
        request = Client(served.port, f"/?room=web&do=listen&with={quote(str(web))}")
        call = rt.env.ROOMS.getByName("rpc").listen.submit(str(rpc))
        rt.env.ROOMS.getByName("web").held()
        rt.env.ROOMS.getByName("rpc").held()
        served.signal(number)
        served.err.wait("finishing what is under way")
        assert "stopping" in str(until(RuntimeClosed, rt.env.ROOMS.getByName("new").pid))
        assert until(ConnectionRefusedError, knock, served.port)
        assert served.process.poll() is None
        assert not call.done()
        web.write_text("fetched")
        rpc.write_text("called")
        assert request.answer() == (200, b'"fetched"')
        assert call.result(30) == "called"
    assert served.ended() == 0
    assert served.err.whole().count("\n") == 0  # not a word more than that it stops
    assert not house.leftovers()


def test_a_second_signal_stops_at_once(serve, house):
    served = serve(SCRIPT)
    with connect(served.data) as rt:
        request = Client(served.port, "/?room=web&do=hold")
        call = rt.env.ROOMS.getByName("rpc").hold.submit()
        rt.env.ROOMS.getByName("web").held()
        rt.env.ROOMS.getByName("rpc").held()
        served.signal(signal.SIGINT)
        served.err.wait("finishing what is under way")
        served.signal(signal.SIGINT)
        assert served.ended() == 0
        with pytest.raises(RuntimeClosed, match="hold"):
            call.result(30)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            request.answer()
    assert "stopping at once" in served.err.text
    assert not house.leftovers()


@pytest.mark.parametrize("method", ["spin", "listen"])
def test_it_ends_when_the_grace_period_is_over(serve, house, make_fifo, method):
    served, fifo = serve(SCRIPT, wrangler=WRANGLER + "[roost]\ngrace_s = 0.2"), make_fifo()
    with connect(served.data) as rt:
        room = rt.env.ROOMS.getByName("a")
        call = getattr(room, method).submit(str(fifo))
        if method == "spin":
            assert fifo.read_text() == "spinning"
        else:
            room.held()
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        with pytest.raises(RuntimeClosed, match=method):
            call.result(30)
    assert "not everything under way has ended in time" in served.err.text
    assert not house.leftovers()


CRASHING = """
import os
from pathlib import Path
if Path(__file__).with_name("crash").exists():
    os._exit(7)
"""


def test_a_crash_loop_ends_in_an_error_that_says_why(serve, run, tmp_path, house):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/worker.py").write_text(SCRIPT + CRASHING)
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    served = run(PROGRAMS / "impatient.py", "serve", tmp_path, "--port", "0", "--hosts", "2")
    served.out.wait("is ready on")
    with connect(tmp_path / ".roost") as rt:
        call = rt.env.ROOMS.getByName("a").hold.submit()
        rt.env.ROOMS.getByName("a").held()
        (tmp_path / "src/crash").touch()
        for host in rt.status():
            os.kill(host.pid, signal.SIGKILL)
        assert served.ended() == 1
        with pytest.raises(Exception, match=r"host \d died"):
            call.result(30)
        with pytest.raises(RuntimeClosed, match=r"has failed: host \d died 8 times in a row"):
            rt.env.ROOMS.getByName("a").pid()
    assert (
        "died 8 times in a row within 1 s of its start; the last one exited with code 7"
        in (served.err.all[-1])
    )
    assert "Traceback" not in served.err.text
    assert not house.leftovers()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(5)", "host . exited with code 5 while it started"),
        ("import ctypes; ctypes.string_at(0)", "host . was killed by SIGSEGV while it started"),
        ("Room = 3", r"binding ROOMS wants a class Room\(DurableObject\)"),
    ],
)
def test_a_script_that_cannot_be_loaded_stops_the_start_with_its_traceback(
    house, run, tmp_path, script, why
):
    (tmp_path / "worker.py").write_text(script)
    (tmp_path / "wrangler.toml").write_text(WRANGLER.replace("src/", ""))
    served = run(ROOST, "serve", tmp_path, "--port", "0", "--hosts", "2")
    assert served.ended() == 1
    served.err.wait(why)
    assert served.err.text.count("roost:") == 1
    assert served.out.whole() == ""
    with pytest.raises(ScriptError, match=f"(?s){why}"):
        Runtime(tmp_path, hosts=2)
    assert not house.leftovers()


def test_ctrl_c_while_the_script_hangs_in_its_import_stops_at_once(house, run, tmp_path):
    (tmp_path / "worker.py").write_text(
        "import threading\nprint('importing', flush=True)\nthreading.Event().wait()"
    )
    (tmp_path / "wrangler.toml").write_text(WRANGLER.replace("src/", ""))
    served = run(ROOST, "serve", tmp_path, "--port", "0", "--hosts", "2")
    served.out.wait("importing")
    served.signal(signal.SIGINT)
    assert served.ended() == 0
    assert not house.leftovers()


class Spinner(DurableObject):
    def spin(self):
        while True:
            pass

    def pid(self):
        return os.getpid()


def test_an_event_over_its_cpu_limit_ends_its_host_and_says_so(house, tmp_path):
    with Runtime(objects={"S": Spinner}, data_dir=tmp_path / "d", hosts=2, cpu_ms=300) as rt:
        stubs = [rt.env.S.getByName(f"s{n}") for n in range(8)]
        pids = [stub.pid() for stub in stubs]
        other = next(stub for stub, pid in zip(stubs, pids, strict=True) if pid != pids[0])
        neighbour = [s for s, pid in zip(stubs, pids, strict=True) if pid == pids[0]][-1]
        waiting = stubs[0].spin.submit(), neighbour.spin.submit()
        for stub, call in zip((stubs[0], neighbour), waiting, strict=True):
            with pytest.raises(HostLost, match=f"CPU limit.*spin.*{stub.id}") as raised:
                call.result(30)
            assert raised.value.retryable
        assert other.pid() in pids  # the other host did not notice
        assert stubs[0].pid() not in pids
    assert not house.leftovers()
