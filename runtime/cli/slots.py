"""`roost slots`: which host has which slots of a running instance, and moving one by hand."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.cli.table import say_json, show
from runtime.client.instance import find
from runtime.client.sync_runtime import connect
from runtime.directories import run_directory
from runtime.roster import Roster

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def slots() -> None:
    """See and change which host has which objects.

    Objects belong to slots by their ids, and each slot to a host. When one host stays much busier than
    another, a slot moves by itself, and a start deals them out by what they took before, unless
    `[roost] balance = false`.

    \b
    Examples:
      roost slots list
      roost slots move 5 1
    """


@slots.command("list")
@common.options(
    click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    common.config_option,
    common.data_dir_option,
)
def list_(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """List the slots of a running instance.

    \b
    slot  its number
    host  the host that owns it
    busy  seconds of processor time that its objects took since the instance started, about

    \b
    Examples:
      roost slots list
      roost slots list --json | jq 'max_by(.busy_s)'
    """
    data = common.data_directory(config, data_dir)
    with closing(find(data).connection):
        roster = Roster.open(run_directory(data) / "roster")
        rows = list(zip(roster.owners, roster.busy, strict=True))
    if as_json:
        say_json(
            [{"slot": n, "host": host, "busy_s": ns / 1e9} for n, (host, ns) in enumerate(rows)]
        )
    else:
        cells = [(str(n), str(host), f"{ns / 1e9:.1f} s") for n, (host, ns) in enumerate(rows)]
        show(("slot", "host", "busy"), cells, ("slot", "host", "busy"))


@slots.command()
@click.argument("slot", type=int)
@click.argument("host", type=int)
@common.options(common.config_option, common.data_dir_option)
def move(slot: int, host: int, config: Path | None, data_dir: Path | None) -> None:
    """Move a slot to another host, with all its objects, while calls go on.

    Calls of its objects wait for some milliseconds, WebSockets stay connected; what objects keep in
    memory alone is gone, as after an eviction. The slot stays, and the exit code is 1, when an event of
    theirs goes on for longer than a second, and at once when one has a WebSocket that was accepted with
    accept(): only its instance can hear that. The error names the object.

    \b
    Examples:
      roost slots move 5 1
      roost slots move 5 1 --data-dir /var/lib/rooms
    """
    with connect(common.data_directory(config, data_dir)) as rt:
        try:
            rt.move_slot(slot, host)
        except ValueError as wrong:
            raise click.UsageError(str(wrong)) from wrong
    click.echo(f"slot {slot} is at host {host}")
