"""Environments inherit what Cloudflare's inherit, and secrets join the vars."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.config import Config, KVBinding
from workers.errors import ConfigError

Load = Callable[..., Config]

TWO = """
name = "rooms"
main = "top.py"
compatibility_date = "2026-01-01"
vars = { A = "top", B = "top" }
kv_namespaces = [{ binding = "KV", id = "top" }]
d1_databases = [{ binding = "DB" }]
durable_objects = { bindings = [{ name = "ROOMS", class_name = "Room" }] }
migrations = [{ tag = "v1", new_classes = ["Room"] }]
[dev]
port = 1000
[roost]
hosts = 2
[env.staging]
main = "staging.py"
vars = { A = "staging" }
kv_namespaces = [{ binding = "KV", id = "staging" }]
[env.live]
name = "live-rooms"
[env.live.roost]
slots = 32
"""


def test_an_environment_inherits_settings_and_history_but_no_bindings_and_vars(toml: Load):
    config = toml(TWO, "staging")
    assert config.main is not None
    assert config.main.name == "staging.py"
    assert (config.compatibility_date, config.port, config.hosts) == ("2026-01-01", 1000, 2)
    assert config.kv_classes == {"Room"}
    assert config.vars == {"A": "staging"}
    assert config.kv == (KVBinding("KV", "staging"),)
    assert config.objects == ()


def test_the_user_is_told_what_an_environment_does_not_inherit(toml: Load):
    (warning,) = toml(TWO, "staging").warnings
    assert "d1_databases, durable_objects: at the top level, but not in env.staging" in warning


def test_an_environment_is_a_worker_of_its_own(toml: Load):
    assert toml(TWO, "staging").name == "rooms-staging"
    assert toml(TWO, "live").name == "live-rooms"


def test_a_table_of_an_environment_replaces_the_one_of_the_top_level(toml: Load):
    config = toml(TWO, "live")
    assert (config.hosts, config.slots) == (None, 32)


def test_without_an_environment_the_top_level_counts(toml: Load):
    with pytest.raises(ConfigError, match="binding 'DB'"):
        toml(TWO)
    config = toml(TWO.replace('d1_databases = [{ binding = "DB" }]', ""))
    assert (config.name, config.vars["B"], len(config.objects)) == ("rooms", "top", 1)


def test_an_unknown_environment_is_answered_with_the_known_ones(toml: Load):
    with pytest.raises(ConfigError, match="no environment 'stagin'; this file has staging, live"):
        toml(TWO, "stagin")
    with pytest.raises(ConfigError, match="no environment 'a'; this file has none"):
        toml("name = 'w'", "a")


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        ("dev.port = 5", "env.a.dev", "it belongs at the top level"),
        ("hosts = 5", "env.a.hosts", r"it belongs in \[env\.a\.roost\]"),
        ("kv_namespaces = [{}]", "env.a.kv_namespaces[0].binding", "found nothing"),
        ("services = [{ binding = 'S' }]", "env.a.services[0]", "binding 'S'"),
        ("migrations = [{}]", "env.a.migrations[0].tag", "found nothing"),
        ("vars.x = nan", "env.a.vars.x", "found nan"),
    ],
)
def test_an_error_in_an_environment_is_placed_there(toml: Load, line: str, key: str, problem: str):
    with pytest.raises(ConfigError, match=problem) as caught:
        toml(f"name = 'w'\n[env.a]\n{line}", "a")
    assert caught.value.key == key


def test_a_name_too_long_with_its_environment_is_refused(toml: Load):
    name = "a" * 60
    with pytest.raises(ConfigError, match="with the environment"):
        toml(f"name = '{name}'\n[env.staging]", "staging")


def test_an_environment_whose_name_is_no_name_is_refused(toml: Load):
    with pytest.raises(ConfigError, match="expected a name of"):
        toml("name = 'w'\n[env.'a\\u0000/../b']\nname = 'x'".replace("'", '"'), "a\0/../b")


def test_secrets_join_the_vars_and_replace_those_of_their_name(toml: Load, tmp_path: Path):
    (tmp_path / ".dev.vars").write_text("A=secret\nTOKEN='t # 1'")
    config = toml("name = 'w'\nvars = { A = 1, B = 2 }")
    assert config.vars == {"A": "secret", "B": 2, "TOKEN": "t # 1"}


def test_secrets_of_an_environment_take_the_place_of_the_others(toml: Load, tmp_path: Path):
    (tmp_path / ".dev.vars").write_text("A=all\nB=all")
    (tmp_path / ".dev.vars.one").write_text("A=one")
    text = "name = 'w'\n[env.one]\n[env.two]"
    assert toml(text).vars == {"A": "all", "B": "all"}
    assert toml(text, "one").vars == {"A": "one"}
    assert toml(text, "two").vars == {"A": "all", "B": "all"}


def test_a_secret_named_like_a_binding_is_refused_and_not_shown(toml: Load, tmp_path: Path):
    (tmp_path / ".dev.vars").write_text("KV=hush")
    with pytest.raises(ConfigError, match=r"'KV', also at kv_namespaces\[0\]\.binding") as caught:
        toml("name = 'w'\nkv_namespaces = [{ binding = 'KV' }]")
    assert caught.value.file == str(tmp_path / ".dev.vars")
    assert "hush" not in str(caught.value)


def test_secrets_that_are_no_text_are_refused(toml: Load, tmp_path: Path):
    (tmp_path / ".dev.vars").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.dev\.vars: is not UTF-8"):
        toml("name = 'w'")
