"""`roost map`: files in, files out, and exit codes that scripts can trust."""

import csv
import gzip
import importlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from runtime import Runtime
from workers import DurableObject

ROOST = str(Path(sys.executable).with_name("roost"))

SCRIPT = """
import asyncio
from workers import DurableObject

class Account(DurableObject):
    async def deposit(self, row):
        if int(row["n"]) < 0:
            raise ValueError("a negative deposit")
        total = (await self.ctx.storage.get("total") or 0) + int(row["n"])
        await self.ctx.storage.put("total", total)
        return total

    async def deposit_all(self, rows):
        return [await self.deposit(row) for row in rows]

    async def slowly(self, row):
        await asyncio.sleep(0.001)
        return await self.deposit(row)

    def note(self, row):
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS notes(n INTEGER)")
        sql.exec("INSERT INTO notes VALUES(?)", row["n"])
        return sql.exec("SELECT sum(n) AS total FROM notes").one()["total"]

    def thing(self, row):
        return object()

    async def total(self):
        return await self.ctx.storage.get("total")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bank.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def roost_map(folder, forks):
    def roost_map_(*arguments, input=""):  # noqa: A002
        done = forks.run(
            ["map", "bank.py", "Account", *arguments],
            cwd=folder,
            env=dict(os.environ),
            input=input.encode(),
            timeout=60,
        )
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    return roost_map_


def rows(count, keys=5):
    return [{"who": f"k{n % keys}", "n": n} for n in range(count)]


def json_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def totals(records):
    found = {}
    for record in records:
        found[record["who"]] = found.get(record["who"], 0) + int(record["n"])
    return found


def last_by_key(text):
    return {line["key"]: line["result"] for line in map(json.loads, text.splitlines())}


def test_standard_input_becomes_standard_output_and_the_summary_goes_elsewhere(roost_map):
    done = roost_map("deposit", "--key", "who", input=json_lines(rows(500)))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 500
    assert last_by_key(done.stdout) == totals(rows(500))
    assert done.stderr.startswith("500 items of 5 keys in ")
    assert "slowest keys: k" in done.stderr
    assert "\x1b" not in done.stderr


def write(folder, name, records):
    path = folder / name
    if name.endswith("parquet"):
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(records), path)
    elif ".jsonl" in name:
        text = json_lines(records).encode()
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["who", "n"], delimiter="\t" if ".tsv" in name else ",")
            writer.writeheader()
            writer.writerows(records)


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv", "in.tsv", "in.parquet"])
def test_files_are_known_by_their_names(roost_map, folder, name):
    write(folder, name, rows(100))
    arguments = ("--key", "who", "--input", name, "--output", "out.jsonl", "--quiet", "--ordered")
    done = roost_map("deposit", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [row["who"] for row in rows(100)]
    assert last_by_key((folder / "out.jsonl").read_text()) == totals(rows(100))


def test_a_batch_is_a_list_of_records(roost_map):
    done = roost_map("deposit_all", "-k", "who", "--batch", "8", input=json_lines(rows(200)))
    assert done.returncode == 0
    results = [json.loads(line)["result"] for line in done.stdout.splitlines()]
    assert sum(map(len, results)) == 200
    assert max(map(len, results)) <= 8


def test_an_error_stops_it_with_exit_code_1_and_tells_where(roost_map):
    records = [*rows(3), {"who": "k9", "n": -1}]
    done = roost_map("deposit", "-k", "who", "-q", "--ordered", input=json_lines(records))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert "key 'k9', item 3 of the input" in done.stderr
    assert "bank.py" in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: a negative deposit")


def test_with_keep_going_failures_are_written_and_the_exit_code_is_3(roost_map, folder):
    records = [*rows(3), {"who": "k9", "n": -1}, {"who": "k9", "n": 4}]
    done = roost_map("deposit", "-k", "who", "--failures", "bad.jsonl", input=json_lines(records))
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 4
    (failure,) = map(json.loads, (folder / "bad.jsonl").read_text().splitlines())
    assert failure == {
        "key": "k9",
        "item": {"who": "k9", "n": -1},
        "error": "ValueError: a negative deposit",
    }
    assert "1 items failed\n  k9: ValueError: a negative deposit" in done.stderr


def test_what_failed_in_an_earlier_run_of_a_checkpoint_is_not_forgotten(roost_map):
    bad, good = {"who": "k", "n": -1}, {"who": "k", "n": 1}
    common = ("deposit", "-k", "who", "--checkpoint", "failures")
    assert roost_map(*common, input=json_lines([good, bad])).returncode == 1
    assert roost_map(*common, "--keep-going", input=json_lines([good, bad])).returncode == 3
    done = roost_map(*common, "--keep-going", input=json_lines([good, bad, good]))
    assert done.returncode == 3
    assert "2 items were done before, of which 1 failed" in done.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ('{"who": "a"', (), "standard input, line 1: this is not JSON"),
        ("[1]\n", (), "line 1: a JSON object is expected, and this is list"),
        ('{"n": 1}\n', (), "line 1: there is no field 'who', only 'n'"),
        ('{"who": 1.5}\n', (), "line 1: 'who' must be text or an integer, and is 1.5"),
        ("who,n\na,1,2\n", ("--format", "csv"), "line 2: this line has another number of fields"),
        ("who,who,n\na,b,1\n", ("--format", "csv"), "line 1: the header has the field 'who' twice"),
        ('{"n": ' + "1" * 5000 + "}\n", (), "line 1: Exceeds the limit (4300 digits)"),
        ('{"n": ' + "[" * 100_000 + "\n", (), "line 1: maximum recursion depth exceeded"),
        ("", ("--input", "cut.jsonl.gz"), "cut.jsonl.gz cannot be read as gzip: Compressed file"),
        ("", ("--input", "no.jsonl.gz"), "no.jsonl.gz cannot be read as gzip: Not a gzipped"),
        ("", ("--format", "parquet"), "Parquet cannot be read from a pipe"),
        ("", ("--input", "no.jsonl"), "no.jsonl: No such file or directory"),
        ("", ("--input", "bank.py"), "bank.py: of what format is it?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(folder, roost_map, text, arguments, says):
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-4])
    (folder / "no.jsonl.gz").write_bytes(b"{}")
    done = roost_map("deposit", "-k", "who", *arguments, input=text)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("roost: ")
    assert says in line


def test_a_file_that_would_be_overwritten_is_refused_and_stays_as_it_is(roost_map, folder):
    text = json_lines(rows(3))
    (folder / "in.jsonl").write_text(text)
    (folder / "link.jsonl").symlink_to("in.jsonl")
    for named in ("in.jsonl", "link.jsonl"):
        for where in ("--output", "--failures"):
            done = roost_map("deposit", "-k", "who", "-i", "in.jsonl", where, named)
            assert done.returncode == 1
            assert f"{named} is the input, and would be overwritten" in done.stderr
    assert (folder / "in.jsonl").read_text() == text
    done = roost_map("deposit", "-k", "who", "-o", "out.jsonl", "--failures", "./out.jsonl")
    assert done.returncode == 1
    assert "results and failures cannot both go to ./out.jsonl" in done.stderr


def test_with_a_checkpoint_results_may_go_to_a_device(roost_map):
    arguments = ("deposit", "-k", "who", "--checkpoint", "device", "-o", "/dev/null")
    for _ in range(2):
        done = roost_map(*arguments, input=json_lines(rows(3)))
        assert done.returncode == 0, done.stderr


def test_fields_may_be_large_and_begin_with_a_byte_order_mark(roost_map):
    for form, text in (
        ("csv", "who,n\nk,1" + " " * 300_000 + "\n"),
        ("jsonl", '{"who": "k", "n": "1' + " " * 300_000 + '"}'),
    ):
        done = roost_map("deposit", "-k", "who", "--format", form, input="\ufeff" + text)
        assert done.returncode == 0, done.stderr


def test_what_fails_is_written_also_when_it_has_values_that_json_has_not(roost_map, folder):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = importlib.import_module("pyarrow")
    columns = {"who": ["a"], "n": [-1], "d": [Decimal("1.10")], "t": [timedelta(seconds=90)]}
    pq.write_table(pa.table(columns), folder / "in.parquet")
    done = roost_map("deposit", "-k", "who", "-i", "in.parquet", "--failures", "f.jsonl")
    assert done.returncode == 3, done.stderr
    (line,) = (folder / "f.jsonl").read_text().splitlines()
    assert json.loads(line)["item"] == {"who": "a", "n": -1, "d": "1.10", "t": "0:01:30"}


def test_what_the_script_did_not_do_is_told_without_the_lines_of_roost(roost_map):
    done = roost_map("deposited", "-k", "who", input=json_lines(rows(1)))
    assert done.returncode == 1
    assert done.stderr.endswith(
        "item 0 of the input (from 0)\nTypeError: The RPC receiver does not implement the method "
        '"deposited".\n'
    )
    done = roost_map("deposit", "-k", "who", input=json_lines([{"who": "a", "n": -1}]))
    assert done.stderr.count("  File ") == done.stderr.count("bank.py") == 1
    done = roost_map("thing", "-k", "who", input=json_lines([{"who": "a"}]))
    assert "the result of the key 'a' cannot be written: JSON cannot say what obj" in done.stderr


def test_a_standard_stream_that_is_closed_is_the_null_device(folder):
    (folder / "in.jsonl").write_text(json_lines(rows(3)))
    done = subprocess.run(
        f"{ROOST} map bank.py Account deposit -k who -i in.jsonl -q >&-; echo $? >code;"
        f"{ROOST} map bank.py Account deposit -k who -o out.jsonl <&- >&-; echo $? >>code",
        shell=True,
        check=False,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (folder / "code").read_text() == "0\n0\n", done.stderr
    assert done.stderr.startswith("0 items of 0 keys")
    assert "Traceback" not in done.stderr
    assert (folder / "out.jsonl").read_text() == ""


def test_a_known_id_is_not_applied_again(roost_map):
    records = [{"who": "a", "n": 1, "id": f"p{n % 3}"} for n in range(9)]
    for _ in range(2):
        done = roost_map("deposit", "-k", "who", "--id", "id", "-q", input=json_lines(records))
        assert done.returncode == 0
        assert max(last_by_key(done.stdout).values()) == 3


def test_a_killed_command_goes_on_where_it_stopped_and_writes_every_line_once(folder):
    records = rows(6000, keys=4)
    (folder / "in.jsonl").write_text(json_lines(records))
    command = [ROOST, "map", "bank.py", "Account", "slowly", "-k", "who", "-i", "in.jsonl"]
    command += ["-o", "out.jsonl", "--checkpoint", "job", "-q"]
    kept = folder / ".roost" / "checkpoints" / "job.json"
    with subprocess.Popen(command, cwd=folder) as first:
        while not (kept.exists() and json.loads(kept.read_bytes())["low"] > 0):
            os.sched_yield()
            assert first.poll() is None
        first.kill()
    assert len((folder / "out.jsonl").read_text().splitlines()) < 6000
    second = subprocess.run(command, cwd=folder, check=True, timeout=60)
    assert second.returncode == 0
    lines = (folder / "out.jsonl").read_text()
    assert len(lines.splitlines()) == 6000
    results = {}
    for line in map(json.loads, lines.splitlines()):
        results.setdefault(line["key"], []).append(line["result"])
    for key, found in results.items():
        total, expected = 0, []
        for record in records:
            if record["who"] == key:
                total += record["n"]
                expected.append(total)
        assert found == expected


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (None, 143)])
def test_ctrl_c_is_one_message_its_exit_code_and_no_orphans_and_a_rerun_ends_it(
    folder, roost_map, key, code
):
    (folder / "in.jsonl").write_text(json_lines(rows(4000, keys=4)))
    arguments = ["slowly", "-k", "who", "-i", "in.jsonl", "-o", "out.jsonl", "--checkpoint", "c"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm", COLUMNS="120")
        os.execv(ROOST, [ROOST, "map", "bank.py", "Account", *arguments])
    shown = b""
    while b"under way" not in shown:
        shown += os.read(terminal, 4096)
    children = psutil.Process(pid).children(recursive=True)
    assert len(children) >= 2
    if key is None:
        os.kill(pid, signal.SIGTERM)
    else:
        os.write(terminal, key)
    after = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the terminal has no one left
            break
        if not piece:
            break
        after += piece
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == code
    text = after.decode()
    assert text.count("roost:") == 1
    assert "items are done; the same command goes on from there" in text
    assert "Traceback" not in text
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert roost_map(*arguments, "-q").returncode == 0
    assert last_by_key((folder / "out.jsonl").read_text()) == totals(rows(4000, keys=4))


@pytest.fixture
def piped(folder):
    """Start the command between two pipes; whatever it is doing, it is gone after the test."""
    started = []

    def piped_(*arguments, stdout=subprocess.PIPE):
        process = subprocess.Popen(
            [ROOST, "map", "bank.py", "Account", "deposit", "-k", "who", "-q", *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield piped_
    for process in started:
        with process:
            process.kill()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_result_is_there_though_the_input_waits(piped, form):
    process = piped("--format", form)
    if form == "csv":
        process.stdin.write(b"who,n\n")
    for n in range(1, 4):
        process.stdin.write(
            json_lines([{"who": "a", "n": 1}]).encode() if form == "jsonl" else b"a,1\n"
        )
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"key": "a", "result": n}
    process.stdin.close()
    assert process.wait(30) == 0


def test_the_end_of_an_instance_that_others_started_is_told_with_what_is_done(folder, piped):
    class Account(DurableObject):
        def deposit(self, row):
            return row["n"]

    with Runtime(objects={"Account": Account}, data_dir=folder / ".roost", hosts=1):
        process = piped("--checkpoint", "cut")
        process.stdin.write(json_lines(rows(1)).encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"key": "k0", "result": 0}
    _, errors = process.communicate(json_lines(rows(1)).encode(), timeout=30)
    assert process.returncode == 1
    assert errors.endswith(b"; 1 items are done; the same command goes on from there\n")
    assert errors.count(b"\n") == 1


def test_ctrl_c_ends_it_though_nobody_reads_the_results(folder, piped, roost_map):
    (folder / "in.jsonl").write_text(json_lines(rows(20_000, keys=4)))
    arguments = ["-i", "in.jsonl", "--checkpoint", "c"]
    out, into = os.pipe()
    process = piped(*arguments, stdout=into)
    while select.select([], [into], [], 0)[1]:  # until the pipe is full
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"the same command goes on from there" in process.stderr.read()
    os.close(into)
    with open(out) as reader:  # noqa: PTH123  (a descriptor)
        early = reader.read()
    late = roost_map("deposit", "-k", "who", "-q", *arguments)
    assert late.returncode == 0
    whole = early[: early.rindex("\n") + 1]
    assert last_by_key(whole + late.stdout) == totals(rows(20_000, keys=4))
    assert len({*whole.splitlines(), *late.stdout.splitlines()}) == 20_000


def test_a_script_without_a_config_has_sql_and_is_the_worker_of_a_runtime_with_its_classes(
    folder, roost_map, monkeypatch
):
    lines = json_lines(rows(20))
    for method in ("deposit", "note"):
        done = roost_map(method, "-k", "who", "-q", input=lines)
        assert done.returncode == 0, done.stderr
        assert last_by_key(done.stdout) == totals(rows(20))
    monkeypatch.syspath_prepend(folder)
    account = importlib.import_module("bank").Account
    with Runtime(objects={"ACCOUNTS": account}, data_dir=folder / ".roost", hosts=1) as rt:
        found = {key: rt.env.ACCOUNTS.getByName(key).total() for key in totals(rows(20))}
    assert found == totals(rows(20))
