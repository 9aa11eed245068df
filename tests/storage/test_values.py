"""Values: stored as they were when put, read back as copies."""

import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage import values
from workers.errors import StorageError

LIMIT = 10_000

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=8,
)


@given(anything)
def test_a_value_comes_back_equal_from_memory_and_from_its_bytes(value):
    held = values.hold("k", value, LIMIT)
    for back in (values.reveal("k", held), values.unpack("k", values.pack(held))[0]):
        assert type(back) is type(value)
        assert repr(back) == repr(value) or back == value


@given(st.one_of(st.booleans(), *(st.integers(-(1 << n), 1 << n) for n in (9, 17, 33))))
def test_an_integer_is_stored_as_a_pickle_that_is_no_longer_than_python_makes_it(value):
    data = values.pack(value)
    assert (type(pickle.loads(data)), pickle.loads(data)) == (type(value), value)
    assert len(data) <= len(pickle.dumps(value, 5))


def test_types_of_python_are_kept():
    for value in ((1, (2,)), {1: {2}}, b"\0", datetime(2024, 1, 2, tzinfo=UTC), 2**70, 1j):
        assert values.unpack("k", values.pack(values.hold("k", value, LIMIT)))[0] == value


def test_only_immutable_scalars_are_held_as_themselves():
    for value in (None, True, 7, 1.5, "text", b"bytes"):
        assert values.hold("k", value, LIMIT) is value

    class Text(str):
        __slots__ = ()

    for value in ([], {}, (), bytearray(), 2**64):
        assert isinstance(values.hold("k", value, LIMIT), values.Packed)
    with pytest.raises(TypeError):  # a subclass may be mutable, so it is pickled: here it cannot be
        values.hold("k", Text("text"), LIMIT)


class Refuses:
    def __reduce__(self):
        raise RuntimeError("not me")


@pytest.mark.parametrize(
    "value", [lambda: 1, Refuses(), (x for x in ()), sys, {"deep": [threading.Lock()]}]
)
def test_what_cannot_be_pickled_is_a_type_error_that_names_the_key(value):
    with pytest.raises(TypeError, match=r"'the key'.*cannot be pickled") as raised:
        values.hold("the key", value, LIMIT)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("kind", ["str", "bytes", "list", "int"])
def test_a_value_over_the_limit_is_refused_with_its_size(kind):
    large = {"str": "x" * LIMIT, "bytes": b"x" * LIMIT, "list": [0] * LIMIT, "int": 1 << 8 * LIMIT}
    value = large[kind]
    size = len(pickle.dumps(value, 5))
    with pytest.raises(ValueError, match=rf"larger than {LIMIT} bytes.*size {size} .*'k'"):
        values.hold("k", value, LIMIT)
    values.hold("k", value, size)


@given(st.one_of(st.text(), st.binary()), st.integers(0, 300))
def test_what_is_accepted_is_never_stored_larger_than_the_limit(value, limit):
    try:
        held = values.hold("k", value, limit)
    except ValueError:
        assert len(pickle.dumps(value, 5)) > limit
    else:
        assert len(values.pack(held)) <= limit


def test_a_class_of_main_is_stored_by_value_and_read_by_a_process_without_it():
    point = type("Point", (), {"__module__": "__main__", "norm": lambda self: self.x + 1})()
    point.x = 41
    data = values.pack(values.hold("k", point, LIMIT))
    read = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).norm())"
    done = subprocess.run([sys.executable, "-c", read], input=data, capture_output=True, check=True)
    assert done.stdout == b"42\n"


def test_a_value_whose_class_is_gone_is_a_storage_error_that_names_the_key():
    data = pickle.dumps(Refuses, 5).replace(b"Refuses", b"Renamed")
    with pytest.raises(StorageError, match=r"'k' cannot be read back.*Renamed"):
        values.unpack("k", data)


def test_a_memoryview_is_stored_as_bytes_wherever_it_is():
    view = memoryview(b"abc")[1:]
    for value, stored in ((view, b"bc"), ({"a": [view]}, {"a": [b"bc"]})):
        found = values.reveal("k", values.hold("k", value, LIMIT))
        assert repr(found) == repr(stored)
