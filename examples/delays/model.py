"""What is learnt of one aircraft's delays, flight by flight.

When a flight leaves, its arrival is forecast from its departure delay, hour, month and distance, with
an interval that nine of ten flights should fall into; when it has arrived, the forecast is scored and
the flight is learnt from. So every score is of a forecast made without the flight itself. Pure: the
same flights in the same order give the same model, bit by bit.
"""

from __future__ import annotations

from hashlib import sha256
from math import cos, pi, sin, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from examples.delays.regression import Regression
from examples.delays.sketch import Sketch

if TYPE_CHECKING:
    from examples.delays.flights import Flight

FEATURES: Final = 7
PRIOR: Final = 1.0
"""Of the regression: the best of 1, 10 and 100 on these flights. To forget old flights gains nothing."""

WARM_UP: Final = 30
"""So many arrivals are learnt before forecasts are scored."""

INTERVAL: Final = (0.05, 0.95)
"""The quantiles of earlier surprises between which the next one is expected."""


class Summary(NamedTuple):
    """What a model tells of its aircraft. Delays in minutes."""

    flights: int
    arrivals: int
    """Flights that arrived where they were expected."""
    quantiles: tuple[float, ...]
    """Of the arrival delay: 10, 50 and 90 percent."""
    forecasts: int
    """How many were scored."""
    error: float
    """Of the forecasts: the root of the mean square."""
    inside: int
    """Forecasts whose interval held."""
    weights: tuple[float, ...]
    """Of the regression."""
    digest: bytes
    """Of everything that the model knows, to the last bit."""


class Model:
    """See the module's text."""

    __slots__ = (
        "arrivals",
        "delays",
        "flights",
        "inside",
        "regression",
        "scored",
        "squares",
        "surprises",
    )

    def __init__(self) -> None:
        self.flights = 0
        self.arrivals = 0
        self.scored = 0
        self.inside = 0
        self.squares = 0.0
        self.regression = Regression(FEATURES, PRIOR)
        self.delays = Sketch()
        self.surprises = Sketch()

    def observe(self, flight: Flight) -> None:
        """Forecast, score and learn one flight."""
        self.flights += 1
        month, hour, distance, departure, arrival = flight
        if departure is None or arrival is None:
            return
        x = features(month, hour, distance, departure)
        surprise = arrival - self.regression.predict(x)
        if self.arrivals >= WARM_UP:
            low, high = self.surprises.quantiles(*INTERVAL)
            self.scored += 1
            self.inside += low <= surprise <= high
            self.squares += surprise * surprise
        self.arrivals += 1
        self.regression.learn(x, arrival)
        self.delays.add(arrival)
        self.surprises.add(surprise)

    def summary(self) -> Summary:
        """Return what is known of the aircraft."""
        return Summary(
            flights=self.flights,
            arrivals=self.arrivals,
            quantiles=tuple(self.delays.quantiles(0.1, 0.5, 0.9)) if self.arrivals else (),
            forecasts=self.scored,
            error=sqrt(self.squares / self.scored) if self.scored else 0.0,
            inside=self.inside,
            weights=tuple(self.regression.weights),
            digest=sha256(repr(self.state()).encode()).digest(),
        )

    def state(self) -> tuple[object, ...]:
        """Return all that it knows, comparable and printable to the last bit."""
        return (
            self.flights,
            self.arrivals,
            self.scored,
            self.inside,
            self.squares,
            self.regression.state(),
            self.delays.state(),
            self.surprises.state(),
        )


def features(month: float, hour: float, distance: float, departure: float) -> list[float]:
    """Return the numbers from which a flight's arrival delay is forecast; all are about 1."""
    year, day = 2 * pi * month / 12, 2 * pi * hour / 24
    return [1.0, departure / 60, distance / 1000, sin(day), cos(day), sin(year), cos(year)]
