"""Which alarm is next: as if all were in memory, with a page of them there."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.host.alarm_heap import AlarmHeap

objects = st.integers(0, 30).map(lambda number: b"%02d" % number)


class Model(RuleBasedStateMachine):
    """A heap with pages of 3 against a dict, which is the file too."""

    def __init__(self):
        super().__init__()
        self.file = {}
        self.taken = set()
        self.heap = AlarmHeap(self.load, page=3)

    def load(self, after, limit):
        entries = sorted((due, object_id) for object_id, due in self.file.items())
        return [entry for entry in entries if entry > after][:limit]

    @rule(object_id=objects, due=st.integers(0, 50))
    def set(self, object_id, due):
        self.file[object_id] = due
        self.taken.discard(object_id)
        self.heap.set(object_id, due)

    @rule(object_id=objects)
    def delete(self, object_id):
        self.file.pop(object_id, None)
        self.taken.discard(object_id)
        self.heap.set(object_id, None)

    @rule(now=st.integers(0, 60))
    def pop(self, now):
        found = self.heap.pop(now)
        due = [self.file[name] for name in self.file.keys() - self.taken if self.file[name] <= now]
        if found is None:
            assert due == []
        else:
            assert found not in self.taken
            assert self.file[found] == min(due)
            self.taken.add(found)

    @rule(now=st.integers(0, 60))
    def ring_and_end(self, now):
        found = self.heap.pop(now)
        if found is not None:
            del self.file[found]
            self.heap.set(found, None)

    @invariant()
    def the_first_is_the_least(self):
        waiting = [self.file[name] for name in self.file.keys() - self.taken]
        assert self.heap.first() == min(waiting, default=None)

    @invariant()
    def memory_is_bounded(self):
        assert len(self.heap._heap) <= 12


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_page_is_read_when_the_one_before_is_taken_and_never_all():
    everything = [(number, b"%06d" % number) for number in range(100_000)]
    reads = []

    def load(after, limit):
        reads.append(after)
        start = after[0] + 1
        return everything[start : start + limit]

    heap = AlarmHeap(load, page=100)
    assert heap.first() == 0
    assert (len(heap), len(reads)) == (100, 1)
    assert [heap.pop(10**9) for _ in range(1000)] == [name for _, name in everything[:1000]]
    assert len(reads) == 10
    assert len(heap) <= 100


@pytest.mark.parametrize("again", [False, True])
def test_what_rings_is_not_read_from_the_file_again_when_memory_is_given_back(again):
    """Its row stays in the file until it has rung to its end."""
    file = {b"%02d" % number: 5 for number in range(50, 53)}
    heap = AlarmHeap(
        lambda after, limit: sorted(row for row in rows_of(file) if row > after)[:limit], page=3
    )
    assert heap.pop(5) == b"50"
    if again:
        heap.set(b"50", 9, anyway=True)
    for number in range(40):
        file[b"%02d" % number] = 1
        heap.set(b"%02d" % number, 1)
    assert len(heap) < 10
    taken = []
    while (found := heap.pop(5)) is not None:
        taken.append(found)
    assert sorted(taken) == sorted(file.keys() - {b"50"})
    assert heap.pop(9) == (b"50" if again else None)


def test_an_alarm_kept_anyway_holds_up_none_that_the_file_has_before_it():
    file = {b"%02d" % number: number for number in range(30)}
    heap = AlarmHeap(
        lambda after, limit: sorted(row for row in rows_of(file) if row > after)[:limit], page=3
    )
    assert heap.pop(0) == b"00"
    heap.set(b"00", 20, anyway=True)
    taken = [heap.pop(30) for _ in range(30)]
    assert taken.index(b"00") == 19
    assert taken == sorted(
        taken, key=lambda name: (20, b"00") if name == b"00" else (int(name), name)
    )


def rows_of(file):
    return [(due, object_id) for object_id, due in file.items()]


def test_nothing_is_taken_before_its_time():
    heap = AlarmHeap(lambda _after, _limit: [])
    assert heap.first() is None
    heap.set(b"a", 10)
    assert heap.pop(9) is None
    assert heap.pop(10) == b"a"
    assert heap.pop(10) is None


@pytest.mark.parametrize("anyway", [True, False])
def test_what_lies_beyond_the_border_is_left_to_the_file_unless_it_is_to_be_kept(anyway):
    heap = AlarmHeap(lambda after, limit: [(5, b"a")] if after[0] < 5 else [], page=1)
    assert heap.first() == 5
    heap.set(b"b", 6, anyway=anyway)
    assert (len(heap) == 2) is anyway
