"""`roost objects`: which Durable Objects have stored something, and what.

A stored value is a pickle of its object's own, and this process runs nobody's code: values are
exported as far as they can be read without (see `portable`).
"""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.cli.object_choice import Choice, choice, reached, stored_nothing
from runtime.cli.portable import moment, portable
from runtime.cli.table import say_json, say_json_list
from runtime.cli.table import show as show_table
from runtime.client.reach import reach
from runtime.directories import export_folder

if TYPE_CHECKING:
    from runtime.storage import ObjectRecord

_PATH: type[Path] = Path


@click.group(cls=common.InOrder)
def objects() -> None:
    """Look at Durable Objects from outside, and delete them.

    An object is named by its id, or by --name and, when the worker has several classes, --class.

    \b
    Examples:
      roost objects list
      roost objects list --class Room --json | jq -r '.[].id'
      roost objects show --name ada
      roost objects export --class Room -o rooms.jsonl
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

    Each with class, name, when it first stored something, and id. A running instance is asked; when
    none runs, the files of the data directory are read. An object that never stored anything is
    nowhere. The name is known of objects that were addressed by one.

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
                "created": moment(record.created),
            }
            for record in listed
        )
    elif listed:
        show_table(
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
        with reach(data) as found:
            return found.objects(class_name, limit)
    except FileNotFoundError:  # no instance ever ran here
        return []


@objects.command()
@choice(click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."))
def show(its: Choice, *, as_json: bool) -> None:
    """Show what an object has stored and how it fares.

    Its class, name and slot; how many entries, and their bytes; its SQL tables with their rows;
    when its alarm rings; its host, whether its instance is in memory there, and how many WebSockets
    it has. All rows are counted, which takes the host of a large object a moment.

    \b
    Examples:
      roost objects show --name ada
      roost objects show --class Room --name lobby --json | jq .tables
    """
    with reached(its.data) as found:
        raw = its.of(found)
        shown = found.show(raw)
    if shown is None:
        raise stored_nothing(raw)
    facts = shown.facts
    about = {
        "class": facts.record.class_name,
        "id": str(facts.record.id),
        "name": facts.record.name,
        "created": moment(facts.record.created),
        "slot": facts.slot,
        "host": shown.host,
        "live": shown.live,
        "websockets": shown.sockets,
        "alarm": None if facts.alarm is None else moment(facts.alarm / 1000),
        "entries": facts.entries,
        "entry_bytes": facts.entry_bytes,
        "tables": dict(facts.tables),
        "file_bytes": facts.file_bytes,
    }
    if as_json:
        say_json(about)
        return
    tables = ", ".join(f"{_printable(table)} ({rows:,})" for table, rows in facts.tables)
    about |= {
        "name": "-" if facts.record.name is None else _printable(facts.record.name),
        "host": "no instance runs" if shown.host is None else shown.host,
        "live": "yes" if shown.live else "no",
        "alarm": about["alarm"] or "-",
        "entries": f"{facts.entries:,} ({facts.entry_bytes:,} bytes)",
        "file": "-" if facts.file_bytes is None else f"{facts.file_bytes:,} bytes in use",
        "tables": tables or "-",
    }
    for word, value in about.items():
        if not word.endswith("_bytes"):
            click.echo(f"{word:<10}  {value}")


@objects.command()
@choice(
    click.option(
        "--output",
        "-o",
        type=click.Path(dir_okay=False, path_type=_PATH),
        metavar="FILE",
        help="Write to a file, which must not be there. Default: the output.",
    ),
    click.option("--sqlite", is_flag=True, help="Write one object as an SQLite file; needs -o."),
)
def export(its: Choice, output: Path | None, *, sqlite: bool) -> None:
    """Write all that an object, or a class, has stored.

    As JSON lines. Each object is as it was at one moment, between two of its turns. Its first line
    tells class, name and alarm; then comes a line an entry, a line a table, a line a row:

    \b
      {"object": ID, "class": "Room", "name": "lobby", "created": TIME, "alarm": null}
      {"object": ID, "key": "visits", "value": 3}
      {"object": ID, "key": "seen", "type": "set", "pickle": BASE64}
      {"object": ID, "table": "log", "columns": ["at", "who"], "sql": "CREATE TABLE ..."}
      {"object": ID, "table": "log", "row": [1, "ada"]}

    A value that JSON cannot hold is written as the pickle that is stored; `type` says what it is, or
    which class it needs. Nothing is unpickled that would run code. Bytes in rows are {"base64": ...}.

    With --sqlite one object is written as a database: its tables, and entries (pickles) in _cf_KV,
    those over 16 KiB in _cf_LARGE.

    \b
    Examples:
      roost objects export --name ada
      roost objects export --class Room -o rooms.jsonl
      roost objects export --name ada --sqlite -o ada.sqlite
    """
    if sqlite and output is None:
        raise click.UsageError("--sqlite writes a file: name it with -o")
    if output is not None and output.exists():
        raise click.UsageError(f"{output} is there already")
    with reached(its.data) as found, export_folder(its.data) as folder:
        if its.object_id is None and its.name is None:
            if its.class_name is None or sqlite:
                raise click.UsageError(
                    "name an object: ID, or --name" + " or --class" * (not sqlite)
                )
            chosen = [record.id.raw for record in found.objects(its.class_name, sys.maxsize)]
        else:
            chosen = [its.of(found)]
        with ExitStack() as stack:
            lines = sys.stdout.buffer
            if output is not None and not sqlite:
                lines = stack.enter_context(output.open("xb"))
            for raw in chosen:
                copy = folder / f"{raw.hex()}.sqlite"
                record = found.copy(raw, copy)
                if record is None:
                    if len(chosen) == 1:
                        raise stored_nothing(raw)
                    continue  # deleted since it was listed
                if sqlite:
                    assert output is not None
                    shutil.move(copy, output)
                else:
                    for line in portable(copy, record):
                        lines.write(line)
                    copy.unlink()
            lines.flush()


@objects.command()
@choice(click.option("--yes", "-y", is_flag=True, help="Do not ask."))
def delete(its: Choice, *, yes: bool) -> None:
    """Delete an object with all that it has stored.

    Its entries, tables and alarm. While an instance runs, the live object is reset and its WebSockets
    are closed; calls under way fail with a retryable error, and the next call finds a new object
    without anything. That cannot be undone.

    \b
    Examples:
      roost objects delete --name ada
      roost objects delete --class Room --name lobby --yes
    """
    with reached(its.data) as found:
        raw = its.of(found)
        if not yes:
            shown = found.show(raw)
            if shown is None:
                raise stored_nothing(raw)
            facts = shown.facts
            called = "" if facts.record.name is None else f" {_printable(facts.record.name)}"
            rows = sum(count for _, count in facts.tables)
            click.confirm(
                f"delete {facts.record.class_name}{called} ({raw.hex()}), {facts.entries:,} entries and "
                f"{rows:,} rows?",
                abort=True,
                err=True,
            )
        if not found.delete(raw):
            raise stored_nothing(raw)


def _moment(record: ObjectRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _printable(name: str) -> str:
    """A name on one line, whatever it holds; it may come from a stranger's request."""
    return name if name.isprintable() else repr(name)
