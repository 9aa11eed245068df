"""Checkpoints: what is durably done, and that nobody takes a wrong one up."""

import itertools
import json
import os

import pytest

from runtime.batch.checkpoint import DIRECTORY, FORMAT, SAMPLE, Checkpoint, Purpose
from runtime.host.ledger import GIVEN_IDS
from workers.errors import CheckpointError

PURPOSE = Purpose("Account", "add")


@pytest.fixture
def open_checkpoint(tmp_path):
    opened = []

    def open_(name="job", purpose=PURPOSE):
        opened.append(Checkpoint(tmp_path, name, purpose))
        return opened[-1]

    yield open_
    for checkpoint in opened:
        checkpoint.close()


def see(checkpoint, keys):
    for key in keys:
        checkpoint.saw(key)


def test_a_job_that_is_killed_before_its_first_save_is_the_same_job_when_it_comes_again(
    open_checkpoint,
):
    first = open_checkpoint()
    first.close()
    assert open_checkpoint().job == first.job


def test_what_is_done_and_the_job_are_found_again(open_checkpoint):
    first = open_checkpoint()
    first.done.add([0, 1])
    first.done.add([4, 5, 9])
    first.on_save = lambda: {"offset": 7}
    first.save()
    assert first.saved_low == 2
    first.done.add([2])  # never saved
    first.close()
    second = open_checkpoint()
    assert (second.done.low, second.done.above) == (2, {4, 5, 9})
    assert second.job == first.job
    assert second.note == {"offset": 7}


def test_one_map_at_a_time_has_a_checkpoint(open_checkpoint):
    open_checkpoint()
    with pytest.raises(CheckpointError, match=rf"in use by another map \(pid {os.getpid()}\)"):
        open_checkpoint()
    open_checkpoint("another")


def test_a_checkpoint_of_another_method_is_refused(open_checkpoint):
    first = open_checkpoint()
    first.save()
    first.close()
    with pytest.raises(CheckpointError, match=r"is of Account.add\(\), not of Account.take\(\)"):
        open_checkpoint(purpose=Purpose("Account", "take"))


def test_a_changed_input_is_refused(open_checkpoint):
    first = open_checkpoint()
    for number in range(2 * SAMPLE + 5):
        first.saw(f"key {number}")
        first.done.add([number])
    first.save()
    first.close()
    same = open_checkpoint()
    for number in range(3 * SAMPLE):
        same.saw(f"key {number}")
    same.ended(3 * SAMPLE)
    same.close()
    other = open_checkpoint()
    for number in range(2 * SAMPLE - 1):
        other.saw(f"key {number}" if number != 100 else "changed")
    with pytest.raises(CheckpointError, match=r"the first 2,053 items have other keys"):
        see(other, (f"key {number}" for number in range(2 * SAMPLE - 1, 2 * SAMPLE + 5)))
    other.close()
    shorter = open_checkpoint()
    with pytest.raises(CheckpointError, match="the input has 10 items"):
        shorter.ended(10)


@pytest.mark.parametrize("count", [1, 2, 3, 500, SAMPLE, SAMPLE + 1, 5 * SAMPLE])
@pytest.mark.parametrize("behind", [0, 1, 100, 3 * SAMPLE])
def test_nothing_is_done_of_an_input_that_is_another_one(open_checkpoint, count, behind):
    first = open_checkpoint()
    see(first, range(count + behind))
    if not behind:
        first.ended(count)
    first.done.add(range(count))
    first.save()
    first.close()
    same = open_checkpoint()
    see(same, range(count + 10))
    same.ended(count + 10)
    same.save()
    same.close()
    other = open_checkpoint()
    with pytest.raises(CheckpointError, match="items have other keys than those"):
        see(other, ["changed", *range(1, count)])
    other.close()
    if behind <= 100 or count >= SAMPLE:
        shorter = open_checkpoint()
        see(shorter, range(count // 2))
        with pytest.raises(CheckpointError, match=f"the input has {count // 2:,} items"):
            shorter.ended(count // 2)


def test_a_checkpoint_of_the_first_format_is_taken_up_without_a_look_at_the_input(
    open_checkpoint, tmp_path
):
    first = open_checkpoint()
    first.done.add([0, 1])
    first.save()
    first.close()
    path = tmp_path / DIRECTORY / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": 1, "sample": [2, 3]}))
    second = open_checkpoint()
    see(second, range(10))
    assert second.done.low == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1, "job": 3}', b"\xff"])
def test_a_file_that_is_no_checkpoint_is_refused(open_checkpoint, tmp_path, content):
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "job.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        open_checkpoint()


def test_a_newer_format_is_refused(open_checkpoint, tmp_path):
    open_checkpoint("old").save()
    kept = json.loads((tmp_path / DIRECTORY / "old.json").read_bytes())
    (tmp_path / DIRECTORY / "job.json").write_text(json.dumps({**kept, "format": FORMAT + 1}))
    with pytest.raises(CheckpointError, match=rf"newer Roost \(format {FORMAT + 1}\)"):
        open_checkpoint()


@pytest.mark.parametrize("name", ["", "x" * 181, "ö" * 40])
def test_a_name_that_is_no_file_name_is_refused(open_checkpoint, name):
    with pytest.raises(CheckpointError, match="a checkpoint's name has 1 to 180"):
        open_checkpoint(name)


def test_any_other_name_is_a_file_in_the_directory(open_checkpoint, tmp_path):
    open_checkpoint("../../etc/passwd").save()
    names = {path.name for path in (tmp_path / DIRECTORY).iterdir()}
    assert names == {"..%2F..%2Fetc%2Fpasswd.json", "..%2F..%2Fetc%2Fpasswd.json.lock"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / DIRECTORY).iterdir())


def test_a_map_goes_on_where_it_stopped(accounts):
    def results():
        return accounts.map(
            "log", range(1000), key=lambda n: f"resumed {n % 7}", checkpoint="resumed"
        )

    first = results()
    seen = [next(first)[1] for _ in range(400)]
    first.close()
    second = results()
    more = [value for _, value in second]
    assert second.tally.skipped == 399  # for the last one, no next was asked
    assert sorted({*seen, *more}) == list(range(1000))
    assert set(seen) & set(more) == {seen[-1]}
    for key in range(7):
        assert accounts.getByName(f"resumed {key}").seen() == list(range(key, 1000, 7))
    assert list(results()) == []


def test_an_ordered_map_goes_on_in_order(accounts):
    def results():
        return accounts.map(
            "double", range(100), key=lambda n: n % 7, ordered=True, checkpoint="ordered"
        )

    first = results()
    assert [next(first)[1] for _ in range(30)] == [2 * n for n in range(30)]
    first.close()
    assert [value for _, value in results()] == [2 * n for n in range(29, 100)]


def test_batches_go_on_too(accounts):
    def results():
        return accounts.map(
            "add_all", range(1000), key=lambda n: f"batched {n % 3}", batch=16, checkpoint="batched"
        )

    first = results()
    for _ in range(10):
        next(first)
    first.close()
    for _ in results():
        pass
    for key in range(3):
        assert accounts.getByName(f"batched {key}").total() == sum(range(key, 1000, 3))


def test_an_item_that_failed_under_raise_comes_again_and_one_that_was_collected_does_not(accounts):
    def results(name, errors):
        return accounts.map("fail_on_odd", [1, 2], key=str, errors=errors, checkpoint=name)

    for _ in range(2):
        with pytest.raises(ValueError, match="1 is odd"):
            list(results("raised", "raise"))
    assert len(list(results("collected", "collect"))) == 2
    assert list(results("collected", "collect")) == []


def test_rows_of_a_table_are_not_lost_to_another_batch(accounts):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"key": "a", "n": range(1000)})

    def results(batch):
        return accounts.map("rows", table, key="key", batch=batch, checkpoint="cut")

    first = results(10)
    done = sum(rows for _, rows in itertools.islice(first, 50))
    first.close()
    with pytest.raises(CheckpointError, match="tables also with the same batch"):
        list(results(20))
    assert done + sum(rows for _, rows in results(10)) == 1010  # the last one is yielded again


@pytest.mark.parametrize(("method", "batch"), [("log", 1), ("add_all", 7), ("add_all", 256)])
def test_an_object_remembers_all_chosen_ids_that_a_rerun_sends_again(accounts, method, batch):
    results = accounts.map(
        method,
        range(3000),
        key=lambda _: f"ids {batch}",
        item_id=lambda n: n,
        batch=batch,
        checkpoint=f"ids {batch}",
    )
    for _ in results:
        assert results.tally.read - results.checkpoint.saved_low <= GIVEN_IDS
