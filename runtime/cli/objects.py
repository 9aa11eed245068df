"""`roost objects`: which Durable Objects have stored something."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.cli.table import say_json_list, show
from runtime.client.sync_runtime import connect
from runtime.directories import kept_free
from runtime.storage.layout import stored_objects
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.storage import ObjectRecord


@click.group(cls=common.InOrder)
def objects() -> None:
    """Look at Durable Objects from outside.

    \b
    Examples:
      roost objects list
      roost objects list --class Room --json | jq -r '.[].id'
    """


@objects.command("list")
@common.options(
    click.option("--class", "class_name", metavar="NAME", help="Only objects of this class."),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        metavar="N",
        help="At most so many.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    common.config_option,
    common.data_dir_option,
)
def list_(
    class_name: str | None,
    limit: int,
    config: Path | None,
    data_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """List the objects that have stored something.

    Each with class, name, when it first stored something, and id. A running instance is asked; when none runs, the files of the data directory are read. An
    object that never stored anything is nowhere. The name is known of objects that were addressed
    by one.

    \b
    Examples:
      roost objects list
      roost objects list --class Room --limit 10
      roost objects list --json | jq -r '.[] | select(.name == "ada") | .id'
    """
    data = common.data_directory(config, data_dir)
    if not data.is_dir():
        raise click.ClickException(
            f"there is no data directory {data}: `roost dev` makes one, --data-dir names another"
        )
    found = _find(data, class_name, limit + 1)
    listed = sorted(found[:limit], key=lambda record: (record.class_name, record.created))
    if as_json:
        say_json_list(
            {
                "class": record.class_name,
                "id": str(record.id),
                "name": record.name,
                "created": _moment(record).isoformat().replace("+00:00", "Z"),
            }
            for record in listed
        )
    elif listed:
        show(
            ("class", "name", "created", "id"),
            [
                (
                    record.class_name,
                    "-" if record.name is None else _printable(record.name),
                    f"{_moment(record).astimezone():%Y-%m-%d %H:%M:%S}",
                    str(record.id),
                )
                for record in listed
            ],
        )
    else:
        of = f" of class {class_name}" if class_name is not None else ""
        click.echo(f"no object{of} has stored anything in {data}", err=True)
    if len(found) > limit:
        click.echo(f"there are more than {limit:,}: see --limit and --class", err=True)


def _find(data: Path, class_name: str | None, limit: int) -> list[ObjectRecord]:
    try:
        runtime = connect(data)
    except RuntimeClosed:
        try:
            with kept_free(data):
                return list(islice(stored_objects(data, class_name), limit))
        except FileNotFoundError:  # no instance ever ran here
            return []
    try:
        return runtime.objects(class_name, limit=limit)
    finally:
        runtime.close()


def _moment(record: ObjectRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _printable(name: str) -> str:
    """A name on one line, whatever it holds; it may come from a stranger's request."""
    return name if name.isprintable() else repr(name)
