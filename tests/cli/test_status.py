"""`roost status` shows how the hosts of a running instance fare."""

import json
import os
import pty
import signal
import subprocess

import pytest

from runtime.ids import slot_of

SPIN = """

def _spin():
    sum(range(500_000))
"""


@pytest.fixture
def instance(project, start):
    running = start("serve", cwd=project).ready()
    assert running.get("/?name=ada")[0] == 200
    return running


def test_hosts_are_shown_as_a_plain_table(instance, project, roost):
    lines = roost("status", cwd=project).worked().splitlines()
    pid = instance.process.pid
    assert lines[0] == f"project: 2 hosts, 16 slots, supervisor {pid}, data in .roost"
    assert lines[1].split() == [
        "host", "pid", "generation", "state", "slots", "calls", "calls/s", "objects", "waiting",
        "busy", "event",
    ]  # fmt: skip
    first, second = (line.split() for line in lines[2:4])
    assert first[0] == "0"
    assert second[0] == "1"
    for line in (first, second):
        os.kill(int(line[1]), 0)
        assert line[2:5] == ["1", "up", "8"]
        assert line[6] == "-"
    assert int(first[5]) + int(second[5]) >= 2  # the entrypoint's call, and the object's


def test_programs_get_json(instance, project, roost):
    told = json.loads(roost("status", "--json", cwd=project).worked())
    assert told["worker"] == "project"
    assert told["supervisor"] == instance.process.pid
    assert told["data"] == str(project / ".roost")
    assert told["slots"] == 16
    assert [host["host"] for host in told["hosts"]] == [0, 1]
    assert sum(host["objects"] for host in told["hosts"]) == 1
    assert set(told["hosts"][0]) == {
        "host", "pid", "generation", "state", "slots", "calls", "objects", "waiting", "busy_s",
        "event_s", "owned", "busiest",
    }  # fmt: skip
    assert [host["owned"] for host in told["hosts"]] == [[*range(0, 16, 2)], [*range(1, 16, 2)]]


def test_the_busiest_objects_are_shown(project, start, roost):
    script = project / "src/worker.py"
    source = script.read_text().replace("        visits = ", "        _spin()\n        visits = ")
    script.write_text(source + SPIN)
    running = start("serve", cwd=project).ready()
    told = []
    while not any(host["busiest"] for host in told):
        for _ in range(10):
            assert running.get("/?name=ada")[0] == 200
        told = json.loads(roost("status", "--json", cwd=project).worked())["hosts"]
    [busy] = [each for host in told for each in host["busiest"]]
    assert busy["name"] == "ada"
    assert 0 < busy["busy"] < 1.5
    shown = roost("status", cwd=project).worked()
    assert f"{busy['class_name']}  ada" in shown
    slots = json.loads(roost("slots", "list", "--json", cwd=project).worked())
    raw = bytes.fromhex(busy["id"])
    assert max(slots, key=lambda slot: slot["busy_s"])["slot"] == slot_of(raw, 16)


def test_a_slot_is_moved_by_hand(instance, project, roost):
    said = roost("slots", "move", "3", "0", cwd=project).worked()
    assert said == "slot 3 is at host 0\n"
    rows = [line.split() for line in roost("slots", "list", cwd=project).worked().splitlines()]
    assert rows[0] == ["slot", "host", "busy"]
    assert rows[4][:2] == ["3", "0"]
    wrong = roost("slots", "move", "3", "2", cwd=project).failed()
    assert "there is no host 2: they are 0 to 1" in wrong


def watch(run, project, *arguments):
    return subprocess.Popen(
        [run.programs["roost"], "status", "--watch", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_watching_shows_what_is_done_in_each_second(instance, project, run):
    watching = watch(run, project, "--json")
    first = json.loads(watching.stdout.readline())
    assert "calls_per_s" not in first["hosts"][0]
    for _ in range(10):
        instance.get("/")
    second = json.loads(watching.stdout.readline())
    rates = [host["calls_per_s"] for host in second["hosts"]]
    assert sum(rates) > 0
    assert all(0 <= host["busy"] < 2 for host in second["hosts"])
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=60)[1].strip() == ""
    assert watching.returncode == 0


def test_watching_ends_with_the_instance(instance, project, run):
    watching = watch(run, project)
    assert watching.stdout.readline().split()[0] == "host"
    assert instance.end() == 0
    assert watching.communicate(timeout=60)[1] == "roost: the instance on .roost has ended\n"
    assert watching.returncode == 1


def on_terminal(run, project, *arguments):
    """Start a command on a terminal of its own; returns it and the terminal."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [run.programs["roost"], *arguments], cwd=project, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    return command, ours


def read(terminal, until=None):
    """Read what a terminal shows, up to some text or its end."""
    shown = b""
    while until is None or until.encode() not in shown:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # nobody has the other end any more
            break
    return shown.decode()


def test_on_a_terminal_it_is_a_table_with_lines_and_nothing_is_cut(instance, project, run):
    command, terminal = on_terminal(run, project, "status")
    shown = read(terminal)
    os.close(terminal)
    assert command.wait(60) == 0
    assert "───" in shown
    pids = [host["pid"] for host in json.loads(run("roost status --json", project).stdout)["hosts"]]
    for cell in ("generation", "calls/s", "waiting", *map(str, pids)):
        assert cell in shown


def test_watching_leaves_the_terminal_as_it_was(instance, project, run):
    command, terminal = on_terminal(run, project, "status", "--watch")
    read(terminal, until="event")
    read(terminal, until="%")  # the second look knows how busy they are
    command.send_signal(signal.SIGINT)
    assert read(terminal).endswith("\x1b[?1049l")
    os.close(terminal)
    assert command.wait(60) == 0


def test_without_an_instance_that_is_said(roost, project, tmp_path):
    line = "roost: no Roost runs on {0}: start one with `roost serve --data-dir {0}`"
    assert roost("status", cwd=project).failed() == line.format(".roost")
    assert roost("status", "--watch", "--json", cwd=project).failed() == line.format(".roost")
    assert roost("status", "--data-dir", "/nowhere").failed() == line.format("/nowhere")
    assert roost("status", "--config", str(project)).failed() == line.format(project / ".roost")
    assert not (project / ".roost").exists()


def test_after_a_kill_no_instance_runs(instance, project, roost):
    instance.end(signal.SIGKILL)
    assert "no Roost runs on .roost" in roost("status", cwd=project).failed()
