"""What all tests share: Hypothesis does not judge time, and processes find modules compiled."""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.forked import Forks

settings.register_profile("roost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("roost")

# The tests start a thousand processes: a third of the time to start one is the compiling.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def forks():
    """Where `roost` commands come from that run to their end."""
    forks = Forks()
    yield forks
    forks.close()
