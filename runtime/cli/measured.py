"""What `roost bench` has found out: a page of figures for people, JSON for programs."""

from __future__ import annotations

import sys
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli.load import EVERY
from runtime.cli.table import show, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hdrh.histogram import HdrHistogram

    from runtime.cli.load import Load
    from runtime.cli.used import HostUse

_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

_PARTS: Final = 10
"""Parts of the time whose rates are compared."""

_HOUR_NS: Final = 3_600_000_000_000
_DIGITS: Final = 3

_ROWS: Final = 14
"""Most rows of the histogram that is shown."""

_STEPS: Final = (
    (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.4, 8.0),
    (1.0, 2.0, 5.0),
    (1.0,),
)
"""Where its rows may begin, times powers of ten: as fine as fits."""

_BAR: Final = 40


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement."""

    facts: dict[str, Any]
    """What was asked for."""
    load: Load
    caller_ns: int
    """Processor time of this process."""
    hosts: list[HostUse]

    def as_json(self) -> dict[str, Any]:
        """Return all figures; the names of times end with their unit."""
        load, histogram = self.load, self._histogram()
        return {
            **self.facts,
            "seconds": round(load.seconds, 6),
            "calls": load.answered,
            "calls_per_s": round(self._rate, 1),
            "parts_per_s": [round(rate, 1) for rate in self._parts()],
            "failed": dict(load.failed),
            "unanswered": load.under_way,
            "latency_us": {name: _us(ns) for name, ns in _latencies(histogram)},
            "histogram": histogram.encode().decode(),
            "cpu_us_per_call": {
                "caller": _us(self._per_call(self.caller_ns)),
                "hosts": _us(self._per_call(self._hosts_ns)),
            },
            "busy": {
                "caller": round(self._share(self.caller_ns), 3),
                "hosts": [
                    None if use.busy_ns is None else round(self._share(use.busy_ns), 3)
                    for use in self.hosts
                ],
            },
            "timed_calls": len(load.timed),
            "where_us": {
                name: {"mean": _us(mean), "p50": _us(p50), "p99": _us(p99)}
                for name, mean, p50, p99 in self._where()
            },
        }

    def show(self) -> None:
        """Print the page."""
        load, parts, facts = self.load, self._parts(), self.facts
        calls = f"{_many(facts['concurrency'], 'call')} under way"
        if facts["rate"] is not None:
            calls = f"{facts['rate']:,g} calls due a second, at most {calls}"
        _say(
            f"{facts['object']}.{facts['method']}: {_many(facts['objects'], 'object')} "
            f"{facts['order']}, {calls}, {_many(facts['hosts'], 'host')}, "
            f"durability {facts['durability']}\n"
        )
        spread = f", {min(parts):,.0f} to {max(parts):,.0f} in tenths of the time" if parts else ""
        _say(f"{_bold(f'{self._rate:,.0f} calls/s')}{spread}")
        _say(f"{load.answered:,} calls were answered in {load.seconds:.1f} s")
        if load.failed:
            kinds = ", ".join(f"{name} {count:,}" for name, count in load.failed.most_common())
            _say(click.style(f"{load.failed.total():,} calls failed: {kinds}", fg="red"))
        if load.under_way:
            _say(f"{load.under_way:,} calls were not answered, and are not counted")
        if load.answered:
            self._show_latencies()
            self._show_use()
        if load.timed:
            self._show_where()

    def _show_latencies(self) -> None:
        histogram = self._histogram()
        _say("")
        named = dict(_latencies(histogram))
        show(("", *named), [("latency", *map(span, named.values()))], tuple(named))
        _say("")
        rows = _rows(self.load.latencies)
        most = max(count for _, count in rows)
        show(
            ("from", "calls", "share", ""),
            [
                (
                    span(begin),
                    f"{count:,}",
                    f"{count / self.load.answered:.1%}",
                    _bar(count / most),
                )
                for begin, count in rows
            ],
            ("from", "calls", "share"),
        )

    def _show_use(self) -> None:
        caller, hosts = map(span, map(self._per_call, (self.caller_ns, self._hosts_ns)))
        _say(f"\na call took {caller} of processor time in the caller, {hosts} in the hosts")
        rows = [
            (f"host {use.host}", *map(self._percent, (use.busy_ns, use.cpu_ns)))
            for use in self.hosts
        ]
        rows.append(("caller", "", self._percent(self.caller_ns)))
        headers = ("process", "busy", "processor")
        show(headers, rows, headers[1:])

    def _percent(self, ns: int | None) -> str:
        return "-" if ns is None else f"{self._share(ns):.0%}"

    def _show_where(self) -> None:
        where = self._where()
        whole = sum(mean for _, mean, _, _ in where) or 1.0
        _say("")
        show(
            ("time of a call", "mean", "p50", "p99", "share", ""),
            [
                (
                    name,
                    *map(span, (mean, p50, p99)),
                    f"{mean / whole:.0%}",
                    _bar(mean / whole),
                )
                for name, mean, p50, p99 in where
            ],
            ("mean", "p50", "p99", "share"),
        )

    # --- figures ---------------------------------------------------------------------------------

    @property
    def _rate(self) -> float:
        return self.load.within / self.load.seconds

    @property
    def _hosts_ns(self) -> int:
        return sum(use.cpu_ns or 0 for use in self.hosts)

    def _per_call(self, ns: int) -> float:
        calls = self.load.within + self.load.failed.total()
        return ns / calls if calls else 0.0

    def _share(self, ns: int) -> float:
        return ns / 1e9 / self.load.seconds

    def _parts(self) -> list[float]:
        """Return the rates of equal parts of the time."""
        marks = self.load.marks
        if len(marks) > 2 and marks[-1][0] - marks[-2][0] < EVERY * 1e9 / 2:
            marks = [*marks[:-2], marks[-1]]
        spans = len(marks) - 1
        if spans < _PARTS:
            return []
        ends = [marks[spans * part // _PARTS] for part in range(_PARTS + 1)]
        return [(b[1] - a[1]) / (b[0] - a[0]) * 1e9 for a, b in pairwise(ends)]

    def _histogram(self) -> HdrHistogram:
        from hdrh.histogram import HdrHistogram  # noqa: PLC0415  (an extra)

        histogram = HdrHistogram(1, _HOUR_NS, _DIGITS)
        for latency, count in self.load.latencies.items():
            histogram.record_value(min(latency, _HOUR_NS), count)
        return histogram

    def _where(self) -> list[tuple[str, float, float, float]]:
        """Return the parts of a timed call's latency: name, mean, p50, p99."""
        parts: dict[str, list[int]] = {"wire": [], "queue": [], "run": [], "commit": []}
        if self.facts["rate"] is not None:
            parts["late"] = []
        for late, took, times in self.load.timed:
            parts["wire"].append(took - sum(times))
            parts["queue"].append(times.queue)
            parts["run"].append(times.run)
            parts["commit"].append(times.commit)
            if "late" in parts:
                parts["late"].append(late)
        return [(name, *_described(values)) for name, values in parts.items() if values]


def _described(values: list[int]) -> tuple[float, float, float]:
    values.sort()
    mean = sum(values) / len(values)
    return mean, values[len(values) // 2], values[min(len(values) - 1, len(values) * 99 // 100)]


def _latencies(histogram: HdrHistogram) -> Iterable[tuple[str, float]]:
    for name, percent in _PERCENTILES.items():
        yield name, histogram.get_value_at_percentile(percent)
    yield "max", histogram.get_max_value()
    yield "mean", histogram.get_mean_value()


def _rows(latencies: dict[int, int]) -> list[tuple[float, int]]:
    """Return where rows begin, and how many calls each has, from the fastest call to the slowest."""
    low, high = min(latencies), max(latencies)
    begins: list[float] = []
    for steps in _STEPS:
        every = [step * 10**power for power in range(3, 14) for step in steps]
        begins = every[max(0, bisect_right(every, low) - 1) : bisect_right(every, high)]
        if len(begins) <= _ROWS:
            break
    counts = [0] * len(begins)
    for latency, count in latencies.items():
        counts[max(0, bisect_right(begins, latency) - 1)] += count
    return list(zip(begins, counts, strict=True))


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _us(ns: float) -> float:
    return round(ns / 1000, 2)


def span(ns: float) -> str:
    """Return a time as a person would write it, to three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= 0.9995 * size:
            return f"{_three(ns / size)} {unit}"
    return f"{_three(ns / 1000)} µs"


def _three(number: float) -> str:
    digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:,.{digits}f}"


def _bar(part: float) -> str:
    mark = "█" if sys.stdout.isatty() else "#"
    return mark * round(part * _BAR)


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _say(text: str) -> None:
    write((text if sys.stdout.isatty() else click.unstyle(text)) + "\n")
