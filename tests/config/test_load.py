"""A wrangler file becomes a Config, or an error that says where and what."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.config import Config, KVBinding, Limits, Migration, ObjectBinding, find, load
from workers.errors import ConfigError

Load = Callable[..., Config]


def refused(toml: Load, text: str, key: str, problem: str, env: str | None = None) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        toml(text, env)
    assert caught.value.key == key
    assert str(caught.value.file).endswith("wrangler.toml")
    assert str(caught.value).startswith(f"{caught.value.file}: {key}: ")


def test_the_example_of_the_readme_is_read_whole(toml: Load, rooms: str, tmp_path: Path):
    assert toml(rooms) == Config(
        name="rooms",
        main=tmp_path / "src/worker.py",
        root=tmp_path,
        vars={},
        kv=(KVBinding("SETTINGS", "settings"),),
        objects=(ObjectBinding("ROOMS", "Room"),),
        sqlite_classes=frozenset({"Room"}),
        kv_classes=frozenset(),
        migrations=(Migration("v1", new_sqlite_classes=("Room",)),),
        origins={"Room": "Room"},
    )


def test_a_config_is_frozen_and_survives_pickling(toml: Load, rooms: str):
    config = toml('vars = { a = [1, { b = "c" }] }\n' + rooms)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.name = "other"  # type: ignore[misc]


def test_jsonc_means_what_toml_means(toml: Load, rooms: str, tmp_path: Path):
    path = tmp_path / "wrangler.jsonc"
    path.write_text("""{ // the same worker
        "$schema": "node_modules/wrangler/config-schema.json",
        "name": "rooms", "main": "src/worker.py",
        "kv_namespaces": [{ "binding": "SETTINGS", "id": "settings" },],
        "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
        "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }],
    }""")
    assert load(path) == toml(rooms)


def test_every_setting_arrives_at_its_place(toml: Load):
    config = toml("""
        name = "w"
        compatibility_date = "2026-01-31"
        compatibility_flags = ["python_workers"]
        [dev]
        ip = "::1"
        port = 0
        [limits]
        cpu_ms = 400_000
        [roost]
        hosts = 4
        balance = false
        durability = "relaxed"
        slots = 64
        preload = ["numpy", "a.b"]
        mailbox = 5
        value_bytes = 6
        request_body = 7
        min_kv_ttl = 1
        idle_s = 0.5
        grace_s = 8
        history_days = 3
        kv_cache_bytes = 9
    """)
    assert (config.ip, config.port, config.hosts, config.slots) == ("::1", 0, 4, 64)
    assert (config.durability, config.preload) == ("relaxed", ("numpy", "a.b"))
    assert config.balance is False
    assert config.compatibility_date == "2026-01-31"
    assert config.compatibility_flags == ("python_workers",)
    assert config.limits == Limits(400_000, 5, 6, 7, 1, 0.5, 8.0, 3, 9)
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("ip", "address"), [("localhost", "127.0.0.1"), ("*", "0.0.0.0"), ("10.0.0.1", "10.0.0.1")]
)
def test_an_ip_may_be_said_in_wranglers_ways(toml: Load, ip: str, address: str):
    assert toml(f'name = "w"\ndev.ip = "{ip}"').ip == address


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        ("name = 5", "name", "expected 1 to 63 letters.*, found 5"),
        ("name = 'a b'", "name", "found 'a b'"),
        ("main = 'worker.js'", "main", r"expected the path of a Python file, found 'worker\.js'"),
        ("dev.port = 65536", "dev.port", "expected an integer from 0 to 65535, found 65536"),
        ("dev.port = true", "dev.port", "an integer .*, found true"),
        ("dev.ip = 'nowhere'", "dev.ip", "expected an IP address or 'localhost'"),
        ("dev = 5", "dev", "expected a table, found 5"),
        ("compatibility_date = 2026-01-31", "compatibility_date", "a date in quotes"),
        ("compatibility_date = '2026-02-30'", "compatibility_date", "found '2026-02-30'"),
        ("compatibility_flags = [1]", "compatibility_flags[0]", "expected a flag, found 1"),
        ("limits.cpu_ms = 0", "limits.cpu_ms", "an integer of at least 1, found 0"),
        ("roost.hosts = 0", "roost.hosts", "an integer of at least 1, found 0"),
        ("roost = { hosts = 8, slots = 4 }", "roost.hosts", r"at most one host a slot \(4\)"),
        ("roost.slots = 12", "roost.slots", "a power of two, found 12"),
        ("roost.durability = 'some'", "roost.durability", "'strict' or 'relaxed', found 'some'"),
        ("roost.value_bytes = 1_000_000_000", "roost.value_bytes", "from 1 to 999900000"),
        ("roost.idle_s = nan", "roost.idle_s", "a number of seconds, zero or more, found nan"),
        ("roost.idle_s = -1", "roost.idle_s", "found -1"),
        ("roost.preload = ['a b']", "roost.preload[0]", "expected the name of a module"),
        ("roost.preload = 'numpy'", "roost.preload", "expected a list"),
        ("kv_namespaces = {}", "kv_namespaces", "expected a list of tables"),
        ("kv_namespaces = [1]", "kv_namespaces[0]", "expected a table, found 1"),
        ("kv_namespaces = [{id='a'}]", "kv_namespaces[0].binding", "found nothing"),
        ("kv_namespaces = [{binding='a-b'}]", "kv_namespaces[0].binding", "identifier"),
        ("kv_namespaces = [{binding='A', id='../b'}]", "kv_namespaces[0].id", "no '/'"),
        ("vars = { a = 2026-01-31 }", "vars.a", "expected a string, a number"),
        ("vars = { a = [{ b = inf }] }", "vars.a[0].b", "found inf"),
        ("vars = { a = 0x" + "f" * 6000 + " }\nmain = 1", "main", "found 1"),
        ("main = 0x" + "f" * 6000, "main", "found an integer of 24000 bits"),
        ("env = { a = 5 }", "env.a", "expected a table, found 5"),
        ("durable_objects = {}", "durable_objects.bindings", "a list of tables, found nothing"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(toml: Load, line: str, key: str, problem: str):
    text = line if line.startswith("name") else f'name = "w"\n{line}'
    refused(toml, text, key, problem)


def test_a_name_is_needed(toml: Load):
    refused(toml, "", "name", "found nothing")


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        ("kv_namespace = []", "kv_namespace", "did you mean 'kv_namespaces'"),
        ("zzz = 1", "zzz", "unknown key$"),
        ("hosts = 4", "hosts", r"it belongs in \[roost\]"),
        ("roost.port = 4", "roost.port", r"it belongs in \[dev\]"),
        ("roost.mailbx = 4", "roost.mailbx", "did you mean 'mailbox'"),
        ("limits.cpu = 4", "limits.cpu", "did you mean 'cpu_ms'"),
        ("limits.mailbox = 4", "limits.mailbox", r"it belongs in \[roost\]"),
        ("dev.prot = 4", "dev.prot", "did you mean 'port'"),
        ("'my key' = 4", "'my key'", "unknown key"),
        ("kv_namespaces = [{bindin='A'}]", "kv_namespaces[0].bindin", "did you mean 'binding'"),
    ],
)
def test_a_key_that_nobody_knows_is_refused(toml: Load, line: str, key: str, problem: str):
    refused(toml, f'name = "w"\n{line}', key, problem)


def test_keys_without_effect_are_listed_in_one_warning(toml: Load):
    config = toml("""
        name = "w"
        workers_dev = true
        observability = { enabled = true }
        triggers = { crons = ["* * * * *"] }
        kv_namespaces = [{ binding = "A", remote = true }]
        [dev]
        inspector_port = 9229
        [limits]
        subrequests = 50
    """)
    (warning,) = config.warnings
    assert warning.endswith(
        "wrangler.toml: without effect here: observability, triggers, workers_dev, "
        "dev.inspector_port, limits.subrequests, kv_namespaces[0].remote"
    )


@pytest.mark.parametrize(
    ("line", "key", "binding"),
    [
        ("d1_databases = [{ binding = 'DB' }]", "d1_databases[0]", "'DB'"),
        ("r2_buckets = [{ binding = 'FILES' }]", "r2_buckets[0]", "'FILES'"),
        ("ai = { binding = 'AI' }", "ai", "'AI'"),
        ("queues = { producers = [{ binding = 'Q' }] }", "queues.producers[0]", "'Q'"),
        ("services = [{ binding = 'S', service = 's' }]", "services[0]", "'S'"),
        ("workflows = [{ binding = 'W', name = 'w' }]", "workflows[0]", "'W'"),
        ("send_email = [{ name = 'MAIL' }]", "send_email[0]", "'MAIL'"),
        ("vectorize = [{ binding = 'V' }]", "vectorize[0]", "'V'"),
        ("hyperdrive = [{ binding = 'H' }]", "hyperdrive[0]", "'H'"),
        ("assets = { directory = 'd', binding = 'ASSETS' }", "assets.binding", "'ASSETS'"),
        ("wasm_modules = { MOD = 'a.wasm' }", "wasm_modules", ""),
    ],
)
def test_a_binding_that_roost_has_not_is_refused_by_name(
    toml: Load, line: str, key: str, binding: str
):
    problem = f"{f'binding {binding}: ' if binding else ''}Roost has Durable Objects, KV and vars"
    refused(toml, f'name = "w"\n{line}', key, problem)


def test_empty_sections_of_missing_bindings_do_no_harm(toml: Load):
    text = 'name = "w"\nd1_databases = []\nai = {}\nqueues = { producers = [], consumers = [] }'
    assert toml(text).warnings == ()


def test_classes_in_exports_are_refused_rather_than_lost(toml: Load):
    refused(toml, 'name="w"\nexports = { A = { type = "durable-object" } }', "exports.A", "migrat")
    assert toml('name="w"\nexports = { A = { type = "worker" } }').warnings


@pytest.mark.parametrize(
    ("ids", "expected"),
    [("", "A"), (", id = 'x'", "x"), (", id = 'x', preview_id = 'p'", "p")],
)
def test_a_namespace_is_the_one_a_local_wrangler_takes(toml: Load, ids: str, expected: str):
    config = toml(f"name = 'w'\nkv_namespaces = [{{ binding = 'A'{ids} }}]")
    assert config.kv == (KVBinding("A", expected),)


@pytest.mark.parametrize(
    ("extra", "key", "first"),
    [
        ("kv_namespaces = [{binding='A'}, {binding='A'}]", "kv_namespaces[1].binding", "kv_"),
        ("kv_namespaces = [{binding='A'}]\nvars.A = 1", "vars.A", "kv_namespaces"),
        (
            "durable_objects.bindings = [{name='A', class_name='B'}]\nkv_namespaces=[{binding='A'}]",
            "kv_namespaces[0].binding",
            "durable_objects",
        ),
    ],
)
def test_a_name_given_twice_is_refused(toml: Load, extra: str, key: str, first: str):
    refused(toml, f'name = "w"\n{extra}', key, f"a name of its own, found 'A', also at {first}")


@pytest.mark.parametrize("target", ["script_name='w'", "script_name='w', environment='b'"])
def test_a_class_of_another_worker_is_refused(toml: Load, target: str):
    text = f"""
        name = "v"
        durable_objects.bindings = [{{ name = "A", class_name = "B", {target} }}]
    """
    refused(toml, text, "durable_objects.bindings[0].script_name", "expected this worker, 'v'")
    own = text.replace("script_name='w'", "script_name='v'").replace(", environment='b'", "")
    assert toml(own).objects == (ObjectBinding("A", "B"),)


def test_an_environment_of_no_script_is_refused(toml: Load):
    bindings = "[{ name = 'A', class_name = 'B', environment = 'c' }]"
    key = "durable_objects.bindings[0].script_name"
    refused(toml, f"name='w'\ndurable_objects.bindings = {bindings}", key, "found nothing")


def test_find_takes_the_file_that_wrangler_takes(tmp_path: Path):
    for name in ("wrangler.toml", "wrangler.jsonc", "wrangler.json"):
        (tmp_path / name).write_text(json.dumps({}))
        assert find(tmp_path) == tmp_path / name


def test_find_says_which_folder_it_looked_in_and_what_to_do(tmp_path: Path):
    with pytest.raises(ConfigError, match="roost init") as caught:
        find(tmp_path)
    assert str(tmp_path) in str(caught.value)
