"""Write sets: reads see the newest write whatever is under way; memory stays bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.ids import NamespaceKey
from runtime.storage.arguments import key_range
from runtime.storage.values import Packed, hold, pack
from runtime.storage.write_set import ABSENT, CACHE_BYTES, LARGE_CHANGE, UNKNOWN, WriteSet, merge

ID = NamespaceKey("w-Room").from_name("a")

entries = st.dictionaries(st.binary(max_size=2), st.binary(max_size=1), max_size=6)


@given(entries, st.dictionaries(st.binary(max_size=2), st.none() | st.integers()), st.booleans())
def test_merging_lays_the_overlay_over_the_rows_in_order(rows, above, reverse):
    expected = {key: data for key, data in rows.items() if key not in above}
    expected |= {key: value for key, value in above.items() if value is not None}
    overlay = [(key, ABSENT if value is None else value) for key, value in above.items()]
    overlay.sort(key=lambda entry: entry[0], reverse=reverse)
    merged = merge(sorted(rows.items(), reverse=reverse), overlay, reverse=reverse)
    found = [(key, held.data if type(held) is Packed else held) for key, held in merged]
    assert found == sorted(expected.items(), key=lambda entry: entry[0], reverse=reverse)


def test_a_thousand_puts_of_a_key_are_one_pickle():
    writes = WriteSet(ID, "Room")
    for n in range(1000):
        writes.put("n", n)
    change = writes.take()
    assert len(change.puts) == 1
    assert writes.take() is None


def test_an_object_registers_with_its_first_change_and_anew_after_a_wipe():
    writes = WriteSet(ID, "Room")
    taken = []
    for step in ("put", "put", "wipe", "put", "wipe and put"):
        if "wipe" in step:
            writes.wipe()
        if "put" in step:
            writes.put("k", 1)
        taken.append(writes.take())
    assert [change.register for change in taken] == [True, False, False, True, False]
    assert [(change.class_name, change.name) for change in taken] == [("Room", "a")] * 5
    assert [change.sequence for change in taken] == [0, 1, 2, 3, 4]


def clock():
    return 7.0


def registered():
    writes = WriteSet(ID, "Room")
    writes.put("k", 1)
    writes.committed(writes.take())
    return writes


def test_puts_and_deletes_of_a_registered_object_are_rows():
    writes = registered()
    writes.put("k", ABSENT)
    writes.put("l", 2)
    writes.records[b"\xffr"] = lambda: b"record"
    writes.records[b"\xffs"] = None
    rows = puts, deletes, registers = [(b"other", b"k", b"v")], [], []
    assert writes.take_rows(rows, clock) > 0
    assert registers == []
    assert puts[1:] == [(ID.raw, b"l", pack(2)), (ID.raw, b"\xffr", b"record")]
    assert deletes == [(ID.raw, b"k"), (ID.raw, b"\xffs")]
    assert writes.take_rows(rows, clock) == 0
    assert writes.take() is None
    assert writes.find("l") == 2
    assert len(writes.overlay(key_range({}))) == 2
    writes.committed(None)
    assert writes.overlay(key_range({})) == []


def too_much(writes):
    writes.put("l", hold("l", b"x" * LARGE_CHANGE, 1 << 30))


def no_memory():
    raise MemoryError


@pytest.mark.parametrize(
    "more",
    [
        lambda writes: writes.wipe(),
        lambda writes: writes.set_alarm(None),
        too_much,
        lambda writes: writes.records.update({b"\xffr": no_memory}),
    ],
)
def test_anything_else_is_no_rows_and_stays_to_be_taken(more):
    writes = registered()
    writes.put("a", 1)
    more(writes)
    rows = [(b"other", b"k", b"v")], [(b"other", b"l")], []
    assert writes.take_rows(rows, clock) == 0
    assert rows == ([(b"other", b"k", b"v")], [(b"other", b"l")], [])
    assert writes.dirty
    if writes.records:
        with pytest.raises(MemoryError):
            writes.take()
    else:
        assert writes.take() is not None


def test_an_object_is_registered_with_its_first_put_and_not_by_what_it_deletes():
    writes = WriteSet(ID, "Room")
    rows = [], [], []
    writes.put("a", ABSENT)
    writes.records[b"\xffr"] = lambda: b"record"
    assert writes.take_rows(rows, clock)
    assert rows[2] == []
    for n in range(2):
        writes.put("a", n)
        assert writes.take_rows(rows, clock)
        assert rows[2] == [(ID.raw, "Room", "a", 7.0)]
    writes.wipe()
    assert writes.take().forget
    writes.put("a", 1)
    assert writes.take_rows(rows, clock)
    assert len(rows[2]) == 2


def test_a_wipe_ends_with_its_own_change_and_entries_put_after_it_with_theirs():
    writes = WriteSet(ID, "Room")
    writes.put("l", 1)
    first = writes.take()
    writes.wipe()
    writes.put("l", 2)
    wiped = writes.take()
    writes.put("l", 3)
    assert writes.take_rows(([], [], []), clock)
    writes.committed(first)
    assert writes.find("k") is ABSENT
    writes.committed(wiped)
    assert writes.find("k") is UNKNOWN
    assert writes.overlay(key_range({})) == [(b"l", 3)]
    writes.committed(None)
    assert writes.overlay(key_range({})) == []


def test_a_key_is_pinned_until_its_last_change_is_durable():
    writes = WriteSet(ID, "Room")
    writes.put("k", 1)
    first = writes.take()
    writes.put("k", 2)
    second = writes.take()
    writes.committed(first)
    writes._entered = CACHE_BYTES * 2
    fill(writes, CACHE_BYTES)
    assert writes.find("k") == 2
    writes.committed(second)
    fill(writes, CACHE_BYTES)
    assert writes.find("k") is UNKNOWN


def test_after_a_wipe_the_file_is_not_asked_until_it_is_wiped_too():
    writes = WriteSet(ID, "Room")
    writes.put("k", 1)
    first = writes.take()
    writes.wipe()
    assert writes.find("k") is writes.find("other") is ABSENT
    writes.put("l", 2)
    second = writes.take()
    writes.wipe()
    third = writes.take()
    for change in (first, second):
        writes.committed(change)
        assert writes.find("l") is writes.find("other") is ABSENT
    writes.committed(third)
    assert writes.find("l") is UNKNOWN


def fill(writes, size):
    for n in range(size // 10_000 + 1):
        writes.learn(f"fill{n}", Packed(bytes(10_000)))


def memory(writes):
    return sum(len(held.data) for held in writes.known.values() if type(held) is Packed)


def test_the_cache_of_reads_is_bounded():
    writes = WriteSet(ID, "Room")
    for n in range(500):
        writes.learn(f"k{n}", Packed(bytes(10_000)))
        assert memory(writes) <= CACHE_BYTES
    writes.learn("large", Packed(bytes(CACHE_BYTES)))
    assert writes.find("large") is UNKNOWN


def test_pending_writes_stay_and_leave_memory_once_they_are_durable():
    writes = WriteSet(ID, "Room")
    for n in range(500):
        writes.put(f"k{n}", hold(f"k{n}", bytearray(10_000), CACHE_BYTES))
    change = writes.take()
    fill(writes, 2 * CACHE_BYTES)
    assert all(writes.find(f"k{n}") is not UNKNOWN for n in range(500))
    writes.committed(change)
    assert memory(writes) <= CACHE_BYTES
