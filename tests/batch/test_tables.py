"""Tables as input: pandas, Polars, Arrow; whole pieces of them with batches, rows without."""

import itertools

import numpy as np
import pytest

from runtime.batch.source import total

KEYS = np.array([f"t{n * 7 % 5}" for n in range(1000)])
NUMBERS = np.arange(1000)


def pandas_table():
    return pytest.importorskip("pandas").DataFrame({"key": KEYS, "n": NUMBERS})


def polars_table():
    return pytest.importorskip("polars").DataFrame({"key": KEYS.tolist(), "n": NUMBERS})


def arrow_table():
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({"key": KEYS.tolist(), "n": NUMBERS})


def arrow_batches():
    return arrow_table().to_batches(300)


def arrow_reader():
    return arrow_table().to_reader(300)


def pandas_chunks():
    table = pandas_table()
    return (table.iloc[first : first + 300] for first in range(0, 1000, 300))


def polars_slices():
    return polars_table().iter_slices(300)


def arrow_batch_iterator():
    return iter(arrow_batches())


TABLES = [
    pandas_table,
    polars_table,
    arrow_table,
    arrow_batches,
    arrow_reader,
    pandas_chunks,
    polars_slices,
    arrow_batch_iterator,
]


@pytest.mark.parametrize("make", TABLES)
def test_a_batch_is_a_table_of_the_same_kind_with_the_rows_of_one_key_in_order(accounts, make):
    table = make()
    seen = {}
    for key, (kind, numbers, keys) in accounts.map("look_at", table, key="key", batch=64):
        assert keys == {key}
        assert 1 <= len(numbers) <= 64
        assert kind in {"DataFrame", "Table", "RecordBatch"}
        seen.setdefault(key, []).extend(numbers)
    assert seen == {key: NUMBERS[key == KEYS].tolist() for key in set(KEYS.tolist())}


@pytest.mark.parametrize("make", TABLES)
def test_without_batches_a_row_is_a_dict(accounts, make):
    pairs = accounts.map("same", make(), key="key", ordered=True)
    assert list(pairs) == [
        (key, {"key": key, "n": n}) for key, n in zip(KEYS.tolist(), NUMBERS.tolist(), strict=True)
    ]


def test_an_iterator_of_tables_is_read_as_results_are_taken(accounts):
    read = []

    def chunks():
        for number, chunk in enumerate(pandas_chunks()):
            read.append(number)
            yield chunk

    job = accounts.map("rows", chunks(), key="key", batch=10, in_flight=16)
    assert read == []
    assert sum(rows for _, rows in itertools.islice(job, 2)) <= 20
    assert read == [0]
    job.close()


def test_what_breaks_within_an_iterator_of_tables_is_raised_after_what_came_before(accounts):
    def broken():
        yield pandas_table()
        raise OSError("the disk is gone")

    came = []
    with pytest.raises(OSError, match="the disk is gone"):
        came.extend(rows for _, rows in accounts.map("rows", broken(), key="key", batch=2000))
    assert came == [200] * 5
    with pytest.raises(TypeError, match="begins with tables goes on with dict"):
        list(accounts.map("rows", iter([pandas_table(), {"key": 1}]), key="key", batch=2000))
    with pytest.raises(ZeroDivisionError):
        list(accounts.map("rows", (1 // n for n in [0]), key="key", batch=2))


@pytest.mark.parametrize("make", TABLES[:3])
def test_keys_may_be_integers(accounts, make):
    pairs = list(accounts.map("look_at", make(), key="n", batch=10))
    assert sorted(key for key, _ in pairs) == list(range(1000))


def test_a_missing_column_is_named(accounts):
    with pytest.raises(TypeError, match="the table has no column 'nothing'; it has key, n"):
        list(accounts.map("look_at", pandas_table(), key="nothing", batch=2))
    with pytest.raises(TypeError, match="is the name of a column"):
        accounts.map("look_at", pandas_table(), key=len, batch=2)


@pytest.mark.parametrize("batch", [1, 2])
def test_two_columns_of_one_name_are_refused(accounts, batch):
    table = pytest.importorskip("pandas").DataFrame([["a", 1]], columns=["key", "key"])
    with pytest.raises(TypeError, match="the table has several columns 'key'"):
        list(accounts.map("same", table, key="key", batch=batch))


@pytest.mark.parametrize("batch", [1, 2])
def test_columns_with_numbers_for_names_are_known_by_their_digits(accounts, batch):
    table = pytest.importorskip("pandas").DataFrame([["a", 1], ["b", 2]])
    pairs = accounts.map("rows", table, key="0", batch=batch)
    assert sorted(key for key, _ in pairs) == ["a", "b"]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_list_that_begins_with_tables_has_nothing_else(accounts, batch):
    with pytest.raises(TypeError, match="begins with tables goes on with dict"):
        list(accounts.map("rows", [pandas_table(), {"key": 1}], key="key", batch=batch))


@pytest.mark.parametrize("batch", [1, 400])
def test_lazy_frames_are_collected_when_they_are_needed(accounts, batch):
    lazy = polars_table().lazy()
    for frames, count in ((lazy, 1), ([lazy, lazy], 2), (iter([lazy]), 1)):
        pairs = list(accounts.map("rows", frames, key="key", batch=batch))
        assert len(pairs) == count * (1000 if batch == 1 else 5)


def test_a_key_that_is_missing_in_a_column_is_no_key_of_any_kind_of_table(accounts):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    columns = {"key": ["a", None, "b"]}
    encoded = arrow.array(columns["key"]).dictionary_encode()
    for table in (
        pandas.DataFrame(columns),
        pandas.DataFrame({"key": pandas.array([1, None], dtype="Int64")}),
        polars.DataFrame(columns),
        arrow.table(columns),
        arrow.table({"key": [1, None]}),
        arrow.table({"key": encoded}),
    ):
        for batch in (1, 2):
            with pytest.raises(TypeError, match="the key of an item must be a str, an integer or"):
                list(accounts.map("rows", table, key="key", batch=batch))


def test_a_key_that_a_dictionary_of_arrow_has_twice_is_one_key(accounts):
    arrow = pytest.importorskip("pyarrow")
    keys = arrow.DictionaryArray.from_arrays([0, 1, 2, 0], arrow.array(["a", "b", "a"]))
    table = arrow.table({"key": keys, "n": [0, 1, 2, 3]})
    pairs = accounts.map("look_at", table, key="key", batch=10)
    assert {key: numbers for key, (_, numbers, _) in pairs} == {"a": [0, 2, 3], "b": [1]}


def test_how_many_rows_a_list_of_tables_has_is_not_known_before():
    assert total([pandas_table(), pandas_table()]) is None
    assert (total(pandas_table()), total([1, 2]), total(iter([1]))) == (1000, 2, None)


def test_arrays_arrive_as_arrays(accounts):
    arrays = [np.full(20_000, n) for n in range(20)]
    pairs = accounts.map("sum_of", arrays, key=lambda array: int(array[0]) % 3)
    assert sorted(value for _, value in pairs) == [20_000 * n for n in range(20)]
