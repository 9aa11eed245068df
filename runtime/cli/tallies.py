"""What a `roost map` tells in the end: how much, how fast, what failed, who took long.

Its memory is bounded whatever the number of keys: of times by key only the largest are kept, and
beyond a million keys it stops counting them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli.table import plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime import HostStatus
    from runtime.batch.pump import Tally

SAMPLES: Final = 5
"""Failures and slow keys that are shown."""

_MOST_TIMES: Final = 10_000
_MOST_KEYS: Final = 1_000_000


class Tallies:
    """See the module's text."""

    def __init__(self) -> None:
        self._seconds: dict[Any, float] = {}
        self._keys: set[int] = set()
        self._failures: list[str] = []

    def ran(self, key: Any, seconds: float) -> None:
        """Take note of a run of a key, and how long it took."""
        if len(self._keys) < _MOST_KEYS:
            self._keys.add(hash(key))
        times = self._seconds
        times[key] = times.get(key, 0.0) + seconds
        if len(times) > _MOST_TIMES:
            kept = heapq.nlargest(_MOST_TIMES // 2, times.items(), key=lambda pair: pair[1])
            self._seconds = dict(kept)

    def failed(self, key: Any, text: str) -> None:
        """Take note of a failure."""
        if len(self._failures) < SAMPLES:
            self._failures.append(f"{key}: {text}")

    def show(
        self,
        tally: Tally,
        failed_before: int,
        seconds: float,
        hosts: Sequence[HostStatus],
        busy_before: Mapping[int, float],
    ) -> None:
        """Print the summary on standard error."""
        more = "more than " if len(self._keys) >= _MOST_KEYS else ""
        rate = tally.done / seconds if seconds else 0.0
        text = f"{tally.done:,} items of {more}{len(self._keys):,} keys in {seconds:.1f} s"
        click.echo(f"{text}, {rate:,.0f} a second", err=True)
        if tally.skipped:
            failed = f", of which {failed_before:,} failed" if failed_before else ""
            click.echo(f"{tally.skipped:,} items were done before{failed}", err=True)
        if tally.retried:
            click.echo(f"{tally.retried:,} items were sent again", err=True)
        if tally.failed:
            click.echo(click.style(f"{tally.failed:,} items failed", fg="red"), err=True)
            for text in self._failures:
                click.echo(f"  {text}", err=True)
        rows = []
        for host in hosts:
            busy = max(0.0, host.busy_s - busy_before.get(host.host, 0.0))
            share = min(1.0, busy / seconds) if seconds else 0.0  # it tells of itself now and then
            rows.append((str(host.host), f"{busy:.1f} s", f"{share:.0%}"))
        click.echo(plain_table(("host", "busy", "share"), rows, ("busy", "share")), err=True)
        slowest = heapq.nlargest(SAMPLES, self._seconds.items(), key=lambda pair: pair[1])
        if slowest:
            named = ", ".join(f"{key} {taken:.2f} s" for key, taken in slowest)
            click.echo(f"slowest keys: {named}", err=True)
