"""The year of flights, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.delays.flights import read

if TYPE_CHECKING:
    from examples.delays.flights import Aircraft


@pytest.fixture(scope="session")
def everything() -> list[Aircraft]:
    return read()


@pytest.fixture(scope="session")
def fleet(everything: list[Aircraft]) -> list[Aircraft]:
    """A hundred aircraft with all their flights."""
    return everything[::40]
