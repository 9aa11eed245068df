"""What a worker finds in `env`: Durable Object classes, KV namespaces, vars and secrets.

Every name in `env` is there once. A binding that only Cloudflare can provide is refused here, at
start, rather than missed by the script later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.config import keys
from runtime.config.classes import Classes
from runtime.config.sections import Sections
from runtime.config.table import Table, shown
from runtime.config.text import read_secrets

__all__ = [
    "NAMESPACE_ID",
    "KVBinding",
    "ObjectBinding",
    "is_namespace_id",
    "keyword_kv",
    "keyword_objects",
    "merge_secrets",
    "read_kv",
    "read_objects",
    "read_vars",
    "refuse_missing_bindings",
]

_BINDING: Final = "the name of a binding (a Python identifier)"
NAMESPACE_ID: Final = "the id of a namespace (printable, no '/', at most 255 bytes)"
_LONGEST: Final = 255  # bytes a file system takes as a folder's name
_HAS: Final = "Roost has Durable Objects, KV and vars"


@dataclass(frozen=True, slots=True)
class KVBinding:
    """A KV namespace in `env`."""

    binding: str
    id: str
    """Which namespace it is; two bindings of one id share their data."""


@dataclass(frozen=True, slots=True)
class ObjectBinding:
    """A class of Durable Objects in `env`."""

    name: str
    class_name: str


def read_objects(
    sections: Sections, worker: str, classes: Classes, taken: dict[str, str]
) -> tuple[ObjectBinding, ...]:
    """The objects of a file; their classes live, and live in this worker."""
    holder = sections.holding("durable_objects")
    if "durable_objects" not in holder:
        return ()
    section = holder.table("durable_objects")
    section.allow({"bindings"})
    if "bindings" not in section:
        raise section.expected("bindings", "a list of tables")
    found = []
    for table in section.tables("bindings"):
        table.allow({"class_name", "environment", "name", "script_name"})
        name = table.text("name", _BINDING, _is_binding)
        class_name = table.text("class_name", "the name of a class", str.isidentifier)
        _claim(taken, name, table, "name")
        _refuse_other_worker(table, worker)
        if class_name in classes.gone:
            raise table.error("class_name", f"class {class_name!r} was {classes.gone[class_name]}")
        if classes.migrations and class_name not in classes.sqlite | classes.kv:
            raise table.expected(
                "class_name", "a class that a migration creates (new_sqlite_classes)"
            )
        found.append(ObjectBinding(name, class_name))
    return tuple(found)


def _refuse_other_worker(table: Table, worker: str) -> None:
    """Refuse a binding to a class in a worker other than this."""
    if "script_name" not in table:
        if "environment" in table:
            raise table.expected("script_name", "the worker that `environment` belongs to")
        return
    script = table.text("script_name", "the name of a worker")
    if "environment" in table:
        script += "-" + table.text("environment", "the name of an environment")
    if script != worker:
        raise table.error(
            "script_name", f"expected this worker, {worker!r}, found {script!r}: Roost runs one"
        )


def read_kv(sections: Sections, taken: dict[str, str]) -> tuple[KVBinding, ...]:
    """The KV namespaces of a file. One without an id has its binding's name for it."""
    found = []
    for table in sections.holding("kv_namespaces").tables("kv_namespaces"):
        table.allow({"binding", "id", "preview_id", "remote"})
        binding = table.text("binding", _BINDING, _is_binding)
        _claim(taken, binding, table, "binding")
        ids = {
            key: table.text(key, NAMESPACE_ID, is_namespace_id)
            for key in ("preview_id", "id")
            if key in table
        }
        # A local wrangler takes them in this order.
        found.append(KVBinding(binding, next(iter(ids.values()), binding)))
    return tuple(found)


def keyword_objects(table: Table, taken: dict[str, str]) -> tuple[ObjectBinding, ...]:
    """Binding names to classes; a class goes by its `__name__`."""
    table.allow(table.data.keys())
    found: dict[str, type] = {}
    bindings = []
    for name, cls in table.data.items():
        if not _is_binding(name):
            raise table.error(name, f"expected {_BINDING}, found {name!r}")
        if not isinstance(cls, type) or not cls.__name__.isidentifier():
            raise table.expected(name, "a class")
        if found.setdefault(cls.__name__, cls) is not cls:
            raise table.error(name, f"there are two classes of the name {cls.__name__!r}")
        _claim(taken, name, table, name)
        bindings.append(ObjectBinding(name, cls.__name__))
    return tuple(bindings)


def keyword_kv(table: Table, taken: dict[str, str]) -> tuple[KVBinding, ...]:
    """Binding names to ids, or a sequence of names that are the ids as well."""
    if isinstance(table.data["kv"], Mapping):
        named = table.table("kv")
        named.allow(named.data.keys())
        ids = {name: named.text(name, NAMESPACE_ID, is_namespace_id) for name in named.data}
        bindings = [(name, ids[name], named, name) for name in ids]
    else:
        names = table.texts("kv", _BINDING, _is_binding)
        bindings = [(name, name, table, f"kv[{index}]") for index, name in enumerate(names)]
    for binding, _, place, key in bindings:
        if not _is_binding(binding):
            raise place.error(key, f"expected {_BINDING}, found {binding!r}")
        _claim(taken, binding, place, key)
    return tuple(KVBinding(binding, ns) for binding, ns, _, _ in bindings)


def read_vars(table: Table, taken: dict[str, str]) -> dict[str, object]:
    """A copy of the vars; unlike bindings their names may be any string."""
    table.allow(table.data.keys())
    for name in table.data:
        _claim(taken, name, table, name)
    return {name: table.json(name) for name in table.data}


def merge_secrets(
    values: dict[str, object], root: Path, env: str | None, taken: dict[str, str]
) -> None:
    """Put the secrets of `.dev.vars` into the vars; a secret replaces the var of its name."""
    secrets = read_secrets(root, env)
    if secrets is None:
        return
    path, found = secrets
    table = Table(str(path), "", found)
    for name in found:
        if name not in values:
            _claim(taken, name, table, name)
    values.update(found)


def refuse_missing_bindings(sections: Sections) -> None:
    """Refuse everything that would be in `env` at Cloudflare and cannot be here."""
    for name in keys.BINDING_SECTIONS:
        holder = sections.holding(name)
        if place := _first_binding(name, holder.data.get(name)):
            key, binding = place
            raise holder.error(key, f"binding {binding!r}: {_HAS}" if binding else _HAS)
    holder = sections.holding("assets")
    assets = holder.table("assets")
    if "binding" in assets:
        raise assets.error("binding", f"binding {shown(assets.data['binding'])}: {_HAS}")
    holder = sections.holding("exports")
    exports = holder.table("exports")
    for name in exports.data:
        if exports.table(name).data.get("type") == "durable-object":
            raise exports.error(name, "expected the class in [[migrations]]; Roost reads it there")


def _first_binding(key: str, value: object) -> tuple[str, str | None] | None:
    """The key and, where it has one, the name of the first binding in a section."""
    if isinstance(value, dict):
        # Queues and the like keep their bindings in lists one level down.
        lists = [(name, inner) for name, inner in value.items() if isinstance(inner, list)]
        if len(lists) == len(value) and not any(inner for _, inner in lists):
            return None
        if found := next(((name, inner) for name, inner in lists if inner), None):
            key, value = f"{key}.{found[0]}", found[1]
    if isinstance(value, list):
        if not value:
            return None
        key, value = f"{key}[0]", value[0]
    if value is None:
        return None
    names = [value.get(name) for name in ("binding", "name")] if isinstance(value, dict) else []
    return key, next((name for name in names if isinstance(name, str)), None)


def _claim(taken: dict[str, str], name: str, table: Table, key: str) -> None:
    """Note that `env` has this name; two things of one name are refused."""
    if name in taken:
        raise table.error(key, f"expected a name of its own, found {name!r}, also at {taken[name]}")
    taken[name] = table.key(key)


def _is_binding(text: str) -> bool:
    return text.isidentifier() and len(text.encode()) <= _LONGEST


def is_namespace_id(text: str) -> bool:
    """Whether a namespace of this id can have a folder of the same name."""
    folder = text.isprintable() and "/" not in text and text not in {"", ".", ".."}
    return folder and len(text.encode()) <= _LONGEST
