"""`namespace.map` in a plain program, on real hosts."""

import gc
import json
from queue import SimpleQueue
from threading import Semaphore

import pytest

from runtime import Runtime
from runtime.batch import job
from workers.errors import HostLost, ObjectReset, RemoteError, RuntimeClosed


def test_every_item_reaches_the_object_of_its_key_and_its_result_comes_back(accounts):
    items = range(1000)
    pairs = list(accounts.map("double", items, key=lambda n: n % 7))
    assert sorted(pairs) == sorted((n % 7, 2 * n) for n in items)


def test_items_of_a_key_are_applied_in_order(accounts):
    for key, value in accounts.map("log", range(300), key=lambda n: f"order {n % 5}"):
        assert key == f"order {value % 5}"
    for key in range(5):
        assert accounts.getByName(f"order {key}").seen() == list(range(key, 300, 5))


def test_an_ordered_map_yields_in_the_order_of_the_input(accounts):
    pairs = accounts.map("double", range(2000), key=lambda n: n % 11, ordered=True)
    assert [value for _, value in pairs] == [2 * n for n in range(2000)]


def test_a_batch_is_a_list_of_items_of_one_key(accounts):
    pairs = list(accounts.map("add_all", range(500), key=lambda n: f"batch {n % 3}", batch=20))
    by_key = {}
    for key, numbers in pairs:
        assert 1 <= len(numbers) <= 20
        by_key.setdefault(key, []).extend(numbers)
    assert by_key == {f"batch {key}": list(range(key, 500, 3)) for key in range(3)}
    assert accounts.getByName("batch 1").total() == sum(range(1, 500, 3))


def test_a_key_is_a_field_a_name_or_an_id(accounts):
    rows = [{"who": "f1", "n": 1}, {"who": "f2", "n": 2}]
    assert list(accounts.map("seen", [], key="who")) == []
    found = accounts.map("double", [2, 3], key=lambda _: accounts.idFromName("f1"))
    assert [value for _, value in found] == [4, 6]
    found = accounts.map("rows", rows, key="who")
    assert sorted(found) == [("f1", 2), ("f2", 2)]


@pytest.mark.parametrize("key", [lambda n: 1.5, lambda n: None, lambda n: True])
def test_what_cannot_be_a_key_is_refused_by_name(accounts, key):
    with pytest.raises(TypeError, match="the key of an item must be a str, an integer or"):
        list(accounts.map("double", [1], key=key))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"batch": 0}, ValueError),
        ({"in_flight": 0}, ValueError),
        ({"retries": -1}, ValueError),
        ({"errors": "ignore"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "5"}, ValueError),
        ({"checkpoint": 5}, TypeError),
        ({"item_id": "n"}, TypeError),
        ({"checkpoint": ""}, Exception),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(accounts, wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        accounts.map("double", iter(()), key=str, **wrong)


def test_nothing_is_read_before_it_is_asked_for_and_never_more_than_in_flight(accounts):
    position = 0

    def items():
        nonlocal position
        while True:
            position += 1
            yield position

    results = accounts.map("double", items(), key=lambda n: n % 3, in_flight=50)
    assert position == 0
    for taken in range(1, 400):
        next(results)
        assert position <= taken + 50
    results.close()
    assert list(results) == []


class Announced(SimpleQueue):
    """Answers whose coming can be waited for."""

    def __init__(self):
        self.came = Semaphore(0)

    def put(self, answer):
        super().put(answer)
        self.came.release()


def test_a_result_that_is_there_does_not_wait_for_a_slow_input(accounts, monkeypatch):
    monkeypatch.setattr(job, "PORTION_SECONDS", -1)  # any input is slow
    monkeypatch.setattr(job, "SLOW_SECONDS", -1)
    answers = Announced()
    happened = []

    def slow():
        for number in range(5):
            happened.append(("asked for", number))
            if number:  # while it is waited for, the one before is answered
                assert answers.came.acquire(timeout=30)
            yield number

    results = accounts.map("double", slow(), key=lambda n: f"slow {n}")
    results._answers = answers
    for _, value in results:
        happened.append(("result", value // 2))
    assert [number for what, number in happened if what == "result"] == [0, 1, 2, 3, 4]
    for number in range(3):
        late = happened.index(("asked for", number + 2))
        assert happened.index(("result", number)) < late


def test_an_asynchronous_iterable_is_refused_with_what_to_use(accounts):
    async def items():
        yield 1

    with pytest.raises(TypeError, match="use AsyncRuntime"):
        accounts.map("double", items(), key=str)


def test_the_first_error_is_raised_and_ends_the_map(accounts):
    results = accounts.map("fail_on_odd", range(100), key=str, ordered=True)
    assert next(results) == ("0", 0)
    with pytest.raises(ValueError, match="1 is odd") as raised:
        next(results)
    assert "item 1 of the input" in raised.value.__notes__[0]
    assert raised.value.remote
    assert list(results) == []


def test_errors_are_collected_or_handed_over(accounts):
    pairs = dict(accounts.map("fail_on_odd", range(6), key=str, errors="collect"))
    assert [str(pairs[key]) for key in "135"] == ["1 is odd", "3 is odd", "5 is odd"]
    failed = []
    pairs = accounts.map(
        "fail_on_odd", range(6), key=str, errors=lambda key, item, error: failed.append(item)
    )
    assert sorted(pairs) == [("0", 0), ("2", 2), ("4", 4)]
    assert sorted(failed) == [1, 3, 5]


def test_an_unknown_method_fails_every_item(accounts):
    with pytest.raises(TypeError, match='does not implement the method "nothing"'):
        list(accounts.map("nothing", [1, 2], key=str))


def test_an_item_that_waits_too_long_times_out_and_the_next_goes_on(accounts):
    pairs = accounts.map("never", [1, 2], key=lambda _: "timeout", timeout=0.05, errors="collect")
    errors = [error for _, error in pairs]
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert "waited for longer than 0.05 s" in str(errors[0])
    assert accounts.getByName("timeout").double(2) == 4


def test_closing_or_dropping_the_iterator_cancels_what_is_under_way(accounts, rt):
    results = accounts.map("never", range(1000), key=lambda n: n % 50)
    results._serve()
    assert results._under_way
    del results
    gc.collect()
    for key in range(50):  # cancelled calls hold nobody up
        assert accounts.getByName(str(key)).double(1) == 2


def test_an_answer_that_comes_after_its_map_was_stopped_is_dropped(accounts):
    results = accounts.map("never", [1], key=lambda _: "stopped")
    results._serve()
    (waiter,) = results._under_way
    results.close()
    waiter.set_result("late")
    assert results._answers.empty()


def test_a_killed_host_costs_nothing_but_a_retry(accounts, rt, kill):
    results = accounts.map("add", range(3000), key=lambda n: f"killed {n % 20}")
    for count, _ in enumerate(results):
        if count in {500, 1500}:
            kill(rt, count % 2)
    assert results.tally.done == 3000
    for key in range(20):
        assert accounts.getByName(f"killed {key}").total() == sum(range(key, 3000, 20))


def test_a_deadly_item_fails_alone_and_the_others_are_applied(accounts):
    items = [(number, 13) for number in range(40)]
    pairs = list(
        accounts.map("die_on", items, key=lambda item: item[0] % 4, retries=3, errors="collect")
    )
    lost = [value for _, value in pairs if isinstance(value, HostLost)]
    assert len(lost) == 1
    values = sorted(value for _, value in pairs if not isinstance(value, HostLost))
    assert values == [number for number in range(40) if number != 13]


def test_a_deadly_item_with_the_usual_retries_leaves_the_instance_alive(accounts):
    items = [(number, 0) for number in range(3)]
    pairs = list(accounts.map("die_on", items, key=lambda _: "deadly", errors="collect"))
    assert isinstance(pairs[0][1], HostLost)
    assert [value for _, value in pairs[1:]] == [1, 2]


def test_an_item_that_resets_its_object_fails_alone(accounts):
    items = [(number, 2) for number in range(4)]  # one run
    pairs = list(
        accounts.map("abort_on", items, key=lambda _: "reset", errors="collect", retries=1)
    )
    assert [value for _, value in pairs if isinstance(value, int)] == [0, 1, 3]
    assert isinstance(pairs[2][1], ObjectReset)


@pytest.mark.parametrize("how", ["exit", "interrupt", "cancel"])
def test_an_item_that_would_end_a_process_fails_alone(accounts, how):
    items = [(number, 3, how) for number in range(4)]  # one run
    pairs = list(accounts.map("fail_on", items, key=lambda _: f"ends {how}", errors="collect"))
    assert [value for _, value in pairs[:3]] == [0, 1, 2]
    assert isinstance(pairs[3][1], RemoteError)


def test_a_result_that_cannot_be_sent_fails_alone(accounts):
    items = [(number, 2) for number in range(4)]  # one run
    pairs = list(accounts.map("lock_on", items, key=lambda _: "lock", errors="collect"))
    assert [value for _, value in pairs if isinstance(value, list)] == [[0], [1], [3]]
    with pytest.raises(TypeError, match="lock cannot be sent to another process"):
        raise pairs[2][1]


def test_what_the_input_raises_says_at_which_item(accounts):
    with pytest.raises(KeyError, match="who") as raised:
        list(accounts.map("rows", [{"who": "a"}, {}], key="who"))
    assert raised.value.__notes__ == ["in map('rows'), reading item 1 of the input (from 0)"]


def test_two_maps_and_plain_calls_share_the_hosts(accounts):
    first = accounts.map("double", range(500), key=lambda n: n % 9)
    second = accounts.map("double", range(500), key=lambda n: n % 9)
    total = 0
    for (_, one), (_, other) in zip(first, second, strict=True):
        total += one + other
        if total % 7 == 0:
            assert accounts.getByName("shared").double(3) == 6
    assert total == 4 * sum(range(500))


def test_closing_the_runtime_closes_its_maps_and_tells_whoever_iterates(tmp_path, account_class):
    with Runtime(objects={"ACCOUNTS": account_class}, data_dir=tmp_path, hosts=1) as rt:
        results = rt.env.ACCOUNTS.map("double", range(100_000), key=str, checkpoint="cut")
        for _ in range(10):
            next(results)
    with pytest.raises(RuntimeClosed, match="before the map ended"):
        next(results)
    assert list(results) == []
    kept = json.loads((tmp_path / "checkpoints" / "cut.json").read_bytes())
    assert kept["low"] + sum(end - first for first, end in kept["above"]) == 9
