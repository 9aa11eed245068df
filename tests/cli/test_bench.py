"""`roost bench` measures the calls of a worker's own objects, and touches nothing that is stored."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest

pytest.importorskip("hdrh", reason="roost bench needs the extra `measure`")

SCRIPT = """
import asyncio
import time
from pathlib import Path
from workers import DurableObject

class Counter(DurableObject):
    value = 0

    def increment(self, by=1):
        self.value += by
        return self.value

    async def keep(self):
        await self.ctx.storage.put("n", 1)

    async def doze(self):
        await asyncio.sleep(0.005)

    def block(self):
        time.sleep(0.01)

    def flaky(self):
        self.value += 1
        if self.value % 2 == 0:
            raise ValueError("every second")

    def items(self):
        yield from range(3)

    def tell(self):
        Path("told").touch()

    async def never(self):
        Path("told").touch()
        await asyncio.get_running_loop().create_future()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "count.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def bench(roost, folder):
    """Run `roost bench` on few objects, without a warm-up, and return what it said."""

    def bench_(method, *more, objects="5", hosts="1", warmup="0"):
        sizes = ["--objects", objects, "--hosts", hosts, "--warmup", warmup]
        named = ["count.py", "--object", "Counter", "--method", method]
        return roost("bench", *named, *sizes, *more)

    return bench_


@pytest.fixture
def measured(bench):
    """The same as JSON, of calls that all returned."""

    def measured_(*arguments, **more):
        return json.loads(bench(*arguments, "--json", **more).worked())

    return measured_


def test_people_get_a_page_of_figures(bench, folder):
    done = bench("keep", "--calls", "300", hosts="2", warmup="0.1")
    page = done.worked()
    lines = page.splitlines()
    assert lines[0] == (
        "Counter.keep: 5 objects in turn, 64 calls under way, 2 hosts, durability strict"
    )
    assert " calls/s" in lines[2]
    assert lines[3].startswith("300 calls were answered in ")
    assert lines[5].split() == ["p50", "p90", "p99", "p99.9", "max", "mean"]
    first = [line.split()[0] for line in lines if line]
    for word in ("latency", "from", "host", "caller", "wire", "queue", "run", "commit"):
        assert word in first
    assert "µs of processor time in the caller" in page
    assert "\x1b" not in page
    assert done.err == ""
    assert [each.name for each in folder.iterdir() if each.suffix != ".py"] in ([], ["__pycache__"])


def test_programs_get_all_figures_as_json(measured):
    told = measured("increment", "--args", "[2]", "--calls", "2000", "--random")
    assert (told["object"], told["method"], told["order"]) == ("Counter", "increment", "random")
    assert (told["objects"], told["concurrency"], told["hosts"]) == (5, 64, 1)
    assert (told["durability"], told["rate"]) == ("strict", None)
    assert (told["calls"], told["failed"], told["unanswered"]) == (2000, {}, 0)
    assert told["calls_per_s"] == pytest.approx(2000 / told["seconds"], rel=0.01)
    times = [told["latency_us"][name] for name in ("p50", "p90", "p99", "p99.9", "max")]
    assert times == sorted(times)
    assert times[0] > 0
    assert told["histogram"].startswith("HIST")  # as tools of HdrHistogram read it
    assert told["cpu_us_per_call"]["caller"] > 0
    assert told["cpu_us_per_call"]["hosts"] > 0
    assert told["busy"]["caller"] > 0
    assert len(told["busy"]["hosts"]) == 1
    assert 0 < told["timed_calls"] < 2000
    assert list(told["where_us"]) == ["wire", "queue", "run", "commit"]


def test_the_time_of_a_call_is_told_by_its_causes(measured):
    kept = measured("keep", "--calls", "100", "--concurrency", "1")["where_us"]
    assert kept["commit"]["mean"] > kept["run"]["mean"]
    dozed = measured("doze", "--calls", "50", "--concurrency", "1")["where_us"]
    assert dozed["run"]["p50"] >= 5000
    blocked = measured("block", "--calls", "40", "--concurrency", "4")["where_us"]
    assert blocked["run"]["p50"] >= 10_000
    assert blocked["queue"]["p50"] >= 10_000  # one host, and four that want it
    assert blocked["wire"]["p50"] < blocked["queue"]["p50"]


def test_the_time_is_up_after_the_duration_and_parts_of_it_are_compared(measured):
    told = measured("increment", "--duration", "1.2", warmup="0.1")
    assert told["seconds"] > 1
    assert len(told["parts_per_s"]) == 10
    assert min(told["parts_per_s"]) <= told["calls_per_s"] <= max(told["parts_per_s"])


def test_calls_that_take_longer_than_the_time_count_for_their_part_of_it(measured):
    told = measured("block", "--duration", "0.005", "--concurrency", "1")
    assert told["calls"] == 1
    assert 0 < told["calls_per_s"] * told["seconds"] < 1


def test_at_a_rate_calls_are_due_whatever_becomes_of_those_before(measured):
    arguments = ["block", "--calls", "30", "--concurrency", "1", "--rate", "1000"]
    told = measured(*arguments)
    assert told["rate"] == 1000
    # The last was due after 30 ms, when two or three of them were done.
    assert told["latency_us"]["max"] > 200_000
    assert told["where_us"]["late"]["mean"] > told["where_us"]["run"]["mean"]


def test_a_rate_may_be_next_to_nothing(measured):
    assert measured("increment", "--rate", "1e-300", "--duration", "0.1")["calls"] == 1


def test_a_generator_takes_until_its_last_item(measured):
    assert measured("items", "--calls", "100")["calls"] == 100


def test_calls_that_fail_are_counted_and_one_is_shown_whole(bench):
    done = bench("flaky", "--calls", "100", "--json")
    told = json.loads(done.out)
    assert done.code == 1
    assert told["failed"] == {"ValueError": 50}
    assert told["calls"] == 50
    assert "the first call that failed:\nTraceback" in done.err
    assert done.err.endswith("ValueError: every second\n")
    assert "50 calls failed: ValueError 50" in bench("flaky", "--calls", "100").out


def test_calls_that_all_fail_have_figures_too(bench):
    done = bench("nothing", "--calls", "100", "--json")
    told = json.loads(done.out)
    assert (told["calls"], told["failed"], told["where_us"]) == (0, {"TypeError": 100}, {})
    assert (told["calls_per_s"], told["latency_us"]["p50"]) == (0, 0)
    assert bench("nothing", "--calls", "100").out.splitlines()[-1] == (
        "100 calls failed: TypeError 100"
    )


def test_if_every_call_fails_that_is_said_before_anything_is_measured(bench):
    done = bench("nothing", warmup="1")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("roost: every call failed\n")
    assert 'does not implement the method "nothing"' in done.err


def test_what_cannot_be_measured_is_refused_at_the_door(bench, roost):
    assert "--args" in bench("increment", "--args", "nonsense").failed()
    assert "such as [5]" in bench("increment", "--args", "5").failed()
    assert "fetch()" in bench("fetch").failed()
    for option in ("--duration", "--rate", "--warmup"):
        assert f"'{option}': nan is not a number" in bench("increment", option, "nan").failed()
    wrong = roost("bench", "count.py", "--object", "not a class", "--method", "m").failed()
    assert "'not a class'" in wrong


def test_arguments_with_names_are_an_object(measured):
    assert measured("increment", "--args", '{"by": 3}', "--calls", "10")["calls"] == 10


def on_its_way(run, folder, *arguments, **streams):
    """Start a command, and wait until the first call runs."""
    (folder / "told").unlink(missing_ok=True)
    named = ["bench", "count.py", "--object", "Counter", "--objects", "3"]
    if "--warmup" not in arguments:
        named += ["--warmup", "0"]
    command = subprocess.Popen([run.programs["roost"], *named, *arguments], cwd=folder, **streams)
    while not (folder / "told").exists():
        assert command.poll() is None
        time.sleep(0.01)
    return command


def test_ctrl_c_ends_it_with_what_was_measured_so_far(run, folder):
    command = on_its_way(run, folder, "--method", "tell", "--duration", "60", "--json", stdout=-1)
    command.send_signal(signal.SIGINT)
    told = json.loads(command.communicate(timeout=60)[0])
    assert command.returncode == 130
    assert told["calls"] > 0
    assert told["seconds"] < 60
    assert not list(folder.glob(".roost*"))


def test_however_often_it_is_told_to_stop_it_tells_what_was_measured(run, folder):
    command = on_its_way(run, folder, "--method", "tell", "--json", stdout=-1)
    command.send_signal(signal.SIGINT)
    while command.poll() is None:
        command.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    told = json.loads(command.communicate(timeout=60)[0])
    assert told["calls"] + told["unanswered"] > 0
    assert not list(folder.glob(".roost*"))


def test_ctrl_c_again_waits_for_no_call(run, folder):
    command = on_its_way(run, folder, "--method", "never", "--json", stdout=-1)
    command.send_signal(signal.SIGINT)
    command.send_signal(signal.SIGTERM)
    told = json.loads(command.communicate(timeout=60)[0])
    assert command.returncode in {130, 143}
    assert (told["calls"], told["unanswered"]) == (0, 64)
    assert not list(folder.glob(".roost*"))


def test_ctrl_c_in_the_warm_up_ends_it_with_nothing(run, folder):
    arguments = ("--method", "tell", "--warmup", "60")
    command = on_its_way(run, folder, *arguments, stdout=-1, stderr=-1, text=True)
    command.send_signal(signal.SIGINT)
    said = command.communicate(timeout=60)
    assert said == ("", "roost: stopped before anything was measured\n")
    assert command.returncode == 130
    assert not list(folder.glob(".roost*"))


def test_objects_of_a_data_directory_that_is_named_stay(measured, roost):
    measured("keep", "--calls", "10", "--data-dir", "kept")
    listed = json.loads(roost("objects", "list", "--data-dir", "kept", "--json").worked())
    assert sorted(each["name"] for each in listed) == [f"bench-{n}" for n in range(5)]


def test_the_objects_of_a_running_instance_are_called(project, start, roost):
    start("serve", cwd=project, hosts=2).ready()
    sizes = ["--objects", "3", "--calls", "30", "--hosts", "1", "--warmup", "0"]
    named = ["bench", ".", "--object", "Visitor", "--method", "greet", "--args", '["ada"]']
    done = roost(*named, *sizes, "--data-dir", ".roost", "--json", cwd=project)
    assert json.loads(done.worked())["hosts"] == 2
    status = json.loads(roost("status", "--json", cwd=project).worked())
    assert sum(host["calls"] for host in status["hosts"]) >= 30


def test_a_terminal_sees_the_rate_while_it_runs(run, folder):
    ours, theirs = pty.openpty()
    arguments = "bench count.py --object Counter --method increment --objects 3 --duration 0.5"
    command = subprocess.Popen(
        [run.programs["roost"], *arguments.split()], cwd=folder, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # nobody has the other end any more
        os.close(ours)
    assert command.wait(60) == 0
    live, _, page = shown.decode().partition("Counter.increment: ")
    assert "warm-up" in live
    assert "64 under way" in live
    assert "█" in page


def test_without_hdrhistogram_that_is_said(run, folder):
    code = (
        "import sys; sys.modules['hdrh'] = None; sys.argv = ['roost', 'bench', 'count.py', "
        "'--object', 'Counter', '--method', 'increment']; from runtime.cli import main; main()"
    )
    done = subprocess.run(
        [run.programs["python"], "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "roost: this needs the package hdrhistogram: pip install 'roost[measure]'\n"
    )
