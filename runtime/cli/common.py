"""Options and look-ups that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.config import find, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.config import Config

_PATH: type[Path] = Path


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add FOLDER and --env: which worker a command is about."""
    command = click.option(
        "--env", "-e", envvar="CLOUDFLARE_ENV", metavar="NAME", help="Use [env.NAME] of the config."
    )(command)
    return click.argument(
        "folder",
        default=".",
        type=click.Path(exists=True, path_type=_PATH),
    )(command)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that runs an instance."""
    for option in reversed(
        (
            click.option(
                "--hosts",
                type=click.IntRange(min=1),
                metavar="N",
                help="Processes that run objects. Default: one a core.",
            ),
            click.option(
                "--port",
                type=click.IntRange(0, 65_535),
                metavar="PORT",
                help="Default: dev.port of the config, or 8787. 0 takes a free one.",
            ),
            click.option(
                "--ip",
                metavar="ADDRESS",
                help="Default: dev.ip of the config, or 127.0.0.1, which only this machine reaches.",
            ),
            data_dir_option,
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"]),
                default="info",
                show_default=True,
                help="How much to tell; at error, only failed requests are logged.",
            ),
        )
    ):
        command = option(command)
    return command


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=_PATH),
    metavar="DIR",
    help="Where storage and KV live. Default: .roost beside the config.",
)


def load_config(folder: Path, env: str | None) -> Config:
    """Load the configuration of the worker in a folder, or of a file. Raises ConfigError."""
    return load(find(folder) if folder.is_dir() else folder, env)


def short(path: Path) -> str:
    """Return a path as a person would write it here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
