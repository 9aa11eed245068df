"""The sketch's quantiles are within its stated error, of any numbers in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.delays.sketch import ACCURACY, SMALLEST, Sketch

FRACTIONS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)

delays = st.one_of(
    st.integers(-100, 1500).map(float),
    st.floats(-1e6, 1e6),
    st.floats(-2 * SMALLEST, 2 * SMALLEST),
)


def sketch_of(numbers: list[float]) -> Sketch:
    sketch = Sketch()
    for number in numbers:
        sketch.add(number)
    return sketch


@given(st.lists(delays, min_size=1, max_size=200))
def test_a_quantile_is_off_by_its_accuracy_at_most(numbers: list[float]) -> None:
    ordered = sorted(numbers)
    found = sketch_of(numbers).quantiles(*FRACTIONS)
    for fraction, quantile in zip(FRACTIONS, found, strict=True):
        exact = ordered[int(fraction * (len(ordered) - 1))]
        rounding = 1e-9 * abs(exact)
        assert abs(quantile - exact) <= max(ACCURACY * abs(exact), SMALLEST) + rounding


@given(st.lists(delays, max_size=50), st.randoms(use_true_random=False))
def test_the_order_of_the_numbers_does_not_matter(numbers: list[float], random: object) -> None:
    shuffled = list(numbers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sketch_of(shuffled).state() == sketch_of(numbers).state()
    assert len(sketch_of(numbers)) == len(numbers)


def test_its_memory_does_not_grow_with_the_numbers() -> None:
    few = sketch_of([delay / 10 for delay in range(-1_000, 15_000)])
    assert len(few.state()) < 1_000
    for delay in range(-100, 1_500):
        few.add(delay)
    assert len(few.state()) < 1_000


def test_nothing_has_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no quantiles"):
        Sketch().quantiles(0.5)
