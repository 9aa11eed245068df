"""Keyword arguments make the same Config as a file, under the same checks."""

import pickle
from pathlib import Path
from types import MappingProxyType

import pytest

from runtime.config import KVBinding, Limits, ObjectBinding, from_keywords
from workers.errors import ConfigError


class Room:
    """Stands for a Durable Object class."""


class Hall:
    """Stands for another."""


def test_objects_kv_and_vars_become_bindings():
    config = from_keywords(
        objects={"ROOMS": Room, "HALLS": Hall}, kv=["SETTINGS"], vars={"A": [1, {"b": None}]}
    )
    assert config.name == "worker"
    assert config.main is None
    assert config.root == Path.cwd()
    assert config.objects == (ObjectBinding("ROOMS", "Room"), ObjectBinding("HALLS", "Hall"))
    assert config.kv == (KVBinding("SETTINGS", "SETTINGS"),)
    assert config.vars == {"A": [1, {"b": None}]}
    assert config.sqlite_classes == {"Room", "Hall"}
    assert config.warnings == ()
    assert pickle.loads(pickle.dumps(config)) == config


def test_namespaces_may_have_ids_and_classes_the_key_value_backend():
    config = from_keywords(
        objects=MappingProxyType({"A": Room, "B": Room, "C": Hall}),
        kv={"S": "id"},
        kv_classes=["Room"],
    )
    assert config.kv == (KVBinding("S", "id"),)
    assert (config.kv_classes, config.sqlite_classes) == ({"Room"}, {"Hall"})


def test_nothing_at_all_is_a_config():
    assert from_keywords().limits == Limits()


def test_settings_are_keywords_and_none_is_the_default():
    config = from_keywords(
        hosts=3, durability="relaxed", slots=None, cpu_ms=600_000, idle_s=1, preload=["json"]
    )
    assert (config.hosts, config.durability, config.slots) == (3, "relaxed", None)
    assert config.limits == Limits(cpu_ms=600_000, idle_s=1.0)
    assert config.preload == ("json",)


def test_vars_are_copied():
    values = {"A": [1]}
    config = from_keywords(vars=values)
    values["A"].append(2)
    assert config.vars == {"A": [1]}


circle: list[object] = []
circle.append(circle)


@pytest.mark.parametrize(
    ("keywords", "key", "problem"),
    [
        ({"objects": {"A": Room()}}, "objects.A", "expected a class"),
        ({"objects": {"a b": Room}}, "objects.'a b'", "identifier"),
        ({"objects": {"A": Room, "B": type("Room", (), {})}}, "objects.B", "two classes"),
        ({"objects": [Room]}, "objects", "expected a mapping"),
        ({"objects": {1: Room}}, "objects", "expected a string as a key, found 1"),
        ({"objects": {"A": Room}, "kv": ["A"]}, "kv[0]", "found 'A', also at objects.A"),
        ({"kv": ["A"], "vars": {"A": 1}}, "kv[0]", "also at vars.A"),
        ({"kv": "SETTINGS"}, "kv", "expected a list"),
        ({"kv": ["A", 5]}, "kv[1]", "found 5"),
        ({"kv": {"A": ""}}, "kv.A", "the id of a namespace"),
        ({"kv": ["A" * 256]}, "kv[0]", "the name of a binding"),
        ({"vars": {"A": object()}}, "vars.A", "expected a string, a number"),
        ({"vars": {"A": {1: 2}}}, "vars.A", "expected a string as a key"),
        ({"vars": {"A": circle}}, None, "nested deeper"),
        ({"name": "a b"}, "name", "found 'a b'"),
        ({"hosts": "4"}, "hosts", "an integer of at least 1, found '4'"),
        ({"host": 4}, "host", "did you mean 'hosts'"),
        ({"kv_classes": ["Room"]}, "kv_classes[0]", "the name of a class in objects"),
        ({"port": -1}, "port", "from 0 to 65535"),
    ],
)
def test_a_wrong_keyword_is_refused_with_its_place(
    keywords: dict[str, object], key: str | None, problem: str
):
    with pytest.raises(ConfigError, match=problem) as caught:
        from_keywords(**keywords)  # type: ignore[arg-type]
    assert caught.value.file is None
    assert str(caught.value).startswith("Runtime(...): ")
    if key is not None:
        assert caught.value.key == key
