"""The model of one aircraft against what its flights say when looked at all at once."""

from __future__ import annotations

import pickle
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.delays.model import FEATURES, INTERVAL, PRIOR, WARM_UP, Model, features
from examples.delays.sketch import ACCURACY, SMALLEST

if TYPE_CHECKING:
    from examples.delays.flights import Aircraft, Flight

minutes = st.none() | st.integers(-60, 1200)
flights = st.tuples(
    st.floats(0, 11.99), st.floats(5, 23.99), st.integers(80, 5000), minutes, minutes
)


def model_of(history: list[Flight]) -> Model:
    model = Model()
    for flight in history:
        model.observe(flight)
    return model


@pytest.fixture(scope="module")
def busiest(fleet: list[Aircraft]) -> list[Flight]:
    return max(fleet, key=lambda aircraft: len(aircraft.flights)).flights


def test_forecasts_are_scored_without_the_flight_itself(busiest: list[Flight]) -> None:
    arrived = [flight for flight in busiest if flight[4] is not None]
    x = np.array([features(*flight[:4]) for flight in arrived])  # type: ignore[arg-type]
    y = np.array([flight[4] for flight in arrived], float)
    surprises = []
    for n in range(len(arrived)):
        before = x[:n].T @ x[:n] + np.eye(FEATURES) / PRIOR
        surprises.append(y[n] - x[n] @ np.linalg.solve(before, x[:n].T @ y[:n]))
    scored = surprises[WARM_UP:]
    summary = model_of(busiest).summary()
    assert (summary.flights, summary.arrivals) == (len(busiest), len(arrived))
    assert summary.forecasts == len(scored) > 100
    assert summary.error == pytest.approx(sqrt(np.mean(np.square(scored))), rel=1e-6)

    # The intervals, from the surprises before each flight, exactly and with the sketch's error.
    certain = possible = 0
    for n in range(WARM_UP, len(arrived)):
        ordered = sorted(surprises[:n])
        low, high = (ordered[int(fraction * (n - 1))] for fraction in INTERVAL)
        slack_low, slack_high = (max(ACCURACY * abs(end), SMALLEST) + 1e-6 for end in (low, high))
        certain += low + slack_low <= surprises[n] <= high - slack_high
        possible += low - slack_low <= surprises[n] <= high + slack_high
    assert certain <= summary.inside <= possible


def test_the_quantiles_are_those_of_the_arrival_delays(busiest: list[Flight]) -> None:
    ordered = sorted(arrival for *_, arrival in busiest if arrival is not None)
    exact = [ordered[int(fraction * (len(ordered) - 1))] for fraction in (0.1, 0.5, 0.9)]
    for found, expected in zip(model_of(busiest).summary().quantiles, exact, strict=True):
        assert abs(found - expected) <= max(ACCURACY * abs(expected), SMALLEST)


@given(st.lists(flights, max_size=80), st.lists(st.integers(0, 80)))
def test_a_model_that_was_stored_between_flights_is_the_same_to_the_last_bit(
    history: list[Flight], stored_at: list[int]
) -> None:
    model = Model()
    for number, flight in enumerate(history):
        if number in stored_at:
            model = pickle.loads(pickle.dumps(model))
        model.observe(flight)
    assert model.state() == model_of(history).state()
    assert model.summary() == model_of(history).summary()


@given(st.lists(flights, min_size=1, max_size=40))
def test_the_digest_tells_two_models_apart(history: list[Flight]) -> None:
    whole, part = model_of(history).summary(), model_of(history[:-1]).summary()
    assert whole.digest != part.digest


def test_a_flight_that_never_arrived_is_counted_and_not_learnt_from() -> None:
    summary = model_of([(0.0, 8.0, 500, None, None), (0.0, 9.0, 500, 5, None)]).summary()
    assert (summary.flights, summary.arrivals, summary.quantiles) == (2, 0, ())
    assert not any(summary.weights)
