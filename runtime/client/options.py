"""What a program says to get an instance: a worker's configuration, or classes and names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.client.instance import Instance, start
from runtime.config import Config, find, from_keywords, load
from runtime.directories import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers import DurableObject, WorkerEntrypoint


@dataclass(frozen=True, slots=True)
class Options:
    """A checked request for an instance."""

    config: Config
    data: Path
    hosts: int
    objects: Mapping[str, type[DurableObject]] | None
    entrypoint: type[WorkerEntrypoint] | None
    log_level: str

    def start(self) -> Instance:
        """Start the instance."""
        return start(
            self.config, self.data, self.hosts, self.objects, self.entrypoint, self.log_level
        )


def options(
    worker: str | Path | None,
    *,
    objects: Mapping[str, type[DurableObject]] | None,
    kv: Sequence[str] | Mapping[str, str],
    vars: Mapping[str, object] | None,  # noqa: A002  (the name in wrangler.toml)
    entrypoint: type[WorkerEntrypoint] | None,
    name: str,
    data_dir: str | Path | None,
    hosts: int | None,
    env: str | None,
    log_level: str,
    settings: dict[str, Any],
) -> Options:
    """Check what Runtime() was given. Raises ConfigError."""
    if worker is not None:
        if objects or kv or vars or entrypoint or settings:
            raise TypeError(
                "Runtime() takes either a worker's folder or file, or objects=, kv=, vars= and "
                "settings; not both"
            )
        path = Path(worker)
        config = load(find(path) if path.is_dir() else path, env)
        base = config.root
    else:
        config = from_keywords(objects=objects, kv=kv, vars=vars, name=name, **settings)
        base = Path.cwd()
    return Options(
        config,
        Path(data_dir) if data_dir is not None else base / DATA,
        hosts or config.hosts or os.cpu_count() or 1,
        objects,
        entrypoint,
        log_level,
    )
