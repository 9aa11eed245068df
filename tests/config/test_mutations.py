"""Whatever a file holds, loading it gives a Config or a ConfigError and nothing else."""

import copy
import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from runtime.config import Config, load
from runtime.config.keys import KNOWN, KNOWN_DEV, ROOST
from workers.errors import ConfigError

VALID = {
    "name": "rooms",
    "main": "src/worker.py",
    "compatibility_date": "2026-01-31",
    "compatibility_flags": ["python_workers"],
    "vars": {"A": "a", "B": [1, {"c": None}]},
    "kv_namespaces": [{"binding": "SETTINGS", "id": "settings", "preview_id": "p"}],
    "durable_objects": {"bindings": [{"name": "R", "class_name": "Room", "script_name": "rooms"}]},
    "migrations": [
        {"tag": "v1", "new_classes": ["Hall"], "new_sqlite_classes": ["Old", "Gone"]},
        {
            "tag": "v2",
            "renamed_classes": [{"from": "Old", "to": "Room"}],
            "deleted_classes": ["Gone"],
        },
    ],
    "dev": {"ip": "localhost", "port": 8787},
    "limits": {"cpu_ms": 30_000},
    "roost": {
        "hosts": 2,
        "durability": "strict",
        "slots": 16,
        "preload": ["json"],
        "mailbox": 10,
        "idle_s": 1.5,
    },
    "assets": {"directory": "public"},
    "exports": {"A": {"type": "worker"}},
    "queues": {"producers": [], "consumers": []},
    "env": {"live": {"name": "live", "vars": {}, "kv_namespaces": [{"binding": "A"}]}},
}

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
names = st.sampled_from(sorted(KNOWN | KNOWN_DEV | ROOST | {"tag", "binding"})) | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=6
)
environments = st.sampled_from([None, "live", "other"])


def loaded(content: bytes, name: str, env: str | None) -> Config | None:
    """The Config of a file, or None for a ConfigError that says where."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        error: ConfigError | None = None
        try:
            config = load(path, env)
        except ConfigError as caught:
            error = caught
    if error is not None:
        assert str(error).startswith(f"{path}: ")
        assert error.file == str(path)
        return None
    assert pickle.loads(pickle.dumps(config)) == config
    return config


def places(value: object) -> list[tuple[object, object]]:
    """Every container in a document, with each of its keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inner:
        found.append((value, key))
        if isinstance(item, (dict, list)):
            found += places(item)
    return found


def test_the_document_that_is_mutated_is_valid():
    assert loaded(json.dumps(VALID).encode(), "wrangler.json", None) is not None
    assert loaded(json.dumps(VALID).encode(), "wrangler.json", "live") is not None


@given(st.data(), st.integers(1, 3), environments)
def test_a_mutated_file_gives_a_config_or_a_config_error(
    data: st.DataObject, mutations: int, env: str | None
):
    document = copy.deepcopy(VALID)
    for _ in range(mutations):
        if not (where := places(document)):
            break
        container, key = data.draw(st.sampled_from(where))
        match data.draw(st.sampled_from(["delete", "replace", "add"])):
            case "delete":
                del container[key]
            case "replace":
                container[key] = data.draw(values)
            case _ if isinstance(container, dict):
                container[data.draw(names)] = data.draw(values)
            case _:
                container.append(data.draw(values))
    loaded(json.dumps(document).encode(), "wrangler.json", env)


@given(st.binary() | st.text().map(str.encode), st.sampled_from(["wrangler.toml", "wrangler.json"]))
def test_garbage_gives_a_config_error(content: bytes, name: str):
    assert loaded(content, name, None) is None


@given(values, names)
def test_any_value_under_any_key_gives_a_config_or_a_config_error(value: object, name: str):
    loaded(json.dumps(VALID | {name: value}).encode(), "wrangler.jsonc", None)


@given(st.integers(0, 600), st.text(max_size=5))
def test_a_toml_file_cut_and_patched_gives_a_config_or_a_config_error(at: int, patch: str):
    text = """
name = "rooms"
kv_namespaces = [{ binding = "SETTINGS", id = "settings" }]
vars = { when = "2026-01-31", n = 0x10, f = 1e3 }
[durable_objects]
bindings = [{ name = "ROOMS", class_name = "Room" }]
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
[roost]
hosts = 4
"""
    loaded((text[:at] + patch + text[at + len(patch) :]).encode(), "wrangler.toml", None)
