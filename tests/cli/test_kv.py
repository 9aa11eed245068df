"""`roost kv` works on the same data as a worker's bindings, whether an instance runs or not."""

import base64
import json
import os
import re
import sqlite3
import time

import pytest

from runtime.bindings import kv_directory
from runtime.kv import SyncKVNamespace, open_store

from .conftest import configure

EVERY_BYTE = bytes(range(256)) * 3 + b"\n\r\n"
TWO = '{ binding = "A", id = "a" }, { binding = "B", id = "b" }'


@pytest.fixture
def stored(tmp_path):
    """Open the namespace as a program would."""
    stores = []

    def open_(namespace_id="id"):
        store = open_store(kv_directory(tmp_path / ".roost", namespace_id))
        stores.append(store)
        return SyncKVNamespace(store)

    yield open_
    for store in stores:
        store.close()


# --- one key -------------------------------------------------------------------------------------


def test_what_is_put_is_got_and_nothing_is_added(kv):
    assert kv("key", "put", "theme", "dark").worked() == "wrote 4 bytes to 'theme' in KV\n"
    assert kv("key", "get", "theme").raw == b"dark"
    assert kv("key", "get", "theme", "--text").raw == b"dark\n"


def test_every_byte_survives_a_file_and_a_pipe(kv, tmp_path):
    (tmp_path / "value").write_bytes(EVERY_BYTE)
    kv("key", "put", "file", "--path", "value").worked()
    kv("key", "put", "pipe", stdin=EVERY_BYTE).worked()
    kv("key", "put", "dash", "-", stdin=EVERY_BYTE).worked()
    for key in ("file", "pipe", "dash"):
        assert kv("key", "get", key).raw == EVERY_BYTE


def test_a_value_on_the_command_line_is_taken_to_the_byte(kv):
    kv("key", "put", "odd", b"\xff\xc3").worked()
    assert kv("key", "get", "odd").raw == b"\xff\xc3"
    assert kv("key", "get", "odd", "--text").out == "\N{REPLACEMENT CHARACTER}" * 2 + "\n"
    kv("key", "put", "empty", "").worked()
    assert kv("key", "get", "empty").raw == b""


def test_a_key_that_looks_like_an_option_comes_after_two_dashes(kv):
    kv("key", "put", "--", "--odd", "-1").worked()
    assert kv("key", "get", "--", "--odd").raw == b"-1"


def test_the_worker_s_binding_and_the_command_see_each_other(kv, stored):
    kv("key", "put", "mine", "1").worked()
    namespace = stored()
    assert namespace.get("mine") == "1"
    namespace.put("theirs", b"2")
    assert kv("key", "get", "theirs").raw == b"2"


def test_a_missing_key_is_a_message_and_exit_code_1(kv, tmp_path):
    assert kv("key", "get", "nope").failed() == "roost: there is no key 'nope' in KV"
    assert not (tmp_path / ".roost").exists()  # reading makes nothing
    kv("key", "put", "yes", "1").worked()
    assert kv("key", "get", "nope").failed() == "roost: there is no key 'nope' in KV"


def test_a_deleted_key_is_gone_and_deleting_it_again_is_fine(kv, tmp_path):
    gone = "there was no key 'theme' in KV\n"
    first = kv("key", "delete", "theme")
    assert (first.worked(), first.err) == ("", gone)
    assert not (tmp_path / ".roost").exists()
    kv("key", "put", "theme", "dark").worked()
    assert kv("key", "delete", "theme").worked() == "deleted 'theme' from KV\n"
    kv("key", "get", "theme").failed()
    assert kv("key", "delete", "theme").err == gone


def test_expiry_and_metadata_are_written(kv, stored):
    before = time.time()
    kv("key", "put", "ttl", "1", "--ttl", "3600", "--metadata", '{"by": ["ü"]}').worked()
    moment = int(before) + 7200
    kv("key", "put", "at", "1", "--expiration", str(moment)).worked()
    at, ttl = stored().list()["keys"]
    assert at == {"name": "at", "expiration": moment}
    assert ttl["metadata"] == {"by": ["ü"]}
    assert before + 3599 <= ttl["expiration"] <= time.time() + 3600


def test_the_shortest_ttl_is_the_config_s(kv, tmp_path):
    assert "at least 60" in kv("key", "put", "k", "v", "--ttl", "5").failed()
    configure(tmp_path, more="[roost]\nmin_kv_ttl = 5")
    kv("key", "put", "k", "v", "--ttl", "5").worked()


# --- listing -------------------------------------------------------------------------------------


def test_the_list_is_what_wrangler_prints(kv):
    assert kv("key", "list").raw == b"[]\n"
    for key in ("ü", "b", "a:2", "a:1"):
        kv("key", "put", key, "1", "--metadata", '{"n": 1}').worked()
    listed = [{"name": key, "metadata": {"n": 1}} for key in ("a:1", "a:2", "b", "ü")]
    assert kv("key", "list").out == json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
    assert json.loads(kv("key", "list", "--prefix", "a:").out) == listed[:2]
    assert kv("key", "list", "--prefix", "nope").raw == b"[]\n"
    assert kv("key", "list", env={"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}).out.count("ü") == 1


def test_a_list_is_whole_however_long(kv, tmp_path):
    pairs = [{"key": f"k{number:05}", "value": ""} for number in range(2500)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    kv("bulk", "put", "pairs.json").worked()
    listed = json.loads(kv("key", "list").worked())
    assert [key["name"] for key in listed] == [pair["key"] for pair in pairs]


def test_a_reader_that_has_enough_is_no_error(kv, tmp_path):
    pairs = [{"key": f"k{number:05}", "value": ""} for number in range(9000)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    kv("bulk", "put", "pairs.json").worked()
    reading, writing = os.pipe()
    os.close(reading)
    assert kv("key", "list", stdout=writing).err == ""
    os.close(writing)


# --- which namespace -----------------------------------------------------------------------------


def test_several_namespaces_want_a_choice(kv, tmp_path):
    configure(tmp_path, TWO)
    assert kv("key", "list").failed() == (
        "roost: w has several KV namespaces: choose one with --binding, of A, B"
    )
    kv("key", "put", "k", "of a", "--binding", "A").worked()
    kv("key", "put", "k", "of b", "--namespace-id", "b").worked()
    assert kv("key", "get", "k", "--binding", "B").raw == b"of b"
    assert kv("key", "get", "k", "--namespace-id", "a").raw == b"of a"
    assert kv("key", "get", "k", "--binding", "C").failed() == (
        "roost: w has no KV namespace C; it has A, B"
    )


def test_an_environment_has_namespaces_of_its_own(kv, tmp_path):
    more = '[env.staging]\nkv_namespaces = [{ binding = "KV", id = "other" }]'
    configure(tmp_path, more=more)
    kv("key", "put", "k", "1", "--env", "staging").worked()
    kv("key", "get", "k").failed()
    assert kv("key", "get", "k", env={"CLOUDFLARE_ENV": "staging"}).raw == b"1"
    assert kv("key", "get", "k", "--namespace-id", "other").raw == b"1"


def test_a_namespace_s_id_needs_no_config(roost, tmp_path):
    put = ("kv", "key", "put", "k", "v", "--namespace-id", "free", "--data-dir", "data")
    roost(*put).worked()
    got = roost("kv", "key", "get", "k", "--namespace-id", "free", "--data-dir", "data")
    assert got.raw == b"v"
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_config_elsewhere_is_named(roost, tmp_path):
    (tmp_path / "there").mkdir()
    configure(tmp_path / "there")
    roost("kv", "key", "put", "k", "v", "--config", "there").worked()
    assert roost("kv", "key", "get", "k", "-c", "there/wrangler.toml").raw == b"v"
    assert (tmp_path / "there" / ".roost").is_dir()
    assert not (tmp_path / ".roost").exists()


# --- many keys -----------------------------------------------------------------------------------


def test_bulk_put_writes_what_wrangler_s_file_says(kv, tmp_path, stored):
    moment = int(time.time()) + 3600
    pairs = [
        {"key": "plain", "value": "ü"},
        {"key": "bytes", "value": base64.b64encode(EVERY_BYTE).decode(), "base64": True},
        {"key": "not64", "value": "aGk=", "base64": False, "metadata": {"n": 1}},
        {"key": "at", "value": "", "expiration": moment},
        {"key": "ttl", "value": "", "expiration_ttl": 60, "note": "wrangler warns of this one"},
        {"key": "plain", "value": "the last one counts"},
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    done = kv("bulk", "put", "pairs.json")
    assert done.worked() == "wrote 6 keys to KV\n"
    assert done.err == "pairs.json: not known, and passed over: note\n"
    namespace = stored()
    assert namespace.get("plain") == "the last one counts"
    assert namespace.get("bytes", "bytes") == EVERY_BYTE
    assert namespace.getWithMetadata("not64")["metadata"] == {"n": 1}
    assert namespace.get("not64") == "aGk="
    at, _, _, _, ttl = namespace.list()["keys"]
    assert at["expiration"] == moment
    assert abs(ttl["expiration"] - time.time()) < 61


def test_bulk_get_prints_what_wrangler_prints(kv, tmp_path):
    keys = ["b", {"name": "a", "metadata": {"any": 1}}, "absent"]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    absent = {"value": None}
    assert json.loads(kv("bulk", "get", "keys.json").worked()) == dict.fromkeys("ba", absent) | {
        "absent": absent
    }
    assert not (tmp_path / ".roost").exists()
    kv("key", "put", "a", "ü").worked()
    kv("key", "put", "b", b"\xff").worked()
    expected = {
        "b": {"value": "/w==", "base64": True},
        "a": {"value": "ü"},
        "absent": absent,
    }
    done = kv("bulk", "get", "-", stdin=json.dumps(keys).encode())
    assert done.out == json.dumps(expected, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "expected a list, found {}"),
        ("[1]", r"\[0\]: expected .*\"key\".* found 1"),
        ('[{"key": "k"}]', r"\[0\].value: expected a string, found nothing"),
        ('[{"key": "\\ud800", "value": "v"}]', r"\[0\]: .*surrogates"),
        ('[{"key": "k", "value": "!", "base64": true}]', r"\[0\].value: not base64"),
        ('[{"key": "k", "value": "v", "expiration_ttl": 5}]', r"\[0\]: .*at least 60"),
        ('[{"key": "k", "value": "v", "expiration": "x"}]', r"\[0\].expiration: expected an int"),
        ('[{"key": "k", "value": "v", "metadata": "%s"}]' % ("x" * 1100), r"\[0\]: .*exceeds"),
    ],
)
def test_a_mistake_in_a_bulk_file_is_named_and_nothing_is_written(kv, tmp_path, content, why):
    good = '{"key": "good", "value": "1"}, '
    if content.startswith("[{"):
        content = "[" + good + content[1:]
        why = why.replace(r"\[0\]", r"\[1\]")
    (tmp_path / "pairs.json").write_text(content, encoding="latin-1")
    line = kv("bulk", "put", "pairs.json").failed()
    assert line.startswith("roost: pairs.json: ")
    assert re.search(why, line), line
    assert len(line) < 300
    assert not (tmp_path / ".roost").exists()


@pytest.mark.parametrize("content", ["{}", '[{"nam": "k"}]', '[""]'])
def test_a_mistake_in_a_file_of_keys_is_named(kv, tmp_path, content):
    (tmp_path / "keys.json").write_text(content)
    assert kv("bulk", "get", "keys.json").failed().startswith("roost: keys.json: ")


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["key", "put", "", "v"], "Key name cannot be empty"),
        (["key", "put", "..", "v"], "not allowed as a key name"),
        (["key", "put", "k" * 513, "v"], "exceeds key length limit of 512"),
        (["key", "put", b"\xff", "v"], "not UTF-8"),
        (["key", "get", b"\xff"], "not UTF-8"),
        (["key", "list", "--prefix", "k" * 513], "exceeds key length limit"),
        (["key", "put", "k", "v", "--ttl", "0"], "Invalid expiration_ttl of 0"),
        (["key", "put", "k", "v", "--ttl", "x"], "'x' is not a valid integer"),
        (["key", "put", "k", "v", "--expiration", "1"], "Invalid expiration of 1"),
        (["key", "put", "k", "v", "--metadata", "{"], "--metadata is not JSON"),
        (["key", "put", "k", "v", "--metadata", '"' + "x" * 1100 + '"'], "exceeds limit of 1024"),
        (["key", "put", "k", "v", "--path", "wrangler.toml"], "give a VALUE or --path, not both"),
        (["key", "put", "k", "--path", "nope"], "'nope' does not exist"),
        (["key", "put", "k", "v", "w"], "unexpected extra argument (w)"),
        (["key", "get", "k", "--binding", "KV", "--namespace-id", "id"], "not both"),
        (["key", "get", "k", "--namespace-id", ".."], "expected the id of a namespace"),
        (["key", "get", "k", "--env", "nope"], "there is no environment 'nope'"),
        (["bulk", "put", "nope.json"], "'nope.json': No such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(kv, tmp_path, arguments, why):
    assert why in kv(*arguments).failed()
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["wrangler.toml"],
        [".roost", "wrangler.toml"],
    )


def test_a_value_that_is_too_long_is_refused_without_reading_it_all(kv):
    line = kv("key", "put", "k", stdin=b"x" * (27 * 1024 * 1024)).failed()
    length = 25 * 1024 * 1024 + 64 * 1024  # where it stopped
    assert f"Value length of {length} exceeds limit of 26214400" in line


def test_without_a_config_it_is_said_where_one_was_looked_for(roost, tmp_path):
    line = roost("kv", "key", "list").failed()
    assert f"no wrangler.toml, wrangler.jsonc or wrangler.json in {tmp_path}" in line
    assert "--config FILE" in line
    (tmp_path / "wrangler.toml").write_text('name = "w"')
    assert "w has no KV namespace: add `kv_namespaces" in roost("kv", "key", "list").failed()
    (tmp_path / "wrangler.toml").write_text("name = ")
    assert "wrangler.toml: not valid TOML" in roost("kv", "key", "list").failed()


def test_a_data_directory_that_others_can_write_to_is_refused(kv, tmp_path):
    kv("key", "put", "k", "v").worked()
    (tmp_path / ".roost").chmod(0o770)
    assert "can be written by others" in kv("key", "get", "k").failed()


def test_a_directory_that_cannot_be_made_is_named(kv, tmp_path):
    (tmp_path / "file").touch()
    line = kv("key", "put", "k", "v", "--data-dir", "file/data").failed()
    assert line == "roost: file/data: Not a directory"


def test_a_namespace_of_a_newer_roost_is_refused(kv, tmp_path, stored):
    kv("key", "put", "k", "v").worked()
    with sqlite3.connect(kv_directory(tmp_path / ".roost", "id") / "cache.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert "was made by a newer Roost" in kv("key", "get", "k").failed()
