"""What a data directory remembers of each worker's migrations: `migrations.json`.

Which were applied, which have been begun, and what the classes were afterwards. Workers are apart by
their names, because the environments of one config share a data directory. Written by whoever has
claimed the directory, whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from runtime.directories import write_private
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FORMAT", "Kept", "Record", "load", "save"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A class that may have objects."""

    origin: str
    """The name that the ids of its objects are made from."""
    backend: str
    """"kv" or "sqlite"; "" when nobody wrote it down."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one worker."""

    applied: tuple[str, ...] = ()
    """Tags of migrations, in order."""
    begun: tuple[str, ...] = ()
    """Those that follow, while they are being applied; they must be finished."""
    classes: Mapping[str, Kept] = field(default_factory=dict)
    """The classes after those that were applied, by name."""


def load(data: Path, worker: str) -> Record | None:
    """Return what a data directory remembers of a worker. Raises ConfigError."""
    kept = _read(data).get(worker)
    if kept is None:
        return None
    try:
        classes = {name: Kept(**known) for name, known in kept["classes"].items()}
        return Record(tuple(kept["applied"]), tuple(kept["begun"]), classes)
    except (KeyError, TypeError, AttributeError) as cause:
        raise ConfigError(f"{_path(data)} cannot be read: {cause!r}") from cause


def save(data: Path, worker: str, record: Record) -> None:
    """Remember a worker's migrations; on disk when this returns."""
    workers = _read(data) | {worker: asdict(record)}
    text = json.dumps({"format": FORMAT, "workers": workers}, indent=1)
    write_private(_path(data), text.encode(), durable=True)


def _path(data: Path) -> Path:
    return data / "migrations.json"


def _read(data: Path) -> dict[str, Any]:
    path = _path(data)
    try:
        kept = json.loads(path.read_bytes())
        version, workers = int(kept["format"]), dict(kept["workers"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as cause:
        raise ConfigError(f"{path} cannot be read: {cause!r}") from cause
    if version > FORMAT:
        raise ConfigError(f"{path} was written by a newer Roost (format {version})")
    return workers
