"""What is to be done to a worker's objects, from its config and from what was done before.

A pure function. Objects are known by their ids, which are made from the class' origin and so tell
which class' they are, whatever name they are entered under. So a plan names, for each class that
has to move, the name its objects have and the name they get; carried out twice, or half and then
again, it does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.migrations.record import Kept
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.config import Config, Migration
    from runtime.migrations.record import Record

__all__ = ["Conflict", "Move", "Plan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Move:
    """What happens to the objects of a class."""

    name: str
    """The class they are entered under."""
    origin: str
    """What their ids are made from."""
    to: str | None
    """The class they are entered under afterwards; None: they are deleted."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What the plan must not meet: objects of a class."""

    name: str
    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's text."""

    pending: tuple[Migration, ...]
    """Migrations that were not applied, or not to their end."""
    moves: tuple[Move, ...]
    conflicts: tuple[Conflict, ...]
    strangers: Mapping[str, Kept]
    """Classes that were there and that the config does not know: left alone, if they have objects."""
    classes: Mapping[str, Kept]
    """The classes of the config."""


def make_plan(config: Config, record: Record) -> Plan:
    """Return the plan. Raises ConfigError when the config's history is another than the data's."""
    pending = _pending(config.migrations, record)
    living = {
        name: Kept(config.origin(name), backend)
        for backend, names in (("kv", config.kv_classes), ("sqlite", config.sqlite_classes))
        for name in names
    }
    # Where nothing was applied yet, a class that lives under its own name is that of the config.
    stays = {
        name: name
        for name, kept in record.classes.items()
        if not record.applied and name in living and living[name].origin == kept.origin
    }
    now = {name: name for name in record.classes if name not in stays}
    moves: list[Move] = []
    conflicts: list[Conflict] = []
    for step in pending:
        for name in step.deleted_classes:
            if name in now:
                was = now.pop(name)
                moves.append(Move(was, record.classes[was].origin, None))
        for old, new in step.renamed_classes:
            if new in now:
                was = now.pop(new)
                why = f"migration {step.tag!r} renames {old} to {new}, which has objects already"
                conflicts.append(Conflict(was, record.classes[was].origin, why))
            if old in now:
                now[new] = now.pop(old)
    strangers = {}
    for name, was in (now | stays).items():
        kept = record.classes[was]
        if name != was:
            moves.append(Move(was, kept.origin, name))
        if name not in living:
            strangers[was] = kept
        elif kept.origin != living[name].origin:
            conflicts.append(Conflict(was, kept.origin, _strange(name, kept, living[name])))
        elif kept.backend not in {"", living[name].backend}:
            conflicts.append(Conflict(was, kept.origin, _converted(name, kept, living[name])))
    return Plan(pending, tuple(moves), tuple(conflicts), strangers, living)


def _pending(migrations: Sequence[Migration], record: Record) -> tuple[Migration, ...]:
    """Return the migrations that follow those that were applied, in the same order."""
    if not migrations and not record.begun:
        return ()  # a program that keeps no history, or a config without one
    tags = [step.tag for step in migrations]
    for index, tag in enumerate((*record.applied, *record.begun)):
        if tag not in tags:
            how = "applied" if index < len(record.applied) else "begun, and must be finished"
            raise ConfigError(
                f"migration {tag!r} was {how} in this data directory, and the config has it no "
                "more: put it back, or use another data directory"
            )
        if tags[index] != tag:
            raise ConfigError(
                f"migration {tags[index]!r} stands before {tag!r}, which was applied in this data "
                "directory: new migrations go to the end of the list, and old ones stay in order"
            )
    return tuple(migrations[len(record.applied) :])


def _strange(name: str, kept: Kept, living: Kept) -> str:
    return (
        f"the ids of class {name} were made from {kept.origin!r}, and by this config they would be "
        f"made from {living.origin!r}: it would not find its objects. Keep all migrations that "
        "were ever applied in the config"
    )


def _converted(name: str, kept: Kept, living: Kept) -> str:
    spelling = {"kv": "new_classes", "sqlite": "new_sqlite_classes"}
    return (
        f"class {name} was created with {spelling[kept.backend]}, has objects, and cannot become "
        f"one of {spelling[living.backend]}: delete the class in a migration, or name a new one"
    )
