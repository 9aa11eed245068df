"""The Durable Object classes a worker has, after all its migrations in order.

A migration creates, renames or deletes classes; a class keeps for life the storage backend it was
created with, and its origin: the name it was created under, which the ids of its objects are made
from, so that a renamed class has its old objects. The rules and their order within one migration (deletions, renames, new classes) are
wrangler's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runtime.config.table import Table

__all__ = ["Classes", "Migration", "read_classes"]

_CLASS: Final = "the name of a class"
_KNOWN: Final = frozenset(
    {
        "deleted_classes",
        "new_classes",
        "new_sqlite_classes",
        "renamed_classes",
        "tag",
        "transferred_classes",
    }
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step in the history of a worker's classes."""

    tag: str
    """Names the step; no two steps share it."""
    new_classes: tuple[str, ...] = ()
    """Classes created with the key-value backend."""
    new_sqlite_classes: tuple[str, ...] = ()
    """Classes created with the SQLite backend."""
    renamed_classes: tuple[tuple[str, str], ...] = ()
    """Pairs of the old and the new name; the objects and their data go along."""
    deleted_classes: tuple[str, ...] = ()
    """Classes that end here, with all their objects."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that live at the end of the history."""

    migrations: tuple[Migration, ...] = ()
    sqlite: frozenset[str] = frozenset()
    kv: frozenset[str] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)
    """The origin of each living class; no two living classes share one."""
    gone: Mapping[str, str] = field(default_factory=dict)
    """What became of every class that lives no more."""


def read_classes(holder: Table) -> Classes:
    """Read and follow `migrations`.

    Raises ConfigError for a history that cannot be: a class created twice, one deleted or renamed
    that is not there, two steps of one tag.
    """
    migrations: dict[str, Migration] = {}
    backends: dict[str, str] = {}
    origins: dict[str, str] = {}
    gone: dict[str, str] = {}
    for table in holder.tables("migrations"):
        step = _read_migration(table)
        if step.tag in migrations:
            raise table.expected("tag", "a tag that no other migration has")
        migrations[step.tag] = step
        _follow(step, table, backends, origins, gone)
    return Classes(
        migrations=tuple(migrations.values()),
        sqlite=frozenset(name for name, backend in backends.items() if backend == "sqlite"),
        kv=frozenset(name for name, backend in backends.items() if backend == "kv"),
        origins=origins,
        gone=gone,
    )


def _read_migration(table: Table) -> Migration:
    table.allow(_KNOWN)
    if table.data.get("transferred_classes"):
        raise table.error(
            "transferred_classes", "Roost runs one worker; no class can come from another"
        )
    renamed = []
    for pair in table.tables("renamed_classes"):
        pair.allow({"from", "to"})
        old = pair.text("from", _CLASS, str.isidentifier)
        renamed.append((old, pair.text("to", _CLASS, str.isidentifier)))
    return Migration(
        tag=table.text("tag", "the name of this migration"),
        new_classes=table.texts("new_classes", _CLASS, str.isidentifier),
        new_sqlite_classes=table.texts("new_sqlite_classes", _CLASS, str.isidentifier),
        renamed_classes=tuple(renamed),
        deleted_classes=table.texts("deleted_classes", _CLASS, str.isidentifier),
    )


def _follow(
    step: Migration,
    table: Table,
    backends: dict[str, str],
    origins: dict[str, str],
    gone: dict[str, str],
) -> None:
    """Apply one step to the living classes (`backends`, `origins`) and the dead (`gone`)."""
    for index, name in enumerate(step.deleted_classes):
        if backends.pop(name, None) is None:
            raise table.error(f"deleted_classes[{index}]", f"there is no class {name!r} to delete")
        del origins[name]
        gone[name] = f"deleted by migration {step.tag!r}"
    for index, (old, new) in enumerate(step.renamed_classes):
        backend = backends.pop(old, None)
        if backend is None:
            raise table.error(
                f"renamed_classes[{index}].from", f"there is no class {old!r} to rename"
            )
        if new in backends:
            raise table.error(f"renamed_classes[{index}].to", f"there is a class {new!r} already")
        backends[new] = backend
        origins[new] = origins.pop(old)
        gone.pop(new, None)
        gone[old] = f"renamed to {new!r} by migration {step.tag!r}"
    for key, backend in (("new_classes", "kv"), ("new_sqlite_classes", "sqlite")):
        for index, name in enumerate(getattr(step, key)):
            if name in backends:
                raise table.error(f"{key}[{index}]", f"there is a class {name!r} already")
            backends[name] = backend
            # A class that left this name by being renamed took it along as its origin.
            origins[name] = f"{name}@{step.tag}" if name in origins.values() else name
            gone.pop(name, None)
