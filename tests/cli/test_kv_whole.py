"""Whole namespaces: exported and imported to the byte, listed, made, renamed, deleted, checked."""

import json
import os
import pty
import subprocess
import time

import pytest

from runtime import Runtime
from runtime.bindings import kv_directory
from runtime.kv import SyncKVNamespace, open_store

from .conftest import ROOST

LATER = int(time.time()) + 100_000
HARD_KEYS = ["a", "a/b", "a/b/c", "é/日本", "/", "//x", "x/", ".x", "a/../b", "n" * 300, "new\nline",
             "_roost_kv/1", "_roost_kv.jsonl", "x/" * 256, "nul\0"]  # fmt: skip


@pytest.fixture
def fill(tmp_path):
    """Write to a namespace, and read it whole, as a program would."""

    def open_(namespace_id="id"):
        return open_store(kv_directory(tmp_path / ".roost", namespace_id))

    def fill_(namespace_id="id"):
        store = open_(namespace_id)
        kv = SyncKVNamespace(store)
        for number, key in enumerate(HARD_KEYS):
            kv.put(key, f"value {number}")
        kv.put("bytes", bytes(range(256)), metadata={"type": "x", "é": [1, None]})
        kv.put("large", os.urandom(3_000_000), expiration=LATER)
        kv.put("empty", "")
        store.close()

    def whole(namespace_id="id"):
        store = open_(namespace_id)
        kv = SyncKVNamespace(store)
        found = {item.name: (kv.get(item.name, "bytes"), dict(item)) for item in kv.list()["keys"]}
        store.close()
        return found

    fill_.whole = whole
    return fill_


COPY = ("--namespace-id", "copy")


def test_what_is_exported_as_lines_comes_back_as_it_was(kv, fill):
    fill()
    assert kv("export", "all.jsonl").err == "exported 18 keys of KV\n"
    assert kv("import", "all.jsonl", *COPY).worked() == "imported 18 keys into copy\n"
    assert fill.whole("copy") == fill.whole()


def test_lines_go_through_pipes_and_can_be_chosen_by_prefix(kv, fill):
    fill()
    lines = kv("export", "--prefix", "a/").raw
    assert [json.loads(line)["key"] for line in lines.splitlines()] == ["a/../b", "a/b", "a/b/c"]
    kv("import", "-", *COPY, stdin=lines).worked()
    assert set(fill.whole("copy")) == {"a/../b", "a/b", "a/b/c"}


def test_what_is_exported_as_a_directory_comes_back_as_it_was(kv, fill, tmp_path):
    fill()
    assert kv("export", "site", "--directory").err == "exported 18 keys of KV\n"
    assert (tmp_path / "site" / "bytes").read_bytes() == bytes(range(256))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".roost", "site", "wrangler.toml"]
    kv("import", "site", *COPY).worked()
    assert fill.whole("copy") == fill.whole()
    assert "site is not empty" in kv("export", "site", "--directory").failed()
    assert "name the directory" in kv("export", "--directory").failed()


def test_of_any_directory_each_file_becomes_a_key(kv, tmp_path, fill):
    (tmp_path / "site" / "img").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("<p>")
    (tmp_path / "site" / "img" / "a.png").write_bytes(b"\x89PNG")
    assert kv("import", "site").worked() == "imported 2 keys into KV\n"
    found = fill.whole()
    assert {key: value for key, (value, _) in found.items()} == {
        "index.html": b"<p>",
        "img/a.png": b"\x89PNG",
    }


def test_a_mistake_says_where_it_is_and_with_what_to_go_on(kv, fill):
    lines = [json.dumps({"key": f"k{number}", "value": "v"}) for number in range(10)]
    wrong = "\n".join([*lines[:4], '{"key": "", "value": "v"}', *lines[4:]])
    said = kv("import", "-", stdin=wrong.encode()).failed()
    assert said == ("roost: standard input: line 5: Key name cannot be empty.; go on with --skip 4")
    assert set(fill.whole()) == {f"k{number}" for number in range(4)}
    right = "\n".join([*lines[:4], '{"key": "right", "value": "v"}', *lines[4:]])
    kv("import", "-", "--skip", "4", stdin=right.encode()).worked()
    assert set(fill.whole()) == {f"k{number}" for number in range(10)} | {"right"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "line 1: Expecting value"),
        ("[1]", 'line 1: expected {"key": ..., "value": ...}, found [1]'),
        ('{"key": "k", "value": 5}', "line 1: value: expected a string, found"),
        ('{"key": "k", "value": "!", "base64": true}', "line 1: "),
        ('{"key": "k", "value": "v", "expiration": "soon"}', "expected seconds since 1970"),
        ('{"key": "k", "value": "v", "metadata": "' + "m" * 1100 + '"}', "413 Metadata length"),
    ],
)
def test_a_wrong_line_is_refused(kv, line, why):
    assert why in kv("import", "-", stdin=line.encode()).failed()


def test_what_has_expired_is_passed_over_and_said(kv, fill):
    line = json.dumps({"key": "k", "value": "v", "expiration": 1000.5})
    said = kv("import", "-", stdin=line.encode()).worked()
    assert said == "imported 0 keys into KV; 1 had expired\n"
    assert fill.whole() == {}


def test_a_terminal_sees_how_far_it_is_and_a_pipe_does_not(kv, fill, tmp_path):
    fill()
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [ROOST, "kv", "export", "all.jsonl"], cwd=tmp_path, stderr=theirs, timeout=60, check=True
    )
    assert done.returncode == 0
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert "18/" in said
    assert kv("export", "all.jsonl").err == "exported 18 keys of KV\n"


# --- namespaces ----------------------------------------------------------------------------------


def test_namespaces_are_made_listed_renamed_and_deleted(kv, fill, tmp_path):
    fill()
    assert kv("namespace", "create", "other").worked().splitlines()[1] == (
        'kv_namespaces = [{ binding = "KV", id = "other" }]'
    )
    listed = json.loads(kv("namespace", "list", "--json").worked())
    assert [(each["id"], each["bindings"]) for each in listed] == [("id", ["KV"]), ("other", [])]
    assert listed[0]["bytes"] > 3_000_000
    assert kv("namespace", "list").worked().splitlines()[0].split() == ["binding", "id", "bytes"]
    before = fill.whole()
    kv("namespace", "rename", "id", "moved").worked()
    assert fill.whole("moved") == before
    assert kv("key", "list").worked() == "[]\n"
    assert (
        "there is a namespace other already" in kv("namespace", "rename", "moved", "other").failed()
    )
    assert "Delete all of other" in kv("namespace", "delete", "other", stdin=b"n\n").err
    kv("namespace", "delete", "other", "--yes").worked()
    kv("namespace", "delete", "moved", stdin=b"y\n").worked()
    assert [path.name for path in (tmp_path / ".roost" / "kv").iterdir()] == []


def test_what_is_not_there_or_no_id_is_said(kv):
    for command in (["rename", "nope", "new"], ["delete", "nope", "--yes"]):
        assert "there is no namespace nope in" in kv("namespace", *command).failed()
    assert "expected the id of a namespace" in kv("namespace", "create", "..").failed()


def test_a_running_instance_keeps_its_namespaces(kv, fill, tmp_path):
    fill()
    with Runtime(kv={"KV": "id"}, hosts=1, data_dir=tmp_path / ".roost") as rt:
        assert rt.env.KV.get("empty") == ""
        for command in (["delete", "id", "--yes"], ["rename", "id", "new"]):
            assert "is in use by another Roost" in kv("namespace", *command).failed()
        assert kv("check").worked() == "id: 18 keys, 1 file: nothing is wrong\n"
    assert len(fill.whole()) == 18


def test_check_says_what_is_wrong_and_repairs_it(kv, fill, tmp_path):
    fill()
    assert kv("check").worked() == "id: 18 keys, 1 file: nothing is wrong\n"
    left = kv_directory(tmp_path / ".roost", "id") / "values" / ("0" * 32 + ".val")
    left.write_bytes(b"half")
    found = kv("check", "id")
    assert found.code == 1
    assert found.out.splitlines()[1].endswith(".val is left of a write that was interrupted")
    assert kv("check", "id", "--repair").worked().splitlines()[1].endswith("; repaired")
    assert kv("check").worked() == "id: 18 keys, 1 file: nothing is wrong\n"
    assert "there is no namespace nope" in kv("check", "nope").failed()
