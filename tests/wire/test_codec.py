"""Values are copies, whatever they are; errors keep what they say."""

import asyncio
import dataclasses
import datetime as dt
import pickle
import sys
import threading
from typing import NamedTuple

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import messages as m
from runtime.wire.codec import (
    OUT_OF_BAND,
    decode,
    encode,
    pack,
    pack_error,
    pack_still,
    parcel,
    unpack,
    unpack_error,
)
from workers.errors import HostLost, ObjectReset, Overloaded, RemoteError, WireError

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
values = st.recursive(
    plain | st.datetimes(timezones=st.just(dt.UTC)) | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(plain, inner)
        | st.frozensets(plain)
    ),
    max_leaves=20,
)
arrays = st.builds(
    lambda size, step: np.arange(size, dtype=np.uint8)[::step],
    st.integers(0, 3 * OUT_OF_BAND),
    st.sampled_from([1, 2, -1]),
)


@dataclasses.dataclass
class Point:
    x: int
    y: list


class Pair(NamedTuple):
    first: object
    second: object


def there(value):
    """What a value is on the other side."""
    data, frames = pack_still(value)
    return unpack(data, frames)


def arrives(error, **how):
    """What an exception is on the other side, once it was raised."""
    try:
        raise error
    except BaseException as raised:
        return unpack_error(pack_error(raised, b"\xab" * 32, **how))


# --- values ----------------------------------------------------------------------------------------


@given(values)
def test_a_value_arrives_as_it_was(value):
    assert there(value) == value
    assert type(there(value)) is type(value)


@given(st.lists(arrays, max_size=4))
def test_arrays_arrive_as_they_were_and_the_large_ones_in_frames_of_their_own(given_arrays):
    data, frames = pack_still(given_arrays)
    arrived = unpack(data, frames)
    assert [a.tolist() for a in arrived] == [a.tolist() for a in given_arrays]
    large = [a.nbytes for a in given_arrays if a.nbytes >= OUT_OF_BAND and a.flags.contiguous]
    assert [len(frame) for frame in frames] == large
    assert len(data) < sum(a.nbytes for a in given_arrays) - sum(large) + 2000


@given(st.tuples(plain, plain), st.dictionaries(st.text(), plain))
def test_plain_arguments_ride_in_the_batch_as_they_are(args, kwargs):
    kind, first, second, frames = parcel(args, kwargs)
    assert (kind, first, second or {}, frames) == (m.CALL, args, kwargs, ())


@given(st.tuples(values, values), st.dictionaries(st.text(), values))
def test_other_arguments_are_packed_whole(args, kwargs):
    kind, first, second, frames = parcel(args, kwargs)
    if kind == m.CALL:
        assert (first, second or {}) == (args, kwargs)
    else:
        assert kind == m.CALL_PACKED
        assert second == len(frames) == 0
        assert unpack(first, frames) == (args, kwargs)


def test_a_subclass_of_a_plain_type_is_not_taken_for_one():
    class Text(str):
        __slots__ = ()

    for args, kwargs in (((Text("a"),), {}), ((), {"a": Text("b")}), ((), {Text("a"): 1})):
        kind, data, _, frames = parcel(args, kwargs)
        assert kind == m.CALL_PACKED
        assert unpack(data, frames) == (args, kwargs)


@pytest.mark.parametrize("size", [10, OUT_OF_BAND])
def test_what_changes_after_the_call_has_been_made_does_not_arrive(size):
    rows, array = [1, {"a": [2]}], np.zeros(size, np.uint8)
    kind, data, count, frames = parcel((rows, array), {})
    rows[1]["a"].append(3)
    array[0] = 1
    (arrived, same), _ = unpack(data, frames)
    assert kind == m.CALL_PACKED
    assert count == len(frames) == (size >= OUT_OF_BAND)
    assert arrived == [1, {"a": [2]}]
    assert same[0] == 0


def test_arrays_over_received_frames_are_read_only():
    array = there(np.zeros(OUT_OF_BAND, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_what_shares_structure_still_does():
    shared = [1]
    first, second = there((shared, shared))
    first.append(2)
    assert second == [1, 2]
    assert shared == [1]


def test_classes_and_functions_of_the_caller_travel_by_value():
    class Local:
        def double(self):
            return 2 * self.x

    local = Local()
    local.x = 3
    assert pickle.loads(pack(local)[0]).double() == 6
    assert there(lambda x: x + 1)(1) == 2
    assert there(Point(1, [2])) == Point(1, [2])


@pytest.fixture
def main(monkeypatch):
    """A class of `__main__`, which a host cannot import; returns how to forget it here."""
    here = sys.modules["__main__"]
    made = dataclasses.make_dataclass("Reading", ["at", "values"])
    made.__module__ = "__main__"
    monkeypatch.setattr(here, "Reading", made, raising=False)
    return made, lambda: monkeypatch.delattr(here, "Reading")


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: {"r": [r, r]}, type])
def test_records_of_main_travel_by_value_wherever_they_are_in_it(main, wrap):
    cls, forget = main
    data, _ = pack(wrap(cls(1, [2])))
    forget()
    found = pickle.loads(data)
    if isinstance(found, dict):
        assert found["r"][0] is found["r"][1]
        found = found["r"][0]
    assert found == cls(1, [2]) or found is cls


def test_records_of_modules_travel_by_name():
    many = [Pair(n, [n]) for n in range(50)]
    assert there(many) == many
    assert len(pack(many)[0]) < 50 * 12 + 100


def test_records_of_a_module_that_is_registered_to_travel_by_value_do():
    module = sys.modules[__name__]
    by_name = pack(Pair(1, 2))[0]
    cloudpickle.register_pickle_by_value(module)
    try:
        by_value = pack(Pair(1, 2))[0]
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert len(by_value) > len(by_name) + 200
    assert tuple(pickle.loads(by_value)) == (1, 2)


def test_what_goes_by_value_takes_its_buffers_along_once(main):
    cls, _ = main
    array = np.arange(OUT_OF_BAND, dtype=np.uint8)
    data, buffers = pack([array, cls(1, array)])
    assert len(buffers) == 1
    assert pickle.loads(data, buffers=buffers)[1].values.sum() == array.sum()


def test_exceptions_among_values_keep_their_state():
    declined, refused = there([CardDeclined("1234", amount=5), {"why": Slotted(7)}])
    assert (declined.card, declined.amount, str(declined)) == ("1234", 5, "card 1234 was declined")
    assert refused["why"].code == 7


@pytest.mark.parametrize(
    "value", [threading.Lock(), [threading.Lock()], (n for n in "abc"), asyncio.Queue.get]
)
def test_what_cannot_be_pickled_is_a_type_error_that_names_it(value):
    if callable(value):
        value = value(None)  # a coroutine
    with pytest.raises(TypeError, match=f"^{type(value).__name__} cannot be sent to another proc"):
        pack(value)
    if asyncio.iscoroutine(value):
        value.close()


def test_a_batch_holds_its_messages_in_order():
    target = ("Room", b"\x01" * 32, "a")
    batch = [(m.CALL, 1, target, "add", (1,), None), (m.CALL, 2, target, "add", (2,), {"by": 3})]
    frame = encode(batch)
    assert decode(frame) == batch
    assert frame.count(b"Room") == 1


@pytest.mark.parametrize("frame", [b"", b"nonsense", b"\x80\x05."])
def test_what_is_no_batch_is_a_wire_error(frame):
    with pytest.raises(WireError, match="cannot be read"):
        decode(frame)


# --- errors ----------------------------------------------------------------------------------------


class CardDeclined(Exception):  # noqa: N818
    """Its constructor does not take what its base keeps as arguments."""

    def __init__(self, card, *, amount):
        super().__init__(f"card {card} was declined")
        self.card = card
        self.amount = amount


class Slotted(Exception):  # noqa: N818
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


class NotHereError(FileNotFoundError):
    def __init__(self, path, *, why):
        super().__init__(2, why, path)
        self.why = why


class BothError(OSError, ValueError):
    pass


class Reduced(Exception):  # noqa: N818
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __reduce__(self):
        return Reduced, (self.args[0], self.b * 2)


class Unreadable(Exception):  # noqa: N818
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise SystemExit("not here")


class Blind(Exception):  # noqa: N818
    """Cannot even be printed."""

    def __getattr__(self, name):
        raise KeyError(name)


class Wild(Exception):  # noqa: N818
    """Breaks whatever looks at it."""

    def __str__(self):
        raise KeyError("no text")

    def __setattr__(self, name, value):
        raise KeyError(name)

    @property
    def retryable(self):
        raise KeyError("no answer")

    overloaded = durable_object_reset = retryable


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 1),
        KeyError("k"),
        FileNotFoundError(2, "none", "f.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ImportError("none", name="n", path="p"),
        CardDeclined("1234", amount=5),
        Slotted(7),
        NotHereError("f.txt", why="gone"),
        BothError(5, "input", "f.txt"),
        TimeoutError(),
        StopAsyncIteration(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_type_message_and_attributes(error):
    attributes = ("args", "errno", "filename", "name", "path", "reason", "card", "amount", "code")
    wanted = {name: getattr(error, name) for name in attributes if hasattr(error, name)}
    arrived = arrives(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert {name: getattr(arrived, name) for name in wanted} == wanted


def test_an_error_that_says_how_to_be_pickled_is_pickled_so():
    arrived = arrives(Reduced("a", 2))
    assert (arrived.args, arrived.b) == (("a",), 4)


def test_errors_within_errors_and_among_values_arrive_too():
    group = arrives(ExceptionGroup("both", [CardDeclined("1", amount=1), Slotted(2)]))
    assert [type(error) for error in group.exceptions] == [CardDeclined, Slotted]
    (card,) = there([CardDeclined("1", amount=1)])
    assert (card.card, str(card)) == ("1", "card 1 was declined")
    noted = ValueError("x")
    noted.add_note("seen on Monday")
    assert arrives(noted).__notes__ == ["seen on Monday"]


def test_an_error_carries_where_it_was_raised_and_whose_it_is():
    arrived = arrives(ValueError("bad"))
    assert "in arrives" in arrived.remote_traceback
    assert "ValueError: bad" in str(arrived.__cause__)
    assert arrived.remote is True
    assert arrived.durable_object_id == "ab" * 32
    assert (arrived.retryable, arrived.overloaded) == (False, False)


def test_an_error_that_is_passed_on_stays_that_of_its_object():
    arrived = arrives(ValueError("bad"))
    again = unpack_error(pack_error(arrived, None))
    assert again.durable_object_id == "ab" * 32


@pytest.mark.parametrize("error", [HostLost("x"), Overloaded("x"), ObjectReset("x")])
def test_an_error_of_the_engine_keeps_its_facts_and_is_not_remote(error):
    arrived = arrives(error, remote=False)
    facts = ("retryable", "overloaded", "durable_object_reset")
    assert [getattr(arrived, fact) for fact in facts] == [getattr(error, fact) for fact in facts]
    assert arrived.remote is False
    assert arrived.remote_traceback is None
    assert arrived.durable_object_id == "ab" * 32
    named = arrives(HostLost("x", durable_object_id="cd" * 32), remote=False)
    assert named.durable_object_id == "cd" * 32


@pytest.mark.parametrize("error", [Unreadable("text"), Wild("x")])
def test_an_error_that_cannot_be_had_here_is_a_remote_error_that_names_its_type(error):
    error.__dict__["lock"] = threading.Lock() if isinstance(error, Wild) else None
    arrived = arrives(error)
    assert type(arrived) is RemoteError
    assert arrived.type_name == f"{__name__}.{type(error).__name__}"
    assert str(arrived).startswith(f"{arrived.type_name}: ")
    assert "Traceback" in arrived.remote_traceback
    assert arrived.remote is True


def test_a_fallback_keeps_the_facts_that_decide_what_to_do():
    error = Unreadable("later")
    error.retryable = True
    error.overloaded = "yes"
    arrived = arrives(error)
    assert (arrived.retryable, arrived.overloaded) == (True, True)


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError("left"),
        StopIteration(4),
        BaseExceptionGroup("all", [SystemExit(1)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_act_on_the_callers_process_arrives_as_a_remote_error(error):
    arrived = arrives(error)
    assert type(arrived) is RemoteError
    assert arrived.type_name.endswith(type(error).__name__)
    assert str(error) in str(arrived)


def test_an_error_that_cannot_be_looked_at_arrives_as_one_that_can():
    try:
        raise Blind("dark")
    except Blind as error:
        arrived = arrives(error)
    assert type(arrived) is RemoteError
    assert str(arrived).endswith("Blind: dark")
    assert "test_codec.py" in arrived.remote_traceback


async def test_any_error_that_arrives_can_be_awaited():
    future = asyncio.get_running_loop().create_future()
    future.set_exception(arrives(StopIteration()))
    with pytest.raises(RemoteError, match=r"^StopIteration$"):
        await future
