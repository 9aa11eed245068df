"""Where slots begin: hosts begin even, and in turn where nothing is known."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.supervisor.deal import IDLE, deal

loads = st.lists(
    st.sampled_from([0.0, 0.001, 0.5, 1.0]) | st.floats(0, 1000), min_size=1, max_size=64
)


@st.composite
def houses(draw):
    """What slots took, and no more hosts than slots."""
    taken = draw(loads)
    return taken, draw(st.integers(1, len(taken)))


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([0, 0.0, 1, 3.5]))
def test_where_nothing_tells_slots_apart_they_are_dealt_out_in_turn(slots, hosts, each):
    assert deal([each] * slots, hosts) == [slot % hosts for slot in range(slots)]


@given(houses())
def test_hosts_begin_even(house):
    taken, hosts = house
    owners = deal(taken, hosts)
    least = IDLE * sum(taken) / len(taken)
    of = [[slot for slot, owner in enumerate(owners) if owner == host] for host in range(hosts)]
    busy = [[taken[slot] for slot in own if taken[slot] > least] for own in of]
    idle = [len(own) - len(some) for own, some in zip(of, busy, strict=True)]
    assert sum(map(len, of)) == len(taken)
    assert all(of)  # every host has something
    assert max(idle) - min(idle) <= 1
    for some in busy:  # without its lightest busy slot no host would be the busiest
        assert sum(some) - min(some, default=0) <= min(map(sum, busy)) + 1e-6
    for host in range(hosts):  # who has more of what is idle has no more of what is busy
        for other in range(hosts):
            assert idle[host] <= idle[other] or sum(busy[host]) <= sum(busy[other]) + 1e-6


def test_a_host_with_one_hot_slot_has_as_many_idle_ones_as_another():
    assert deal([0, 0, 0, 9, 0, 0.01, 0, 0], 2) == [1, 0, 1, 0, 0, 1, 0, 1]


def test_what_is_hot_begins_apart_with_any_number_of_hosts():
    taken = [0.0] * 24
    taken[0] = taken[12] = 5.0
    taken[6] = 2.0
    assert [deal(taken, hosts)[slot] for hosts in (2, 3, 4) for slot in (0, 12, 6)] == [
        *(0, 1, 0),
        *(0, 1, 2),
        *(0, 1, 2),
    ]
