"""Whatever ends, and however: no process, no socket, no file in /dev/shm is left behind."""

import contextlib
import signal
import subprocess
import sys

import pytest

from runtime import connect

from .conftest import PROGRAMS, ROOST, WRANGLER, kill, wait_for_end

SCRIPT = (PROGRAMS / "worker.py").read_text()


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("the end of the block", 0, ""),
        ("forgotten", 0, ""),
        ("dropped", 0, ""),
        ("in a thread", 0, ""),
        ("an exception", 1, "LookupError: in the with-block"),
        ("sys.exit", 3, ""),
        ("os._exit", 4, ""),
        ("a kill", -signal.SIGKILL, ""),
    ],
)
def test_an_embedding_program_leaves_nothing_behind(run, house, tmp_path, way, code, said):
    program = run(PROGRAMS / "leave.py", tmp_path / "data", way)
    hosts = [int(pid) for pid in program.out.wait("kept (.*)")[1].split()]
    if way == "a kill":
        program.signal(signal.SIGKILL)
    assert program.ended() == code
    if code in {0, 1, 3}:  # it ended in order, so all was over before
        assert not wait_for_end(hosts, seconds=0)
    assert not house.leftovers()
    if said:
        assert program.err.whole().endswith(said)
    else:
        assert program.err.whole() == ""


def test_a_killed_supervisor_of_an_embedding_program_leaves_nothing_behind(run, house, tmp_path):
    program = run(PROGRAMS / "leave.py", tmp_path / "data", "a kill")
    program.out.wait("kept")
    with connect(tmp_path / "data") as rt:
        kill(rt._connection.roster.supervisor)
    assert not wait_for_end(list(set(house.processes()) - {program.pid}))
    program.tell()
    assert program.ended() == 0
    assert program.err.whole() == ""
    assert not house.leftovers()


def test_a_killed_host_leaves_nothing_behind(run, house, tmp_path):
    program = run(PROGRAMS / "leave.py", tmp_path / "data", "a kill")
    for pid in program.out.wait("kept (.*)")[1].split():
        kill(int(pid))
    with connect(tmp_path / "data") as rt:
        rt.env.KEEPERS.getByName("a").keep.submit("again").exception(30)
        run_directory = rt._connection.run
        while any(host.state != "up" for host in rt.status()):
            pass
        names = {path.name for path in run_directory.iterdir()}
        assert names == {"control", "roster", "worker", "h0.2", "h1.2"}
    program.tell()
    assert program.ended() == 0
    assert not house.leftovers()


@pytest.mark.parametrize("verb", ["serve", "dev"])
def test_ctrl_c_in_a_terminal_ends_the_command(type_in, house, tmp_path, verb):
    (tmp_path / "worker.py").write_text(SCRIPT)
    (tmp_path / "wrangler.toml").write_text(WRANGLER.replace("src/", ""))
    served = type_in(ROOST, verb, tmp_path, "--port", "0", "--hosts", "2")
    served.out.wait("is ready on")
    with connect(tmp_path / ".roost") as rt:
        rt.env.ROOMS.getByName("a").record(1)
    served.press_ctrl_c()
    assert served.ended() == 0
    said = served.out.whole()
    assert "SIGINT: finishing what is under way" in said
    assert "Traceback" not in said
    assert "exited" not in said
    assert not house.leftovers()


@pytest.mark.parametrize("path", ["lane", "loop"])
def test_ctrl_c_in_a_blocking_call_leaves_the_runtime_usable(type_in, house, tmp_path, path):
    program = type_in(sys.executable, PROGRAMS / "patient.py", tmp_path / "data", path)
    program.out.wait("sleeping a")
    program.press_ctrl_c()
    program.out.wait("interrupted")
    program.out.wait("sum 3")
    program.out.wait("idle")
    program.out.wait("spinning")
    presses = 0
    while program.process.poll() is None:  # once to leave the block, and again not to wait there
        program.press_ctrl_c()
        presses += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(0.1)
    assert program.ended() == -signal.SIGINT
    assert 2 <= presses < 20
    assert "KeyboardInterrupt" in program.out.whole()
    assert not house.leftovers()


def test_the_instance_of_a_killed_program_ends_though_a_fork_of_it_lives(run, house, tmp_path):
    program = run(PROGRAMS / "forking.py", tmp_path / "data", "outlived")
    fork = int(program.out.wait(r"fork (\d+)")[1])
    kill(program.pid)
    assert not wait_for_end(list(set(house.processes()) - {fork}))
    program.tell()  # the fork has its input
    assert not house.leftovers()
