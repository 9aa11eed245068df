"""A process that dies is back at once, one that keeps dying ever later, and at last not at all."""

import pytest

from runtime.supervisor.restarts import CRASHES, LONGEST_DELAY, QUICK, Restarts


def test_the_first_death_is_mended_at_once_and_a_crash_loop_ever_later():
    restarts = Restarts()
    delays = [restarts.died("host 0", 0.1) for _ in range(CRASHES - 1)]
    assert delays == [0.0, *(pytest.approx(0.1 * 2**n) for n in range(CRASHES - 2))]
    assert all(delay <= LONGEST_DELAY for delay in delays)
    assert restarts.died("host 0", 0.1) is None


def test_who_lived_for_a_while_begins_anew():
    restarts = Restarts()
    for _ in range(5 * CRASHES):
        assert restarts.died("host 0", 0.1) == 0.0
        assert restarts.died("host 0", QUICK) == 0.0


def test_each_process_has_a_count_of_its_own():
    restarts = Restarts()
    for _ in range(CRASHES - 1):
        restarts.died("host 0", 0.1)
    assert restarts.died("host 1", 0.1) == 0.0
    assert restarts.died("host 0", 0.1) is None


def test_a_host_that_dies_of_what_it_is_given_is_started_again_without_end():
    restarts = Restarts()
    delays = [restarts.died("host 0", 0.1, by_event=True) for _ in range(3 * CRASHES)]
    assert delays[-1] == LONGEST_DELAY
    assert restarts.died("host 0", 0.1) is None
