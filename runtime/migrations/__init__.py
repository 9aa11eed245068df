"""Migrations of a worker's classes, carried out on the objects of a data directory.

Renamed classes keep their objects with ids, data and alarms; deleted ones lose them. It happens
once, before hosts start, by whoever has claimed the directory. A kill at any moment leaves something
that the next start finishes: what has begun is written down first, each slot file moves in whole
transactions, an object's own file goes before its place in the register, and what was applied is
written down last.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime.directories import sync_directory
from runtime.ids import NamespaceKey
from runtime.migrations.plan import Move, make_plan
from runtime.migrations.record import Kept, Record, load, save
from runtime.storage import Change, SlotFile
from runtime.storage.layout import own_files, slot_files
from runtime.storage.object_file import remove_parts
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from runtime.config import Config
    from runtime.migrations.plan import Plan

__all__ = ["Survey", "migrate", "survey"]

_AT_ONCE = 1000
"""Objects that are deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is, and what migrating does to it."""

    record: Record
    plan: Plan
    steps: tuple[str, ...]
    """A line for each class whose objects move or go."""
    strangers: tuple[str, ...]
    """Classes with objects that the config does not know."""


def survey(config: Config, data: Path) -> Survey:
    """Look at what migrating an unused data directory would do; changes nothing.

    Raises ConfigError when config and data do not fit together, StorageError.
    """
    known = load(data, config.name)
    record = Record(classes=_found(config, data)) if known is None else known
    plan = make_plan(config, record)
    for conflict in plan.conflicts:
        if _has_objects(config, data, conflict.name, conflict.origin):
            raise ConfigError(f"{data}: {conflict.why}")
    steps = tuple(
        _line(move, sum(1 for _ in _objects(config, data, move.name, move.origin)))
        for move in plan.moves
    )
    strangers = tuple(
        name
        for name, kept in plan.strangers.items()
        if _has_objects(config, data, name, kept.origin)
    )
    return Survey(record, plan, steps, strangers)


def migrate(config: Config, data: Path) -> list[str]:
    """Bring a claimed data directory up to date with a config; returns what to tell the user.

    Nothing is changed when config and data do not fit together: raises ConfigError. A StorageError
    may leave it half done, for the next start to finish.
    """
    found = survey(config, data)
    record, plan = found.record, found.plan
    tags = tuple(step.tag for step in plan.pending)
    if plan.moves:
        save(data, config.name, replace(record, begun=tags))
        for slot, path in slot_files(data):
            for move in plan.moves:
                _carry_out(config, data, slot, path, move)
    classes = {name: plan.strangers[name] for name in found.strangers} | dict(plan.classes)
    after = Record((*record.applied, *tags), (), classes)
    if after != load(data, config.name):
        save(data, config.name, after)
    return [
        *(f"migrated: {step}" for step in found.steps),
        *(
            f"class {name} has objects in {data}, and is in neither migrations nor bindings: they "
            "are left alone"
            for name in found.strangers
        ),
    ]


def _line(move: Move, count: int) -> str:
    objects = f"{count:,} object{'s' * (count != 1)}"
    if move.to is None:
        return f"class {move.name} is deleted, with {objects} and all they have stored"
    return f"class {move.name} is renamed to {move.to}, with {objects}, their ids, data and alarms"


def _carry_out(config: Config, data: Path, slot: int, path: Path, move: Move) -> None:
    """Do to a slot what a move says."""
    with closing(SlotFile(path)) as file:
        if move.to is not None:
            file.rename([*_owned(config, file, move.name, move.origin)], move.to)
            return
        key = NamespaceKey(f"{config.name}-{move.origin}")
        gone = [raw for raw in file.owners() if key.owns(raw)]
        files = dict(own_files(data, slot))
        for at in range(0, len(gone), _AT_ONCE):
            chunk = gone[at : at + _AT_ONCE]
            own = [files[raw] for raw in chunk if raw in files]
            for its in own:
                remove_parts(its)
            if own:  # a file must not come back when its object has left the register
                sync_directory(own[0].parent)
            file.commit([Change.gone(raw, move.name) for raw in chunk])
        for raw, its in files.items():
            if key.owns(raw):  # begun by a host that was killed, and never registered
                remove_parts(its)
        if gone:
            file.shrink()


def _found(config: Config, data: Path) -> dict[str, Kept]:
    """Return the classes of a worker that have objects, where nobody has written them down."""
    names: dict[str, NamespaceKey] = {}
    found = {}
    for _, path in slot_files(data):
        with closing(SlotFile(path)) as file:
            for its in file.objects():
                name = its.class_name
                if name not in names:
                    names[name] = NamespaceKey(f"{config.name}-{name}")
                if name not in found and names[name].owns(its.id.raw):
                    found[name] = Kept(name, "")
    return found


def _has_objects(config: Config, data: Path, name: str, origin: str) -> bool:
    with closing(_objects(config, data, name, origin)) as found:
        return next(found, None) is not None


def _objects(config: Config, data: Path, name: str, origin: str) -> Generator[bytes, None, None]:
    """Yield the objects that are entered under a class and whose ids have an origin."""
    for _, path in slot_files(data):
        with closing(SlotFile(path)) as file:
            yield from _owned(config, file, name, origin)


def _owned(config: Config, file: SlotFile, name: str, origin: str) -> Iterator[bytes]:
    key = NamespaceKey(f"{config.name}-{origin}")
    return (its.id.raw for its in file.objects(name) if key.owns(its.id.raw))
