"""`roost status`: how the hosts of a running instance fare.

The figures are those of the roster, the table in shared memory that hosts write themselves, so that
looking costs a host nothing, and shows one that is stuck.
"""

from __future__ import annotations

import json
import select
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from runtime import control
from runtime.cli import common
from runtime.cli.table import plain_table, say_json, show, write
from runtime.client.instance import config_of, find
from runtime.directories import run_directory
from runtime.roster import Roster
from runtime.status import HostStatus, status_of
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

EVERY = 1.0
"""Seconds between two looks of --watch."""

_SECOND_SCREEN, _FIRST_SCREEN, _CLEAR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H\x1b[2J"


@click.command()
@common.options(
    click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    click.option("--watch", is_flag=True, help="Look every second, until Ctrl-C."),
    common.config_option,
    common.data_dir_option,
)
def status(config: Path | None, data_dir: Path | None, *, as_json: bool, watch: bool) -> None:
    """Show how the hosts of a running instance fare.

    \b
    host        its number
    pid         its process; 0 while it is being replaced
    generation  how many processes have been this host
    state       up, starting, leaving or down
    slots       how many of the slots of objects it owns
    calls       calls it has taken since it started
    calls/s     the same a second, with --watch
    objects     objects that are live in it now
    waiting     events under way, and those in mailboxes
    busy        processor time its events took: seconds, or with --watch percent of a core
    event       how long the work under way has been running; what grows here is stuck

    Below stand the busiest objects of each host, with the part of a core that they took in the last
    ten seconds or so. Which slots a host owns is in the JSON, and in `roost slots list`.

    When none runs on the data directory, that is said, and the exit code is 1.

    \b
    Examples:
      roost status
      roost status --watch
      roost status --json | jq '.hosts[].pid'
      roost status --data-dir /var/lib/rooms
    """
    data = common.data_directory(config, data_dir)
    with closing(find(data).connection) as connection:
        roster = Roster.open(run_directory(data) / "roster")
        about = _About(config_of(data).name, data, roster.supervisor, roster.slots)
        if not watch:
            look = _look(roster)
            if as_json:
                say_json(about.as_json(look))
            else:
                click.echo(about.line(look))
                show(_HEADERS, _cells(look), _NUMBERS)
                _show_busiest(look)
            return
        looks = _every_second(roster, connection)
        try:
            if as_json:
                for look in looks:
                    write(json.dumps(about.as_json(look)) + "\n")
            elif sys.stdout.isatty():
                _watch(about, looks)
            else:
                for look in looks:
                    write(plain_table(_HEADERS, _cells(look), _NUMBERS) + "\n\n")
                    _show_busiest(look, end="\n")
        except KeyboardInterrupt:
            return
        raise RuntimeClosed(f"the instance on {data} has ended")


@dataclass(frozen=True, slots=True)
class _About:
    """What stays the same while an instance runs."""

    worker: str
    data: Path
    supervisor: int
    slots: int

    def line(self, look: _Look) -> str:
        hosts = len(look.hosts)
        return (
            f"{self.worker}: {hosts} host{'s' * (hosts != 1)}, {self.slots} slots, supervisor "
            f"{self.supervisor}, data in {common.short(self.data)}"
        )

    def as_json(self, look: _Look) -> dict[str, object]:
        return {
            "worker": self.worker,
            "data": str(self.data.resolve()),
            "supervisor": self.supervisor,
            "slots": self.slots,
            "hosts": [
                asdict(host)
                if rate is None
                else {**asdict(host), "calls_per_s": rate.calls, "busy": rate.busy}
                for host, rate in zip(look.hosts, look.rates, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True)
class _Rate:
    """What a host did since the look before."""

    calls: float
    """Calls a second."""
    busy: float
    """Part of the time, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Look:
    """The figures of all hosts at a moment."""

    at: float
    hosts: list[HostStatus]
    rates: list[_Rate | None]
    """None where there is nothing to compare: at the first look, and for a host that was replaced."""


def _look(roster: Roster, before: _Look | None = None) -> _Look:
    hosts, at = status_of(roster), time.monotonic()
    rates: list[_Rate | None] = [None] * len(hosts)
    if before is not None:
        seconds = at - before.at
        for number, (was, now) in enumerate(zip(before.hosts, hosts, strict=True)):
            if was.pid == now.pid:
                rates[number] = _Rate(
                    round((now.calls - was.calls) / seconds, 1),
                    round((now.busy_s - was.busy_s) / seconds, 3),
                )
    return _Look(at, hosts, rates)


def _every_second(roster: Roster, connection: socket.socket) -> Iterator[_Look]:
    """Look every second, until the instance ends."""
    look = None
    while True:
        look = _look(roster, look)
        yield look
        due = time.monotonic() + EVERY
        while (left := due - time.monotonic()) > 0:
            # The supervisor tells its clients of changes; here only its end matters.
            if select.select([connection], [], [], left)[0] and control.hear(connection) is None:
                return


_HEADERS = (
    "host", "pid", "generation", "state", "slots", "calls", "calls/s", "objects", "waiting",
    "busy", "event",
)  # fmt: skip
_NUMBERS = tuple(header for header in _HEADERS if header != "state")


def _cells(look: _Look) -> list[tuple[str, ...]]:
    return [
        (
            str(host.host),
            str(host.pid),
            str(host.generation),
            host.state,
            str(host.slots),
            f"{host.calls:,}",
            "-" if rate is None else f"{rate.calls:,.0f}",
            f"{host.objects:,}",
            f"{host.waiting:,}",
            f"{host.busy_s:.1f} s" if rate is None else f"{rate.busy:.0%}",
            f"{host.event_s:.1f} s" if host.event_s else "-",
        )
        for host, rate in zip(look.hosts, look.rates, strict=True)
    ]


def _show_busiest(look: _Look, end: str = "") -> None:
    """Show the busiest objects, if any are busy."""
    rows = [
        (str(host.host), f"{each.busy:.0%}", each.class_name, each.name or each.id)
        for host in look.hosts
        for each in host.busiest
    ]
    if rows:
        write("\n" * (not end))
        show(("host", "busy", "class", "object"), rows, ("host", "busy"))
        write(end)


def _watch(about: _About, looks: Iterator[_Look]) -> None:
    """Keep a table on a terminal's second screen, so that what stood there comes back."""
    write(_SECOND_SCREEN)
    try:
        for look in looks:
            write(f"{_CLEAR}{about.line(look)}\n\n")
            show(_HEADERS, _cells(look), _NUMBERS)
            _show_busiest(look)
    finally:
        write(_FIRST_SCREEN)
