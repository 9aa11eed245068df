"""The checker of histories knows good ones from bad ones."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .linearizable import NEVER, Operation, is_linearizable, without_doubt


def read(value, called, returned):
    return Operation("read", value, called, returned)


def write(value, called, returned=NEVER):
    return Operation("write", value, called, returned)


GOOD = {
    "nothing": [],
    "in turn": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read beside a write sees the old": [write(1, 0, 1), write(2, 2, 9), read(1, 3, 4)],
    "or the new": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(2, 5, 6)],
    "first the old and then the new": [write(2, 2, 9), read(None, 3, 4), read(2, 5, 6)],
    "writes beside each other in any order": [write(1, 0, 9), write(2, 0, 9), read(1, 10, 11)],
    "a killed write is never seen": [write(1, 0, 1), write(2, 2), read(1, 90, 91)],
    "or seen late": [write(1, 0, 1), write(2, 2), read(1, 50, 51), read(2, 90, 91)],
}
BAD = {
    "out of thin air": [read(1, 0, 1)],
    "stale after the return": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "new and then old": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "from the future": [read(1, 0, 1), write(1, 2, 3)],
    "two readers disagree on the order": [
        write(1, 0, 9),
        write(2, 0, 9),
        read(1, 10, 11),
        read(2, 12, 13),
    ],
    "a killed write undone": [write(1, 0, 1), write(2, 2), read(2, 50, 51), read(1, 90, 91)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_good_history_is_explained(history):
    assert is_linearizable(history)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_a_bad_history_is_not(history):
    assert not is_linearizable(history)


operations = st.builds(
    lambda kind, value, called, length, killed: Operation(
        kind, value, called, NEVER if killed and kind == "write" else called + length
    ),
    st.sampled_from(["read", "write"]),
    st.integers(0, 2),
    st.integers(0, 9),
    st.integers(0, 4),
    st.booleans(),
)


@given(st.lists(operations, max_size=5))
def test_it_says_what_trying_every_order_says(history):
    assert is_linearizable(history, 0) == any(
        explains(order)
        for dead in subsets([op for op in history if op.returned == NEVER])
        for order in itertools.permutations([op for op in history if op not in dead])
    )


@given(st.lists(operations, max_size=6))
def test_leaving_out_what_is_not_in_doubt_changes_nothing(history):
    assert is_linearizable(history) == is_linearizable(without_doubt(history))


def subsets(items):
    return [some for size in range(len(items) + 1) for some in itertools.combinations(items, size)]


def explains(order):
    value = 0
    for index, op in enumerate(order):
        if any(later.returned < op.called for later in order[index + 1 :]):
            return False
        if op.kind == "read" and op.value != value:
            return False
        if op.kind == "write":
            value = op.value
    return True
