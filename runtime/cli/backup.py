"""`roost backup` and `roost restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.client.backups import back_up
from runtime.client.backups import restore as bring_back

if TYPE_CHECKING:
    from runtime.client.backups import Backup

_PATH: type[Path] = Path

_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=_PATH))


@click.command()
@_directory
@click.option("--no-history", is_flag=True, help="Leave out what bookmarks go back in.")
@common.options(common.config_option, common.data_dir_option)
def backup(
    directory: Path, config: Path | None, data_dir: Path | None, *, no_history: bool
) -> None:
    """Write a backup of all objects and KV into a new or empty DIR.

    The instance may run; its calls go on meanwhile. Each object in the backup is as it was at one
    moment between two of its turns, and each KV namespace too. A backup that was interrupted cannot
    be restored.

    The histories that bookmarks go back in are part of it, at most 64 MiB an object with SQL, or four times its
    file. Without them restored objects refuse older bookmarks.

    \b
    Examples:
      roost backup /var/backups/rooms-monday
      roost backup ../backup --data-dir /var/lib/rooms
      roost backup ../small --no-history
    """
    data = common.data_directory(config, data_dir)
    if not (data / "lock").is_file():
        raise click.ClickException(f"nothing was ever stored in {data}; --data-dir names another")
    made = back_up(data, directory, history=not no_history)
    click.echo(f"backed up {common.short(data)} in {directory}: {_size(made)}")


@click.command()
@_directory
@click.option("--force", is_flag=True, help="Move a data directory that is there aside.")
@common.options(common.config_option, common.data_dir_option)
def restore(directory: Path, config: Path | None, data_dir: Path | None, *, force: bool) -> None:
    """Bring back what a backup in DIR has.

    Into a data directory that is not there, or empty; with --force, the one that is there gets
    another name, and is not deleted. Every file is compared with the backup's manifest. The instance
    has to be stopped.

    \b
    Examples:
      roost restore /var/backups/rooms-monday
      roost restore ../backup --force
      roost restore ../backup --data-dir /tmp/look-into-it
    """
    data = common.data_directory(config, data_dir)
    made, aside = bring_back(directory, data, force=force)
    if aside is not None:
        click.echo(f"what was there is now in {common.short(aside)}")
    click.echo(f"restored {common.short(data)} as of {made.made}: {_size(made)}")


def _size(made: Backup) -> str:
    return f"{made.files:,} files, {made.bytes / 1e6:,.1f} MB"
