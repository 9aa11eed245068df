"""Migrations in order decide which classes live, and with which backend."""

from collections.abc import Callable

import pytest

from runtime.config import Config, Migration
from workers.errors import ConfigError

Load = Callable[..., Config]


def worker(bound: str, *migrations: str) -> str:
    steps = [f"[[migrations]]\n{text}" for text in migrations]
    head = f"durable_objects.bindings = [{{ name = 'NS', class_name = '{bound}' }}]"
    return "\n".join(["name = 'w'", head, *steps])


def test_a_class_keeps_its_backend_through_renames(toml: Load):
    config = toml(
        worker(
            "C",
            "tag = 'v1'\nnew_classes = ['A', 'X']\nnew_sqlite_classes = ['S', 'Y']",
            "tag = 'v2'\nrenamed_classes = [{ from = 'A', to = 'B' }]",
            "tag = 'v3'\nrenamed_classes = [{ from = 'B', to = 'C' }]\ndeleted_classes = ['X']",
        )
    )
    assert config.kv_classes == {"C"}
    assert config.sqlite_classes == {"S", "Y"}
    assert config.migrations == (
        Migration("v1", new_classes=("A", "X"), new_sqlite_classes=("S", "Y")),
        Migration("v2", renamed_classes=(("A", "B"),)),
        Migration("v3", renamed_classes=(("B", "C"),), deleted_classes=("X",)),
    )


def test_a_class_may_be_deleted_and_made_anew_with_the_other_backend(toml: Load):
    config = toml(
        worker(
            "A",
            "tag = 'v1'\nnew_classes = ['A']",
            "tag = 'v2'\ndeleted_classes = ['A']\nnew_sqlite_classes = ['A']",
        )
    )
    assert (config.kv_classes, config.sqlite_classes) == (frozenset(), {"A"})


def test_two_classes_may_change_names(toml: Load):
    swap = "renamed_classes = [{from='A', to='T'}, {from='B', to='A'}, {from='T', to='B'}]"
    config = toml(
        worker("A", "tag='v1'\nnew_classes=['A']\nnew_sqlite_classes=['B']", f"tag='v2'\n{swap}")
    )
    assert (config.kv_classes, config.sqlite_classes) == ({"B"}, {"A"})


def test_a_class_keeps_its_origin_through_renames_and_shares_it_with_none(toml: Load):
    config = toml(
        worker(
            "C",
            "tag = 'v1'\nnew_classes = ['A']\nnew_sqlite_classes = ['Z']",
            "tag = 'v2'\nrenamed_classes = [{ from = 'A', to = 'B' }]\nnew_classes = ['A']",
            "tag = 'v3'\nrenamed_classes = [{ from = 'B', to = 'C' }]\ndeleted_classes = ['Z']",
            "tag = 'v4'\nnew_classes = ['B', 'Z']",
        )
    )
    assert config.origins == {"A": "A@v2", "B": "B", "C": "A", "Z": "Z"}
    assert [config.id_key(name) for name in ("C", "Undeclared")] == ["w-A", "w-Undeclared"]


def test_without_migrations_a_class_is_a_sqlite_class_and_the_user_is_told(toml: Load):
    config = toml(worker("Room"))
    assert config.sqlite_classes == {"Room"}
    (warning,) = config.warnings
    assert "no migrations: Room taken as new_sqlite_classes" in warning


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (["tag='v1'\nnew_classes=['B']"], "expected a class that a migration creates.*found 'A'"),
        (
            ["tag='v1'\nnew_classes=['A']", "tag='v2'\ndeleted_classes=['A']"],
            "class 'A' was deleted by migration 'v2'",
        ),
        (
            ["tag='v1'\nnew_classes=['A']", "tag='v2'\nrenamed_classes=[{from='A', to='B'}]"],
            "class 'A' was renamed to 'B' by migration 'v2'",
        ),
    ],
)
def test_a_bound_class_that_does_not_live_is_refused(toml: Load, steps: list[str], problem: str):
    with pytest.raises(ConfigError, match=problem) as caught:
        toml(worker("A", *steps))
    assert caught.value.key == "durable_objects.bindings[0].class_name"


@pytest.mark.parametrize(
    ("step", "key", "problem"),
    [
        ("tag = 'v1'", "tag", "a tag that no other migration has, found 'v1'"),
        ("new_classes = []", "tag", "expected the name of this migration, found nothing"),
        ("tag = 'v2'\nnew_classes = ['A']", "new_classes[0]", "there is a class 'A' already"),
        ("tag = 'v2'\nnew_sqlite_classes = ['A']", "new_sqlite_classes[0]", "already"),
        ("tag = 'v2'\ndeleted_classes = ['B']", "deleted_classes[0]", "no class 'B' to delete"),
        ("tag = 'v2'\nrenamed_classes = [{from='B', to='C'}]", "renamed_classes[0].from", "no cl"),
        ("tag = 'v2'\nrenamed_classes = [{from='A', to='A2'}, {from='A', to='B'}]", "", "no class"),
        ("tag = 'v2'\nrenamed_classes = [{from='A'}]", "renamed_classes[0].to", "found nothing"),
        ("tag = 'v2'\nnew_classes = ['a b']", "new_classes[0]", "expected the name of a class"),
        ("tag = 'v2'\nnew_clases = ['B']", "new_clases", "did you mean 'new_classes'"),
        ("tag = 'v2'\ntransferred_classes = [{}]", "transferred_classes", "one worker"),
    ],
)
def test_a_history_that_cannot_be_is_refused(toml: Load, step: str, key: str, problem: str):
    with pytest.raises(ConfigError, match=problem) as caught:
        toml(worker("A", "tag = 'v1'\nnew_classes = ['A']", step))
    assert str(caught.value.key).startswith(f"migrations[1].{key}")


def test_a_class_cannot_be_renamed_onto_a_living_one(toml: Load):
    with pytest.raises(ConfigError, match="there is a class 'B' already"):
        toml(worker("B", "tag='v1'\nnew_classes=['A','B']\nrenamed_classes=[]", RENAME))


RENAME = "tag='v2'\nrenamed_classes=[{from='A', to='B'}]"
