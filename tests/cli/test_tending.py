"""`roost objects show, export, delete`: of a running instance and of a stopped one."""

import base64
import json
import pickle
import signal
import sqlite3
import subprocess
import threading

import pytest

from runtime.ids import NamespaceKey
from tests.forked import ROOST

SCRIPT = """
import datetime, json
from workers import DurableObject, Response, WorkerEntrypoint

class Point:
    def __init__(self, x):
        self.x = x

class Room(DurableObject):
    async def fetch(self, request):
        storage, do = self.ctx.storage, request.query["do"]
        if do == "fill":
            await storage.put({"n": 3, "who": ["ada", {"é": None}], "seen": {1, 2},
                "raw": b"x", "when": datetime.date(2026, 1, 2), "point": Point(1), "nan": float("nan")})
            await storage.setAlarm(4_000_000_000_000)
        elif do == "sql":
            storage.sql.exec("CREATE TABLE IF NOT EXISTS log(at, who, raw)")
            storage.sql.exec("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text)")
            storage.sql.exec("INSERT INTO log VALUES (1.5, 'ada', x'00ff'), (2, NULL, NULL)")
            storage.sql.exec("INSERT INTO words VALUES ('hello there')")
        elif do == "add":
            n = (await storage.get("n") or 0) + 1
            await storage.put("n", n)
            return Response(str(n))
        elif do == "odd":
            storage.sql.exec("CREATE TABLE odd(a, twice AS (a * 2))")
            storage.sql.exec("INSERT INTO odd VALUES (1), (x'61'), ('é'), (CAST(x'ff' AS TEXT))")
            await storage.setAlarm(8_640_000_000_000_000)
        elif do == "grow":
            await storage.put("large", "x" * 300_000)
        elif do == "forget":
            await storage.deleteAll()
        elif do == "wait":
            await self.env.KV.get("nothing")
            import asyncio
            await asyncio.Future()
        return Response("done")

    async def alarm(self):
        pass

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.ROOMS.getByName(request.query["name"]).fetch(request)
"""
CONFIG = """
name = "w"
main = "worker.py"
kv_namespaces = [{ binding = "KV", id = "kv" }]
durable_objects.bindings = [{ name = "ROOMS", class_name = "Room" }]
"""


def id_of(name):
    return str(NamespaceKey("w-Room").from_name(name))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wrangler.toml").write_text(CONFIG)
    (tmp_path / "worker.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(params=["running", "stopped"])
def filled(request, folder, start):
    """Two rooms, the second with a file of its own; the instance runs, or has been stopped."""
    instance = start("serve").ready()
    for path in ("/?name=ada&do=fill", "/?name=bob&do=fill", "/?name=bob&do=sql"):
        assert instance.get(path) == (200, "done"), instance.said
    if request.param == "stopped":
        assert instance.end() == 0
    return instance


def is_running(instance):
    return instance.process.poll() is None


def test_an_object_is_shown(filled, roost):
    shown = json.loads(roost("objects", "show", "--name", "bob", "--json").worked())
    created = shown.pop("created")
    assert created.startswith("20")
    assert created.endswith("Z")
    assert shown.pop("entry_bytes") > 100
    assert shown.pop("file_bytes") > 4096
    assert shown.pop("host") == (shown["slot"] % 2 if is_running(filled) else None)
    assert shown == {
        "class": "Room",
        "id": id_of("bob"),
        "name": "bob",
        "slot": int(id_of("bob")[:16], 16) % 16,
        "live": is_running(filled),
        "websockets": 0,
        "alarm": "2096-10-02T07:06:40Z",
        "entries": 7,
        "tables": {"log": 2, "words": 1},
    }
    lines = roost("objects", "show", id_of("ada")).worked().splitlines()
    assert [line.split()[0] for line in lines] == [
        "class", "id", "name", "created", "slot", "host", "live", "websockets", "alarm", "entries",
        "tables", "file",
    ]  # fmt: skip
    assert "tables      -" in lines
    assert f"live        {'yes' if is_running(filled) else 'no'}" in lines


def test_looking_wakes_nothing(folder, start, roost):
    instance = start("serve").ready()
    instance.get("/?name=ada&do=fill")
    instance.end()
    instance = start("serve").ready()
    for _ in range(2):
        shown = json.loads(roost("objects", "show", "--name", "ada", "--json").worked())
        assert (shown["live"], shown["entries"]) == (False, 7)
    assert roost("objects", "export", "--name", "ada").worked()


def test_a_large_value_is_exported_among_the_others(filled, roost, start):
    instance = filled if is_running(filled) else start("serve").ready()
    assert instance.get("/?name=bob&do=grow")[0] == 200
    lines = map(json.loads, roost("objects", "export", "--name", "bob").worked().splitlines())
    values = {line["key"]: line["value"] for line in lines if "value" in line}
    assert [*values] == ["large", "n", "who"]
    assert values["large"] == "x" * 300_000
    assert values["n"] == 3


def test_an_object_is_exported_as_it_is(filled, roost, tmp_path):
    lines = [*map(json.loads, roost("objects", "export", "--name", "bob").worked().splitlines())]
    assert {line.pop("object") for line in lines} == {id_of("bob")}
    head = lines.pop(0)
    assert (head["class"], head["name"], head["alarm"]) == ("Room", "bob", "2096-10-02T07:06:40Z")
    entries = {line["key"]: line for line in lines if "key" in line}
    assert entries["n"]["value"] == 3
    assert entries["who"]["value"] == ["ada", {"é": None}]
    kinds = {key: its["type"] for key, its in entries.items() if "type" in its}
    assert kinds == {
        "seen": "set", "raw": "bytes", "when": "datetime.date", "point": "worker.Point",
        "nan": "float",
    }  # fmt: skip
    assert pickle.loads(base64.b64decode(entries["seen"]["pickle"])) == {1, 2}
    assert [line["row"] for line in lines if line.get("table") == "log" and "row" in line] == [
        [1.5, "ada", {"base64": "AP8="}],
        [2, None, None],
    ]
    assert [line["columns"] for line in lines if "columns" in line] == [
        ["at", "who", "raw"],
        ["text"],
    ]
    done = roost("objects", "export", "--class", "Room", "-o", "rooms.jsonl")
    assert done.worked() == ""
    every = [*map(json.loads, (tmp_path / "rooms.jsonl").read_text().splitlines())]
    assert {line["name"] for line in every if "name" in line} == {"ada", "bob"}
    assert (
        "is there already"
        in roost("objects", "export", "--name", "ada", "-o", "rooms.jsonl").failed()
    )
    assert not list((tmp_path / ".roost").glob("export-*"))


def test_what_python_cannot_hold_is_shown_and_exported(folder, start, roost):
    assert start("serve").ready().get("/?name=cyd&do=odd")[0] == 200
    lines = [*map(json.loads, roost("objects", "export", "--name", "cyd").worked().splitlines())]
    assert lines[0]["alarm"] == "+275760-09-13T00:00:00Z"
    assert lines[1]["columns"] == ["a", "twice"]
    rows = [line["row"] for line in lines[2:]]
    assert rows == [[1, 2], [{"base64": "YQ=="}, 0], ["é", 0], [{"base64": "/w=="}, 0]]
    shown = json.loads(roost("objects", "show", "--name", "cyd", "--json").worked())
    assert shown["alarm"] == lines[0]["alarm"]


@pytest.mark.parametrize("sweeper", ["export", "instance"])
def test_what_a_killed_export_leaves_is_swept(folder, roost, start, sweeper):
    instance = start("serve").ready()
    for path in ("/?name=ada&do=add", "/?name=bob&do=grow"):  # to more than a pipe takes
        assert instance.get(path)[0] == 200

    def left():
        return [*(folder / ".roost").glob("export-*")]

    command = [ROOST, "objects", "export", "--name", "bob"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as killed:
        killed.stdout.readline()
        (its,) = left()
        roost("objects", "export", "--name", "ada").worked()
        assert left() == [its]  # that of one under way stays
        killed.kill()
    assert left() == [its]
    if sweeper == "export":
        roost("objects", "export", "--name", "ada").worked()
    else:
        instance.end(signal.SIGKILL)
        start("serve").ready()
    assert left() == []


@pytest.mark.parametrize(("name", "tables"), [("ada", set()), ("bob", {"log", "words"})])
def test_an_object_is_exported_as_a_database_that_stands_alone(
    filled, roost, tmp_path, name, tables
):
    roost("objects", "export", "--name", name, "--sqlite", "-o", "its.sqlite").worked()
    with sqlite3.connect(tmp_path / "its.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = {its for (its,) in database.execute("SELECT name FROM sqlite_schema")}
        assert tables <= found
        ((value,),) = database.execute("SELECT value FROM _cf_KV WHERE key = CAST('n' AS BLOB)")
        assert pickle.loads(value) == 3
    database.close()
    assert [*tmp_path.glob("its.sqlite*")] == [tmp_path / "its.sqlite"]


def test_an_object_is_deleted_with_all_it_has(filled, roost, tmp_path):
    for name in ("ada", "bob"):
        asked = roost("objects", "delete", "--name", name, stdin=b"n\n")
        assert asked.code == 130
        assert f"delete Room {name} ({id_of(name)}), 7 entries and " in asked.err
        assert roost("objects", "delete", "--name", name, stdin=b"y\n").worked() == ""
        assert "has stored nothing" in roost("objects", "delete", "--name", name, "--yes").failed()
        assert "has stored nothing" in roost("objects", "show", "--name", name).failed()
    assert roost("objects", "list", "--json").worked() == "[]\n"
    assert not list((tmp_path / ".roost" / "objects").rglob("*.sqlite*"))
    if is_running(filled):
        for name in ("ada", "bob"):
            assert filled.get(f"/?name={name}&do=add") == (200, "1")  # a new object
        (line,) = json.loads(roost("objects", "list", "--json", "--limit", "1").worked())
        assert line["name"] in {"ada", "bob"}


def test_a_live_object_is_deleted_under_its_callers(folder, start, roost):
    instance = start("serve").ready()
    assert instance.get("/?name=ada&do=add") == (200, "1")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(instance.get("/?name=ada&do=wait")))
    waiting.start()
    host = int(id_of("ada")[:16], 16) % 2
    while not json.loads(roost("status", "--json").worked())["hosts"][host]["waiting"]:
        pass
    roost("objects", "delete", "--name", "ada", "--yes").worked()
    waiting.join(60)
    assert answers[0][0] == 503  # retryable
    assert instance.get("/?name=ada&do=add") == (200, "1")


def test_a_kill_leaves_a_deleted_object_deleted(folder, start, roost):
    instance = start("serve").ready()
    instance.get("/?name=bob&do=sql")
    instance.get("/?name=bob&do=fill")
    roost("objects", "delete", "--name", "bob", "--yes").worked()
    instance.end(signal.SIGKILL)
    instance = start("serve").ready()
    assert "has stored nothing" in roost("objects", "show", "--name", "bob").failed()
    assert instance.get("/?name=bob&do=add") == (200, "1")


def test_what_names_no_object_is_one_line(filled, roost):
    def fails(*words):
        return roost("objects", *words).failed()

    assert "name one object: by its ID, or by --name" in fails("show")
    assert "name one object" in fails("show", id_of("ada"), "--name", "ada")
    assert "'ada' is no id: expected 64 hex digits" in fails("show", "ada")
    assert f"object {'00' * 32} has stored nothing" in fails("show", "00" * 32)
    assert f"object {id_of('cyd')} has stored nothing" in fails("export", "--name", "cyd")
    assert "w binds no class Nope" in fails("delete", "--name", "ada", "--class", "Nope")
    assert "name an object: ID, or --name or --class" in fails("export")
    assert "--sqlite writes a file" in fails("export", "--name", "ada", "--sqlite")


def test_where_nothing_was_stored_nothing_is_made(folder, roost):
    assert "nothing was ever stored in .roost" in roost("objects", "show", "--name", "a").failed()
    assert not (folder / ".roost").exists()
