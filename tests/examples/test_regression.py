"""Recursive least squares is least squares."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from examples.delays.regression import Regression

numbers = st.floats(-10, 10).map(lambda number: round(number, 6))
priors = st.sampled_from([0.1, 1.0, 10.0, 100.0])


@st.composite
def observations(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    features = draw(st.integers(1, 5))
    row = st.lists(numbers, min_size=features, max_size=features)
    xs = draw(st.lists(row, min_size=1, max_size=40))
    ys = draw(st.lists(numbers, min_size=len(xs), max_size=len(xs)))
    return xs, ys


@given(observations(), priors)
def test_the_weights_are_those_of_a_ridge_regression_on_everything(
    observed: tuple[list[list[float]], list[float]], prior: float
) -> None:
    xs, ys = observed
    regression = Regression(len(xs[0]), prior)
    for x, y in zip(xs, ys, strict=True):
        regression.learn(x, y)
    x, y = np.array(xs), np.array(ys)
    ridge = np.linalg.solve(x.T @ x + np.eye(x.shape[1]) / prior, x.T @ y)
    assert_allclose(regression.weights, ridge, rtol=1e-6, atol=1e-6)
    assert_allclose(regression.predict(xs[0]), x[0] @ ridge, rtol=1e-6, atol=1e-5)


def test_with_enough_observations_it_finds_the_line_they_came_from() -> None:
    random = np.random.default_rng(3)
    true = np.array([5.0, -2.0, 0.5])
    regression = Regression(3, prior=100.0)
    for x in random.normal(size=(2_000, 3)):
        regression.learn(x.tolist(), float(x @ true + random.normal(scale=0.1)))
    assert_allclose(regression.weights, true, atol=0.02)


def test_what_was_not_learnt_is_expected_to_be_zero() -> None:
    assert Regression(3, prior=10.0).predict([1.0, 2.0, 3.0]) == 0.0
