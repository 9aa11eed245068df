"""`roost migrate`: what renamed and deleted classes mean for the objects that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.directories import claim, kept_free, release
from runtime.migrations import Survey
from runtime.migrations import migrate as carry_out
from runtime.migrations import survey as look

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@common.options(
    click.option("--dry-run", is_flag=True, help="Only print what would be done."),
    common.config_option,
    common.env_option,
    common.data_dir_option,
)
def migrate(config: Path | None, env: str | None, data_dir: Path | None, *, dry_run: bool) -> None:
    """Apply the config's migrations to the objects that are there.

    Classes of renamed_classes keep their objects, with ids, data and alarms; those of
    deleted_classes are deleted with all that they have stored. dev, serve and map do the same when
    they start, so this command is for looking first. Each migration is applied once. The instance
    has to be stopped.

    \b
    Examples:
      roost migrate --dry-run
      roost migrate
      roost migrate --env staging --data-dir /var/lib/rooms
    """
    read = common.load_config(config, env)
    data = common.data_directory(config, data_dir)
    if not (data / "lock").is_file():
        click.echo(f"nothing to do: nothing was ever stored in {data}", err=True)
        return
    if dry_run:
        with kept_free(data):
            found = look(read, data)
        _show(found)
        return
    directories = claim(data, hosts=1, slots=None)
    try:
        lines = carry_out(read, directories.data)
    finally:
        release(directories)
    for line in lines or ["nothing to do: all migrations are applied"]:
        click.echo(line)


def _show(found: Survey) -> None:
    for tag in found.record.applied:
        click.echo(f"migration {tag}: applied")
    for step in found.plan.pending:
        click.echo(f"migration {step.tag}: to be applied")
    for line in found.steps:
        click.echo(f"  {line}")
    for name in found.strangers:
        click.echo(f"  class {name} is in neither migrations nor bindings; its objects stay")
    if not found.plan.pending:
        click.echo("nothing to do")
