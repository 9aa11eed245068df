"""The file of a history: what was added is there, whole and in order, and what was cut off is gone."""

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage.history import Change, Commit, History, Segment

changes = st.builds(Change, st.integers(1, 1 << 31), st.integers(1, 1 << 900))
commits = st.builds(
    Commit, st.integers(1, 1 << 31), st.integers(0, 1 << 31), st.integers(0, 1 << 50)
)
contents = st.lists(st.lists(changes | commits, max_size=6), max_size=5)


def segment(number):
    return Segment(number, bytes([number] * 8), 1, 9, 10 * number, 10 * number + 5, 4096, number)


def filled(path, events_of_each):
    history = History(path)
    for number, events in enumerate(events_of_each, 1):
        history.append(segment(number), events)
    return history


def read(history):
    return [
        (found.number, list(history.events(found, start))) for found, start in history.segments()
    ][::-1]


@pytest.fixture
def path(memory_path):
    return memory_path / "history"


@given(contents)
def test_what_was_added_is_there(tmp_path_factory, events):
    history = filled(tmp_path_factory.mktemp("history") / "h", events)
    assert read(history) == list(enumerate(events, 1))
    last = history.last()
    assert (last and last._replace(length=0)) == (segment(len(events)) if events else None)


@given(contents.filter(len), st.data())
def test_a_segment_that_a_kill_cut_off_is_cut_away(tmp_path_factory, events, data):
    path = tmp_path_factory.mktemp("history") / "h"
    history = filled(path, events)
    starts = [start for _, start in history.segments()][::-1]
    whole = path.stat().st_size
    cut = data.draw(st.integers(0, whole - 1))
    os.truncate(path, cut)
    kept = sum(end <= cut for _, end in pairwise([*starts, whole]))
    again = History(path)
    assert (again.last().number if kept else again.last()) == (kept or None)
    assert path.stat().st_size == ([*starts, whole][kept])
    again.append(segment(kept + 1), [Change(1, 1)])
    assert read(again) == [*list(enumerate(events[:kept], 1)), (kept + 1, [Change(1, 1)])]


@given(contents.filter(len), st.data())
def test_the_oldest_may_go(tmp_path_factory, events, data):
    history = filled(tmp_path_factory.mktemp("history") / "h", events)
    starts = [start for _, start in history.segments()][::-1]
    first = data.draw(st.integers(0, len(starts) - 1))
    history.forget_before(starts[first])
    assert read(history) == list(enumerate(events, 1))[first:]
    history.append(segment(len(events) + 1), ())
    assert read(history)[-1] == (len(events) + 1, [])


def test_it_is_private_and_begins_with_the_first_segment(path):
    history = History(path)
    assert history.last() is None
    assert (list(history.segments()), history.size, path.exists()) == ([], 0, False)
    history.append(segment(1), ())
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failure_leaves_what_was_there(path):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    history = filled(path, [[Change(1, 1)]])
    size = path.stat().st_size
    with pytest.raises(OSError, match="No space"):
        History(path, full).append(segment(2), [Change(2, 2)])
    assert path.stat().st_size == size
    assert read(history) == [(1, [Change(1, 1)])]


def test_a_restart_leaves_nothing_but_the_number(path):
    history = filled(path, [[Change(1, 1)], [Change(2, 1)]])
    history.restart(segment(3))
    assert read(history) == [(3, [])]
    assert History(path).last().number == history.last().number == 3
    assert [found.name for found in path.parent.iterdir()] == ["history"]


def test_damage_is_told(path):
    history = filled(path, [[Change(1, 1 << 800)]])
    (found, start), *_ = history.segments()
    with path.open("r+b") as file:
        file.seek(start + 70)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="segment 1 is"):
        list(history.events(found, start))
