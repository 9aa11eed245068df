"""The worker that a command is given: its folder, its config, or a Python file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.config import find, from_keywords, load
from workers import DurableObject
from workers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.config import Config
    from runtime.config.bindings import ObjectBinding


def worker(script: Path, namespace: str, env: str | None) -> Config:
    """Return the configuration of a worker: a folder, a config, or a Python file with or without one.

    Without one, `namespace` is the name of a class in the file. Raises ConfigError.
    """
    if script.suffix != ".py":
        return load(find(script) if script.is_dir() else script, env)
    script = script.resolve()
    for folder in (script.parent, script.parent.parent):
        try:
            config = load(find(folder), env)
        except ConfigError:
            continue
        if config.main is not None and config.main.resolve() == script:
            return config
    if not namespace.isidentifier():
        raise ConfigError(f"name a class in {script}, which has no config, not {namespace!r}")
    named = type(namespace, (DurableObject,), {})
    config = from_keywords(objects={namespace: named})
    return replace(config, main=script, root=script.parent)


def bound(config: Config, namespace: str) -> ObjectBinding:
    """Return the binding of a worker that has this name, or is of the class of it. Raises ConfigError."""
    for binding in config.objects:
        if namespace in {binding.name, binding.class_name}:
            return binding
    known = ", ".join(f"{b.name} ({b.class_name})" for b in config.objects) or "none"
    raise ConfigError(f"the worker has no namespace {namespace!r}; it has {known}")
