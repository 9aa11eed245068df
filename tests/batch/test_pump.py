"""The pump, stepped by hand: what it sends, in what order, and what it yields."""

import heapq
import pickle
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batch.done import Done
from runtime.batch.plan import Plan
from runtime.batch.pump import BATCHES, NOTHING, RUNS, SUSPECT, Pump
from runtime.supervisor.restarts import QUICK
from runtime.wire.codec import pack_error
from workers.errors import HostLost, RoostError, RuntimeClosed


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def pump_of(done=None, **plan):
    clock = Clock()
    pump = Pump(Plan("m", **plan), "~job", lambda key: key, clock, lambda: 0.5, done)
    return pump, clock


def reply(flight, values=None, errors=(), groups=None, seconds=0.0):
    values = [entry[1] for entry in flight.entries] if values is None else values
    return values, dict(errors), groups, seconds


def drain(pump):
    results = []
    while (result := pump.take()) is not NOTHING:
        results.append(result)
        pump.settle()
    return results


def sent(pump):
    flights = list(pump.flights())
    for flight in flights:
        assert pump.pack(flight) is not None
    return flights


def test_one_run_of_a_key_is_under_way_and_takes_all_that_waits():
    pump, _ = pump_of()
    pump.feed("a", 0)
    (first,) = sent(pump)
    for item in (1, 2, 3):
        pump.feed("a", item)
    pump.feed("b", 4)
    (other,) = sent(pump)
    assert [entry[1] for entry in other.entries] == [4]
    pump.answer(first, reply(first))
    (second,) = sent(pump)
    assert [entry[1] for entry in second.entries] == [1, 2, 3]
    assert drain(pump) == [("a", 0)]


def test_no_more_is_read_than_in_flight_allows_and_taking_makes_room():
    pump, _ = pump_of(in_flight=3)
    for item in range(3):
        assert pump.wants
        pump.feed(str(item), item)
    assert not pump.wants
    for flight in sent(pump):
        pump.answer(flight, reply(flight))
    assert not pump.wants
    assert pump.take() == ("0", 0)
    assert pump.wants


def test_reading_stops_when_one_item_stays_behind_so_that_memory_is_bounded():
    pump, _ = pump_of(in_flight=2)
    pump.feed("slow", 0)
    sent(pump)
    read = 1
    while pump.wants:
        pump.feed("fast", read)
        read += 1
        for flight in sent(pump):
            pump.answer(flight, reply(flight))
        drain(pump)
    assert read == 64
    assert len(pump.done.above) <= 64


def test_a_thousand_runs_are_under_way_and_the_items_of_further_keys_gather():
    pump, _ = pump_of()
    for key in range(RUNS + 2):
        pump.feed(key, "first")
    flights = sent(pump)
    assert len(flights) == RUNS
    pump.feed(RUNS, "second")
    assert sent(pump) == []
    pump.answer(flights[0], reply(flights[0]))
    (further,) = sent(pump)
    assert further.lane.key == RUNS
    assert [entry[1] for entry in further.entries] == ["first", "second"]


def test_large_items_lower_the_number_in_flight():
    pump, _ = pump_of(in_flight=10_000)
    pump.feed("a", b"x" * (8 << 20))
    sent(pump)
    read = 1
    while pump.wants:
        pump.feed("a", b"")
        read += 1
    assert read == 16


def test_a_retryable_failure_is_sent_again_before_what_is_behind_it():
    pump, clock = pump_of()
    pump.feed("a", 0)
    (flight,) = sent(pump)
    pump.feed("a", 1)
    pump.fail(flight, HostLost("gone"))
    assert sent(pump) == []
    assert pump.wait() == pytest.approx(0.05)
    clock.now = 0.05
    (again,) = sent(pump)
    assert [entry[1] for entry in again.entries] == [0]
    pump.answer(again, reply(again))
    (behind,) = sent(pump)
    assert [entry[1] for entry in behind.entries] == [1]
    assert pump.tally.retried == 1


def test_waits_double_and_the_limit_of_retries_ends_them():
    pump, clock = pump_of(retries=3, errors="collect")
    pump.feed("a", 0)
    waits = []
    error = RoostError("later", retryable=True)
    for _ in range(3):
        (flight,) = sent(pump)
        pump.fail(flight, error)
        waits.append(pump.wait())
        clock.now += pump.wait()
    assert waits == pytest.approx([0.05, 0.1, 0.2])
    (flight,) = sent(pump)
    pump.fail(flight, error)
    assert drain(pump) == [("a", error)]


def test_a_run_that_stopped_at_a_retryable_error_goes_on_from_there():
    pump, clock = pump_of()
    for item in range(4):
        pump.feed("a", item)
    (flight,) = sent(pump)
    packed = pack_error(HostLost("of another object"), None, remote=False)
    pump.answer(flight, reply(flight, [0, 1, None], {2: packed}))
    assert drain(pump) == [("a", 0), ("a", 1)]
    clock.now += pump.wait()
    (again,) = sent(pump)
    assert [entry[1] for entry in again.entries] == [2, 3]


def test_suspects_are_sent_one_at_a_time_and_taken_apart_when_lost_alone():
    pump, clock = pump_of()
    for key in "ab":
        for item in range(3):
            pump.feed(key, item)

    def what(flights):
        return [(f.lane.key, [entry[1] for entry in f.entries]) for f in flights]

    for _ in range(SUSPECT):
        for flight in sent(pump):
            pump.fail(flight, HostLost("gone"))
        clock.now += 10
    (alone,) = sent(pump)
    assert what([alone]) == [("a", [0, 1, 2])]
    assert sent(pump) == []
    pump.fail(alone, HostLost("gone"))
    (other,) = sent(pump)
    assert what([other]) == [("b", [0, 1, 2])]
    pump.answer(other, reply(other))
    clock.now += 10
    for item in range(3):
        (single,) = sent(pump)
        assert what([single]) == [("a", [item])]
        pump.answer(single, reply(single))
    assert sorted(drain(pump)) == [(key, item) for key in "ab" for item in range(3)]
    assert pump._lanes == {}


@pytest.mark.parametrize("retries", [1, 3])
@pytest.mark.parametrize("error", [HostLost("gone"), RoostError("reset", retryable=True)])
def test_a_run_that_fails_as_a_whole_is_taken_apart_before_any_of_its_items_fails(retries, error):
    pump, clock = pump_of(retries=retries, errors="collect")
    for item in range(4):
        pump.feed("a", item)
    found = []
    while len(found) < 4:
        clock.now += 10
        for flight in sent(pump):
            if 2 in [entry[1] for entry in flight.entries]:
                pump.fail(flight, error)
            else:
                pump.answer(flight, reply(flight))
        found += drain(pump)
    assert found == [("a", 0), ("a", 1), ("a", error), ("a", 3)]


def test_a_few_calls_of_a_function_are_spread_over_the_hosts():
    pump, _ = pump_of(shared=4)
    for item in range(4):
        pump.feed(None, item)
    assert [len(flight.entries) for flight in sent(pump)] == [1, 1, 1, 1]


def test_a_suspect_is_sent_again_when_its_host_has_lived_for_a_while():
    pump, clock = pump_of(retries=20)
    pump.feed("a", 0)
    pump.feed("a", 1)
    for losses in range(1, 10):
        (flight,) = sent(pump)
        pump.fail(flight, HostLost("gone"))
        assert (pump.wait() > QUICK) == (losses >= SUSPECT)
        clock.now += pump.wait()


def test_the_end_of_the_runtime_ends_the_map_whatever_errors_says():
    pump, _ = pump_of(errors="collect")
    pump.feed("a", 0)
    (flight,) = sent(pump)
    pump.fail(flight, RuntimeClosed("closed"))
    assert isinstance(pump.fatal, RuntimeClosed)
    assert drain(pump) == []  # as a failure it would count as done, and a rerun would skip it
    assert 0 not in pump.done


def test_an_item_that_cannot_be_sent_fails_alone():
    pump, _ = pump_of(errors="collect")
    for item in (0, lambda: (yield), 2):
        pump.feed("a", item)
    pump.feed("a", (n for n in ()))
    (flight,) = pump.flights()
    assert pump.pack(flight) is not None
    kept = [entry[0] for entry in flight.entries]
    assert 3 not in kept
    assert 0 in kept
    ((key, error),) = drain(pump)
    assert key == "a"
    assert isinstance(error, TypeError)


def test_batches_wait_until_they_are_complete_once_enough_is_under_way():
    pump, _ = pump_of(batch=4)
    for key in range(BATCHES):
        pump.feed(key, 0)
    assert len(sent(pump)) == BATCHES
    for item in range(3):
        pump.feed("late", item)
    assert sent(pump) == []
    pump.feed("late", 3)
    (flight,) = sent(pump)
    assert [entry[1] for entry in flight.entries] == [0, 1, 2, 3]


def test_an_ordered_map_yields_in_the_order_of_the_input_and_skips_what_was_done():
    pump, _ = pump_of(ordered=True, done=Done(1, [3]))
    for number in range(6):
        pump.feed(str(number), number)
    flights = sent(pump)
    assert [f.entries[0][0] for f in flights] == [1, 2, 4, 5]
    for flight in reversed(flights):
        assert pump.take() is NOTHING
        pump.answer(flight, reply(flight))
    assert drain(pump) == [("1", 1), ("2", 2), ("4", 4), ("5", 5)]
    assert pump.done.low == 6
    assert pump.tally.skipped == 2


def test_a_result_is_done_when_it_is_settled():
    pump, _ = pump_of()
    pump.feed("a", 0)
    (flight,) = sent(pump)
    pump.answer(flight, reply(flight))
    assert pump.take() == ("a", 0)
    assert pump.done.low == 0
    pump.settle()
    assert pump.done.low == 1


def test_errors_are_raised_with_the_item_they_are_of():
    pump, _ = pump_of()
    pump.feed("a", 0)
    (flight,) = sent(pump)
    pump.answer(flight, reply(flight, [None], {0: pack_error(ValueError("no"), None)}))
    with pytest.raises(ValueError, match="no") as raised:
        pump.take()
    assert raised.value.__notes__ == ["in map('m'), key 'a', item 0 of the input (from 0)"]


def test_an_error_function_gets_key_item_and_error_and_nothing_is_yielded():
    seen = []
    pump, _ = pump_of(errors=lambda *facts: seen.append(facts))
    pump.feed("a", 7)
    (flight,) = sent(pump)
    pump.answer(flight, reply(flight, [None], {0: pack_error(ValueError("no"), None)}))
    assert pump.take() is NOTHING
    ((key, item, error),) = seen
    assert (key, item, str(error)) == ("a", 7, "no")
    assert pump.done.low == 1


@settings(max_examples=300)
@given(
    keys=st.lists(st.integers(0, 4), max_size=40),
    ordered=st.booleans(),
    batch=st.sampled_from([1, 1, 3]),
    in_flight=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_every_item_is_applied_once_in_the_order_of_its_key(keys, ordered, batch, in_flight, seed):
    chance = random.Random(seed)
    pump, clock = pump_of(ordered=ordered, batch=batch, in_flight=in_flight, retries=10**6)
    applied = defaultdict(list)  # what the objects did, with the memory that a ledger has
    results = []
    under_way = []
    unread = list(enumerate(keys))[::-1]
    while not pump.finished:
        while pump.wants and unread and chance.random() < 0.7:
            number, key = unread.pop()
            pump.feed(key, number)
        if not unread:
            pump.exhausted = True
        for flight in pump.flights():
            packed = pump.pack(flight)
            pickle.loads(packed[1])
            under_way.append(flight)
        if under_way:
            flight = under_way.pop(chance.randrange(len(under_way)))
            what = chance.choice(["answer", "lost", "applied and lost"])
            items = [entry[1] for entry in flight.entries]
            if what != "lost":
                new = [item for item in items if item not in applied[flight.lane.key]]
                applied[flight.lane.key] += new
            if what == "answer" and batch > 1:
                groups = [tuple(range(len(items)))]
                pump.answer(flight, reply(flight, [items], groups=groups))
            elif what == "answer":
                pump.answer(flight, reply(flight))
            else:
                pump.fail(flight, HostLost("gone"))
        elif (wait := pump.wait()) is not None:
            clock.now += wait
        results += drain(pump)
    numbers = [value for _, value in results]
    if batch > 1:
        numbers = [number for batch_ in numbers for number in batch_]
    assert sorted(numbers) == list(range(len(keys)))
    if ordered and batch == 1:
        assert numbers == sorted(numbers)
    for key, order in applied.items():
        assert order == sorted(order)
        assert order == [number for number, its in enumerate(keys) if its == key]
    assert pump.done.low == len(keys)
    assert not pump.done.above
    assert not pump._lanes


@given(every=st.lists(st.integers(0, 40), unique=True), data=st.data())
def test_done_is_a_set_that_grows_from_below(every, data):
    done, numbers = Done(), every
    while numbers:
        count = data.draw(st.integers(1, len(numbers)))
        done.add(sorted(numbers[:count]))
        numbers = numbers[count:]
    numbers = every
    assert all((number in done) == (number in numbers) for number in range(42))
    heap = list(numbers)
    heapq.heapify(heap)
    low = 0
    while heap and heap[0] == low:
        low = heapq.heappop(heap) + 1
    assert done.low == low
    assert sorted(n for a, b in done.ranges() for n in range(a, b)) == sorted(done.above)
    assert Done(done.low, done.above).end == max([*numbers, -1]) + 1
