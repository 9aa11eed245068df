"""`roost dev` and `roost serve`, as somebody at a terminal meets them."""

import os
import re
import signal
import socket
import threading
import time
import urllib.error
from http.client import RemoteDisconnected

import pytest

from runtime.ids import NamespaceKey

WORKER = """
import asyncio
from workers import DurableObject, Response, WorkerEntrypoint

VERSION = 1

class Room(DurableObject):
    async def visit(self):
        visits = (await self.ctx.storage.get("visits") or 0) + 1
        await self.ctx.storage.put("visits", visits)
        return [VERSION, visits]

    async def wait(self):
        print("waiting", flush=True)
        while await self.env.KV.get("go") is None:
            await asyncio.sleep(0.01)
        return "went"

    def fail(self):
        raise ValueError("my mistake")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        method = request.url.rpartition("/")[2]
        return Response.json(await getattr(self.env.ROOMS.getByName("a"), method)())
"""
CONFIG = """
name = "w"
main = "src/worker.py"
kv_namespaces = [{ binding = "KV", id = "kv" }]
durable_objects.bindings = [{ name = "ROOMS", class_name = "Room" }]
migrations = [{ tag = "v1", new_sqlite_classes = ["Room"] }]
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "wrangler.toml").write_text(CONFIG)
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "worker.py"
    path.write_text(WORKER)
    return path


@pytest.fixture
def config(script, tmp_path):
    return tmp_path / "wrangler.toml"


# --- serving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_it_says_where_it_serves_and_what(script, start, command):
    instance = start(command).ready()
    assert re.fullmatch(r"http://localhost:\d+", instance.url)
    assert instance.get("/visit") == (200, "[1, 1]")
    assert instance.hear(r"GET /visit 200 6B \d+\.\d\dms")
    assert instance.end() == 0
    lines = instance.said.splitlines()
    assert lines[0] == f"roost {command}: w is ready on {instance.url}"
    assert lines[1] == "  bindings  ROOMS (Room), KV (KV)"
    assert lines[2] == "  hosts     2"
    assert lines[3] == "  data      .roost"
    assert ("  reloads   when a Python file in src changes" in lines) == (command == "dev")
    assert lines[-1] == "SIGINT: finishing what is under way"
    assert len(lines) == (8 if command == "dev" else 7)  # nothing else: no library's chatter


@pytest.mark.parametrize(
    ("ip", "shown", "name"),
    [
        ("localhost", "localhost", "localhost"),
        ("0.0.0.0", "localhost", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2", "127.0.0.2"),
        ("::1", "[::1]", "[::1]"),
    ],
)
def test_the_address_that_is_shown_works(script, start, ip, shown, name):
    if ip == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    instance = start("serve", "--ip", ip).ready()
    assert instance.url.startswith(f"http://{shown}:")
    assert instance.get("/visit")[0] == 200
    instance.url = instance.url.replace(shown, name)
    assert instance.get("/visit")[0] == 200
    assert ("and for other machines" in instance.said) == (ip == "0.0.0.0")


def test_the_worker_may_be_elsewhere(script, start, tmp_path):
    (tmp_path / "here").mkdir()
    for named in (["dev", str(tmp_path)], ["serve", "-c", str(tmp_path / "wrangler.toml")]):
        instance = start(*named, cwd=tmp_path / "here").ready()
        assert instance.get("/visit")[0] == 200
        assert instance.end() == 0
    assert (tmp_path / ".roost").is_dir()
    assert not list((tmp_path / "here").iterdir())


def test_an_environment_and_the_config_s_settings_are_used(config, start):
    text = CONFIG + '[roost]\nhosts = 1\n[env.other]\nname = "another"\nvars = { X = "1" }\n'
    config.write_text(text)
    instance = start("serve", "--env", "other", "--data-dir", "elsewhere").ready()
    assert "another is ready on" in instance.said
    assert "X (var)" in instance.said
    assert "  data      elsewhere\n" in instance.said
    assert "kv_namespaces, durable_objects: at the top level, but not in env.other" in instance.said


def test_errors_are_shown_in_dev_and_kept_in_the_log_by_serve(script, start):
    room = str(NamespaceKey("w-Room").from_name("a"))
    dev = start("dev").ready()
    status, page = dev.get("/fail")
    assert status == 500
    assert room in page
    assert 'raise ValueError("my mistake")' in page
    assert dev.end() == 0
    serve = start("serve").ready()
    status, page = serve.get("/fail")
    assert status == 500
    assert "my mistake" not in page
    incident = re.search(r"incident (\w+)", page)[1]
    assert serve.hear(f"incident={incident} status=500 method=GET .* object={room} .*my mistake")
    assert serve.hear(r"line \d+, in fail")


def test_at_log_level_error_only_failures_are_logged(script, start):
    instance = start("serve", "--log-level", "error").ready()
    assert instance.get("/visit")[0] == 200
    assert instance.get("/fail")[0] == 500
    instance.hear("GET /fail 500")
    assert instance.end() == 0
    assert "GET /visit" not in instance.said
    assert "finishing" not in instance.said


# --- reloading -----------------------------------------------------------------------------------


def test_a_changed_script_is_used_at_once_and_stored_state_stays(script, start):
    instance = start("dev").ready()
    assert instance.get("/visit") == (200, "[1, 1]")
    for version in (2, 3):
        script.write_text(WORKER.replace("VERSION = 1", f"VERSION = {version}"))
        instance.hear(r"reloaded the script in \d+ ms")
        assert instance.get("/visit") == (200, f"[{version}, {version}]")
    assert "is up again" not in instance.said  # a reload is one line
    assert instance.end() == 0


def test_a_change_made_while_it_starts_is_not_missed(script, start):
    (script.parent / "link.py").symlink_to("nowhere")
    os.utime(script, (time.time() + 60,) * 2)  # as if written after the hosts had loaded it
    instance = start("dev").ready()
    instance.hear("reloaded")
    assert instance.get("/visit") == (200, "[1, 1]")
    assert instance.end() == 0
    assert instance.said.count("reloaded") == 1


def test_a_broken_script_is_shown_and_the_one_before_goes_on(script, start):
    instance = start("dev").ready()
    for broken, why in (
        (WORKER + "\ndef (", "SyntaxError"),
        (WORKER + "\n1 / 0", "ZeroDivisionError"),
        (WORKER.replace("class Room", "class Roam"), r"wants a class Room\(DurableObject\)"),
    ):
        script.write_text(broken)
        instance.hear("the changed script is not used")
        instance.hear(why)
        assert instance.get("/visit")[0] == 200
    script.write_text(WORKER.replace("VERSION = 1", "VERSION = 2"))
    instance.hear("reloaded")
    assert instance.get("/visit") == (200, "[2, 4]")
    assert "importlib" not in instance.said
    assert instance.end() == 0


def test_serve_does_not_reload(script, start):
    instance = start("serve").ready()
    script.write_text("1 / 0")
    assert instance.get("/visit") == (200, "[1, 1]")
    assert "reloads" not in instance.said


# --- stopping ------------------------------------------------------------------------------------


def waiting(instance):
    """Send a request that waits for the key `go`; returns a function that waits for its answer."""
    answers = []

    def ask():
        try:
            answers.append(instance.get("/wait"))
        except (RemoteDisconnected, urllib.error.URLError, ConnectionError) as error:
            answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    instance.hear("waiting")

    def answer():
        asking.join(60)
        return answers[0]

    return answer


@pytest.mark.parametrize(
    ("command", "number"), [("dev", signal.SIGINT), ("serve", signal.SIGTERM)], ids=str
)
def test_a_signal_finishes_what_is_under_way(script, start, roost, command, number):
    instance = start(command).ready()
    answer = waiting(instance)
    instance.process.send_signal(number)
    instance.hear("finishing what is under way")
    roost("kv", "key", "put", "go", "1").worked()
    assert answer() == (200, '"went"')
    assert instance.ended() == 0


def test_a_second_signal_stops_at_once(script, start):
    instance = start("dev").ready()
    answer = waiting(instance)
    instance.process.send_signal(signal.SIGINT)
    instance.hear("finishing what is under way")
    assert instance.end() == 0
    instance.hear("stopping at once")
    assert isinstance(answer(), Exception)


def test_after_the_grace_period_it_stops_all_the_same(config, start):
    config.write_text(CONFIG + "[roost]\ngrace_s = 0.1\n")
    instance = start("serve").ready()
    answer = waiting(instance)
    assert instance.end(signal.SIGTERM) == 0
    instance.hear("not everything under way has ended in time")
    assert not isinstance(answer(), tuple) or answer()[0] >= 500


# --- what keeps it from starting -----------------------------------------------------------------


def test_a_port_in_use_is_named(script, roost):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = roost("dev", "--port", str(port)).failed()
    assert line == (
        f"roost: cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another with --port or --ip (--port 0 takes a free one)."
    )


def test_a_data_directory_in_use_names_who_uses_it(script, start, roost, tmp_path):
    instance = start("serve").ready()
    line = roost("dev", "--port", "0").failed()
    assert f"{tmp_path}/.roost is in use by another Roost (pid {instance.process.pid})" in line
    assert instance.get("/visit") == (200, "[1, 1]")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["dev", "nowhere"], "Path 'nowhere' does not exist"),
        (["dev", "src/worker.py"], "expected a .toml, .jsonc or .json file"),
        (["dev", ".", "--config", "."], "give FOLDER or --config, not both"),
        (["dev", "--ip", "nonsense"], "expected an IP address or 'localhost'"),
        (["dev", "--ip", "192.0.2.1"], "Cannot assign requested address"),
        (["serve", "--hosts", "0"], "0 is not in the range"),
        (["serve", "--hosts", "99", "--port", "0"], "99 hosts need as many slots"),
        (["serve", "--data-dir", "wrangler.toml"], "is a file"),
    ],
)
def test_a_mistake_is_one_line(script, roost, arguments, why):
    assert why in roost(*arguments).failed()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = ", "wrangler.toml: not valid TOML"),
        (CONFIG.replace("class_name", "classname"), "did you mean 'class_name'?"),
        (CONFIG.replace("worker.py", "nope.py"), "there is no worker script at"),
        (CONFIG.replace('main = "src/worker.py"', ""), "the configuration has no `main`"),
        (CONFIG + "[roost]\npreload = ['nope']", "`preload` names nope, which cannot be imported"),
        (CONFIG + "d1_databases = [{binding = 'DB'}]", "binding 'DB': Roost has"),
    ],
)
def test_a_mistake_in_the_config_is_one_line(config, roost, text, why):
    config.write_text(text)
    assert why in roost("serve", "--port", "0").failed()


def test_a_folder_without_a_config_is_named(roost, tmp_path):
    line = roost("dev").failed()
    assert f"no wrangler.toml, wrangler.jsonc or wrangler.json in {tmp_path}: " in line
    assert "roost init" in line


@pytest.mark.parametrize(
    ("command", "code", "last"),
    [
        ("dev", "def (", "SyntaxError: invalid syntax"),
        ("serve", "import nonsense", "ModuleNotFoundError: No module named 'nonsense'"),
        ("serve", "raise SystemExit(5)", "SystemExit: 5"),
    ],
)
def test_a_script_that_does_not_load_is_shown_from_its_own_first_line_on(
    script, roost, command, code, last
):
    script.write_text(WORKER + code + "\n")
    done = roost(command, "--port", "0", "--hosts", "6")  # that all of them fail is told once
    assert (done.code, done.raw) == (1, b"")
    lines = done.err.splitlines()
    assert lines[0].startswith(f"roost: {script} raised {last.split(':')[0]} while it was imported")
    assert lines[-1] == last
    number = len(WORKER.splitlines()) + 1
    assert f'  File "{script}", line {number}' in done.err
    assert done.err.count("  File ") == 1


def test_a_script_without_its_class_is_told_what_it_has(script, roost):
    script.write_text(WORKER.replace("class Room", "class Roam"))
    assert roost("dev", "--port", "0").failed() == (
        f"roost: binding ROOMS wants a class Room(DurableObject) in {script}; the script has: Roam"
    )


def test_a_script_that_ends_its_process_is_no_loop(script, roost):
    script.write_text("import os; os._exit(7)")
    assert "exited with code 7 while it started" in roost("serve", "--port", "0").failed()


def test_a_data_directory_that_others_can_write_to_is_refused(script, roost, tmp_path):
    (tmp_path / ".roost").mkdir()
    (tmp_path / ".roost").chmod(0o777)
    line = roost("dev", "--port", "0").failed()
    assert f"chmod 700 {tmp_path}/.roost" in line
