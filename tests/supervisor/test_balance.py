"""Which slot moves when one host stays much busier than another, looked at by hand."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.supervisor.balance import APART, GAIN, LOOKS, REST_SECONDS, Balance, Look

SECOND = 1_000_000_000


class House:
    """Hosts whose slots take what the test says, a part of a core each."""

    def __init__(self, owners, loads, idle=()):
        self.owners = list(owners)
        self.loads = list(loads)
        self.hosts = max(self.owners) + 1 + len(idle)
        self.balance = Balance()
        self.at = 0.0
        self.slots_ns = [0] * len(self.loads)
        self.hosts_ns = [0] * self.hosts

    def busy(self, host):
        return sum(
            load for load, owner in zip(self.loads, self.owners, strict=True) if owner == host
        )

    def look(self):
        """Let a second go by; returns what is to move."""
        self.at += 1
        for slot, load in enumerate(self.loads):
            self.slots_ns[slot] += round(load * SECOND)
            self.hosts_ns[self.owners[slot]] += round(load * SECOND)
        return self.balance.look(
            Look(self.at, list(self.hosts_ns), list(self.slots_ns), list(self.owners))
        )

    def run(self, seconds):
        """Let time go by, moving what is to move; returns the moves."""
        moves = []
        for _ in range(seconds):
            move = self.look()
            if move is not None:
                moves.append(move)
                self.owners[move[0]] = move[1]
        return moves


def test_the_slot_moves_that_evens_out_best_and_not_before_some_seconds():
    house = House([0, 1, 0, 1, 0, 1], [0.2, 0.1, 0.35, 0, 0.3, 0])
    assert [house.look() for _ in range(LOOKS)] == [None] * LOOKS
    assert house.look() == (2, 1)  # 0.85 and 0.1: 0.35 more and less make 0.5 and 0.45


def test_one_hot_object_stays_and_so_do_the_cold_ones_beside_it():
    assert House([0, 1, 0, 1], [0.9, 0.05, 0.02, 0]).run(300) == []


def test_a_short_burst_moves_nothing():
    house = House([0, 1, 0, 1], [0.4, 0.0, 0.4, 0.0])
    for turn in range(60):
        house.loads[0] = house.loads[2] = 0.4 if turn % LOOKS else 0.0
        assert house.look() is None


def test_a_host_that_was_replaced_or_a_slot_that_moved_begins_the_watch_anew():
    house = House([0, 1, 0, 1], [0.4, 0.0, 0.4, 0.0])
    assert house.run(LOOKS) == []
    house.hosts_ns[0] = 0
    assert house.run(LOOKS) == []
    house.owners[3] = 0
    assert house.run(LOOKS) == []
    house.balance.forget()
    assert house.run(LOOKS) == []
    assert house.run(1) == [(0, 1)]


def test_a_slot_that_did_not_move_is_not_asked_again_at_once():
    house = House([0, 1, 0, 1], [0.8, 0.0, 0.1, 0.0])
    house.loads[2] = 0.2
    asked = [(house.at, move) for _ in range(200) if (move := house.look()) is not None]
    times = [at for at, move in asked if move[0] == asked[0][1][0]]
    assert len(times) >= 2
    assert all(b - a >= REST_SECONDS for a, b in pairwise(times))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 0.5)), min_size=3, max_size=24),
)
def test_moves_only_ever_bring_hosts_closer_and_come_to_an_end(slots):
    owners, loads = zip(*slots, strict=True)
    house = House([0, 1, 2, *owners], [0, 0, 0, *loads])
    for _ in range(40):
        before = [house.busy(host) for host in range(3)]
        moved = house.run(LOOKS + 1)
        if not moved:
            break
        [(_, to)] = moved
        after = [house.busy(host) for host in range(3)]
        [source] = [host for host in range(3) if after[host] < before[host] - 1e-9]
        assert before[source] - before[to] > APART - 0.01
        assert abs(after[source] - after[to]) < before[source] - before[to] - GAIN + 0.01
        assert max(after) <= max(before) + 1e-9
    else:
        raise AssertionError("it never ends")
