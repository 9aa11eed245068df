"""`roost objects list` tells which objects have stored something, with and without an instance."""

import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from runtime.directories import claim, kept_free, release
from runtime.ids import NamespaceKey, slot_of
from runtime.storage import Change, SlotFile
from runtime.storage.layout import slot_path

SLOTS = 16
ROOMS, USERS = NamespaceKey("w-Room"), NamespaceKey("w-User")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def data(tmp_path):
    """A data directory as an instance leaves it, with five objects."""
    path = tmp_path / ".roost"
    release(claim(path, hosts=1, slots=SLOTS))
    (path / "slots").mkdir()
    unique = ROOMS.unique(lambda count: b"\7" * count)
    stored = [
        ("Room", ROOMS.from_name("a"), "a"),
        ("Room", ROOMS.from_name("b"), "b"),
        ("Room", unique, None),
        ("User", USERS.from_name("ada\nlovelace"), "ada\nlovelace"),
        ("User", USERS.from_name("bob"), "bob"),
    ]
    for number, (class_name, id_, name) in enumerate(stored):
        moment = CREATED + timedelta(hours=number)
        file = SlotFile(slot_path(path, slot_of(id_.raw, SLOTS)), clock=moment.timestamp)
        file.commit(
            [
                Change(
                    id_.raw,
                    class_name,
                    name,
                    register=True,
                    wipe=False,
                    puts=[(id_.raw, b"k", b"v")],
                    deletes=(),
                )
            ]
        )
        file.close()
    return path


def described(line):
    return line["class"], line["name"]


def test_the_files_are_read_when_no_instance_runs(data, roost):
    before = sorted(path.relative_to(data) for path in data.rglob("*"))
    listed = json.loads(roost("objects", "list", "--json").worked())
    assert [described(line) for line in listed] == [
        ("Room", "a"), ("Room", "b"), ("Room", None), ("User", "ada\nlovelace"), ("User", "bob"),
    ]  # fmt: skip
    assert listed[0] == {
        "class": "Room",
        "id": str(ROOMS.from_name("a")),
        "name": "a",
        "created": "2026-01-02T03:04:05Z",
    }
    assert sorted(path.relative_to(data) for path in data.rglob("*")) == before


def test_the_table_is_plain_where_there_is_no_terminal(data, roost):
    lines = roost("objects", "list", env={"TZ": "UTC"}).worked().splitlines()
    assert re.fullmatch(r"class  name +created +id", lines[0])
    assert lines[1].split() == ["Room", "a", "2026-01-02", "03:04:05", str(ROOMS.from_name("a"))]
    assert lines[1].index("2026") == lines[0].index("created")
    assert lines[3].split()[1] == "-"
    assert r"'ada\nlovelace'" in lines[4]  # whatever a stranger's request named, it is one line
    assert len(lines) == 6


def test_class_and_limit_choose(data, roost):
    def names(*arguments):
        done = roost("objects", "list", "--json", *arguments)
        return [line["name"] for line in json.loads(done.worked())], done.err

    assert names("--class", "User") == (["ada\nlovelace", "bob"], "")
    assert names("--class", "Nope") == ([], "")
    some, more = names("--limit", "2")
    assert len(some) == 2
    assert more == "there are more than 2: see --limit and --class\n"
    assert names("--limit", "5")[1] == ""
    done = roost("objects", "list", "--class", "Nope")
    assert (done.worked(), done.err) == (
        "",
        "no object of class Nope has stored anything in .roost\n",
    )


def test_a_running_instance_is_asked(project, roost, start):
    instance = start("serve", cwd=project).ready()
    for name in ("ada", "bob"):
        assert instance.get(f"/?name={name}")[0] == 200
    running = json.loads(roost("objects", "list", "--json", cwd=project).worked())
    assert [described(line) for line in running] == [("Visitor", "ada"), ("Visitor", "bob")]
    assert json.loads(roost("objects", "list", "--json", "--limit", "1", cwd=project).worked())
    assert instance.end() == 0
    assert json.loads(roost("objects", "list", "--json", cwd=project).worked()) == running


def test_what_a_killed_instance_stored_is_listed(project, roost, start):
    instance = start("serve", cwd=project).ready()
    assert instance.get("/?name=ada")[0] == 200
    children = psutil.Process(instance.process.pid).children()
    assert instance.end(signal.SIGKILL) == -signal.SIGKILL
    assert not psutil.wait_procs(children, 60)[1]
    (line,) = json.loads(roost("objects", "list", "--json", cwd=project).worked())
    assert line["name"] == "ada"


def test_nothing_is_made_where_nothing_is(roost, tmp_path):
    line = roost("objects", "list").failed()
    assert line.startswith("roost: there is no data directory .roost")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".roost").mkdir()
    assert roost("objects", "list", "--json").worked() == "[]\n"
    assert not list((tmp_path / ".roost").iterdir())


def test_an_instance_that_starts_meanwhile_waits(project, start):
    instance = start("serve", cwd=project).ready()
    assert instance.end() == 0
    with kept_free(project / ".roost"):
        instance = start("serve", cwd=project)
        process = psutil.Process(instance.process.pid)
        while str(project / ".roost" / "lock") not in {f.path for f in process.open_files()}:
            assert instance.process.poll() is None
        assert "ready" not in instance.said
    instance.ready()


def test_a_directory_that_is_being_used_otherwise_says_by_whom(data, roost):
    held = claim(data, hosts=1, slots=None)
    try:
        line = roost("objects", "list").failed()
        assert f".roost is in use by another Roost (pid {os.getpid()}), which is starting" in line
    finally:
        release(held)


def test_a_file_that_is_no_slot_file_is_named(data, roost):
    (data / "slots" / "00003.sqlite").write_bytes(b"x" * 4096)
    assert "slots/00003.sqlite cannot be opened" in roost("objects", "list").failed()


def test_mistakes_are_one_line(roost):
    assert "0 is not in the range" in roost("objects", "list", "--limit", "0").failed()
    assert "'nope' does not exist" in roost("objects", "list", "--config", "nope").failed()
