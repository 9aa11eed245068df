"""Options and look-ups that several commands share."""

from __future__ import annotations

import os
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import runtime
from runtime.config import find, load
from runtime.directories import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.config import Config

_PATH: type[Path] = Path

_RUNTIME = f"{Path(runtime.__file__).parent}{os.sep}"

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(exists=True, path_type=_PATH),
    metavar="FILE",
    help="The worker's config, or the folder it is in. Default: wrangler.json, .jsonc or .toml here.",
)

env_option = click.option(
    "--env", "-e", envvar="CLOUDFLARE_ENV", metavar="NAME", help="Use [env.NAME] of the config."
)

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=_PATH),
    metavar="DIR",
    help="Where storage and KV live. Default: .roost beside the config.",
)


class InOrder(click.Group):
    """Lists its commands as they were added, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names of the commands."""
        return list(self.commands)


class Number(click.FloatRange):
    """A number of a range. `nan` is in none, though no comparison says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def options(*added: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Add options to a command; its help lists them in this order."""

    def add(command: Any) -> Any:
        for option in reversed(added):
            command = option(command)
        return command

    return add


def load_config(place: Path | None, env: str | None) -> Config:
    """Load a worker's configuration: a file, that of a folder, or of this one. Raises ConfigError."""
    place = place or Path()
    return load(find(place) if place.is_dir() else place, env)


def data_directory(config: Path | None, data_dir: Path | None) -> Path:
    """Return the data directory that is meant, which may not be there."""
    if data_dir is not None:
        return data_dir
    place = config or Path()
    return (place if place.is_dir() else place.parent) / DATA


def short(path: Path) -> str:
    """Return a path as a person would write it here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def described(error: Exception) -> str:
    """Return what a method raised, and where in the script."""
    trace = getattr(error, "remote_traceback", None)
    lines = _of_script(str(trace)) if trace else [f"{type(error).__name__}: {error}"]
    return "\n".join([*getattr(error, "__notes__", ()), *lines])


def _of_script(trace: str) -> list[str]:
    """Return the lines of a traceback without those of what called the script."""
    lines: list[str] = []
    engine = False
    for line in trace.rstrip().splitlines():
        if line.startswith('  File "'):
            engine = line.startswith(f'  File "{_RUNTIME}')
        elif not line.startswith("    "):
            engine = False
            if lines and lines[-1].startswith("Traceback "):
                lines.pop()  # nothing of it is left
        if not engine:
            lines.append(line)
    return lines
