"""Recursive least squares: a linear regression that learns from one observation at a time.

After any number of observations its weights are, up to rounding, those that a ridge regression finds
from all of them together: they minimise `sum((y - w·x)²) + |w|² / prior`. What it keeps is of a fixed
size, whatever it has seen.

Plain Python, because at seven features it takes 9 µs an observation where NumPy takes 7 and its
import costs every host 0.1 s. The order of the sums is fixed, so all processes get the same bits.
"""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Regression:
    """`prior` is how large the squares of weights may well be."""

    __slots__ = ("_covariance", "weights")

    weights: list[float]
    """What has been learnt, a weight a feature."""

    def __init__(self, features: int, prior: float) -> None:
        self.weights = [0.0] * features
        self._covariance = [
            [prior if row == column else 0.0 for column in range(features)]
            for row in range(features)
        ]

    def predict(self, x: Sequence[float]) -> float:
        """Return what is to be expected of the features `x`."""
        expected: float = sum(map(mul, self.weights, x))
        return expected

    def learn(self, x: Sequence[float], y: float) -> None:
        """Take the observation that features `x` came with `y`."""
        projected = [sum(map(mul, row, x)) for row in self._covariance]
        scale = 1.0 + sum(map(mul, projected, x))
        step = (y - self.predict(x)) / scale
        self.weights = [
            weight + step * p for weight, p in zip(self.weights, projected, strict=True)
        ]
        gains = [p / scale for p in projected]
        self._covariance = [
            [value - gain * p for value, p in zip(row, projected, strict=True)]
            for row, gain in zip(self._covariance, gains, strict=True)
        ]

    def state(self) -> tuple[object, ...]:
        """Return all that it knows, comparable and printable to the last bit."""
        return (*self.weights, *(value for row in self._covariance for value in row))
