"""A batch is on the other side what it was, whatever has a number by then, and ids travel once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import messages as m
from runtime.wire import numbers
from runtime.wire.codec import decode, encode
from runtime.wire.numbers import Decoder, Encoder, goes_on
from workers.errors import WireError

# Of each object several tuples that are equal, as if there were several stubs; and none at all.
TARGETS = [
    *(
        ("Room", bytes([n]) * 32, name)
        for _ in range(3)
        for n, name in enumerate(["a", "b", None, "é", "\ud800"] * 2)
    ),
    None,
]
METHODS = ["add", b"add".decode(), "a" * 300, "b"]

plain = st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=2000)
targets = st.sampled_from(TARGETS)
methods = st.sampled_from(METHODS)
number = st.integers(0, 1 << 40)
args = st.lists(plain, max_size=2).map(tuple)
calls = st.tuples(st.just(m.CALL), number, targets, methods, args, st.none())
others = st.one_of(
    st.tuples(st.just(m.CALL_PACKED), number, targets, methods, st.binary(), st.just(0)),
    st.tuples(st.just(m.FETCH), number, targets, methods, st.text(), st.just([("a", "b")]), plain),
    st.tuples(st.just(m.CANCEL), number),
    st.tuples(st.just(m.SAID), number, targets, st.just("message"), number, args),
)
batches = st.lists(calls | others, min_size=1, max_size=30)


@pytest.fixture(autouse=True)
def early(monkeypatch):
    """Everything that happens seldom happens often."""
    monkeypatch.setattr(numbers, "FEW", 3)
    monkeypatch.setattr(numbers, "LOOK", 2)
    monkeypatch.setattr(numbers, "NUMBERED", 6)
    monkeypatch.setattr(numbers, "LARGE_BATCHES", 2)


def calls_of(names, first=0, args=(1,)):
    """A batch of calls of objects, of targets that are kept like those of stubs."""
    return [(m.CALL, first + n, target, "add", args, None) for n, target in enumerate(names)]


ROOMS = [("Room", bytes([n]) * 32, f"room {n}") for n in range(5)]


@given(st.lists(batches, max_size=12))
def test_every_batch_arrives_as_it_was(said):
    encoder, decoder = Encoder(), Decoder()
    for batch in said:
        assert decoder.decode(encoder.encode(batch)) == batch


@given(st.lists(batches, max_size=12), st.integers(0, 11), st.booleans())
def test_after_a_batch_that_is_lost_or_comes_twice_none_is_taken_for_another(said, at, twice):
    encoder, decoder = Encoder(), Decoder()
    frames = [encoder.encode(batch) for batch in said]
    missed = False
    for index, (batch, frame) in enumerate(zip(said, frames, strict=True)):
        if index == at and not twice:
            missed = goes_on(frame)
            continue
        if missed and goes_on(frame):
            with pytest.raises(WireError, match="does not follow"):
                decoder.decode(frame)
        else:
            assert decoder.decode(frame) == batch
        if index == at and goes_on(frame):
            with pytest.raises(WireError, match="does not follow"):
                decoder.decode(frame)


def test_an_object_is_named_once_on_a_connection():
    encoder, decoder = Encoder(), Decoder()
    frames = [encoder.encode(calls_of(ROOMS)) for _ in range(10)]
    for room in ROOMS:
        assert sum(room[1] in frame for frame in frames) == 1
        assert sum(room[2].encode() in frame for frame in frames) == 1
    assert sum(b"add" in frame for frame in frames) == 1
    arrived = [decoder.decode(frame) for frame in frames]
    assert arrived == [calls_of(ROOMS)] * 10
    for first, *later in zip(*arrived, strict=True):
        assert all(message[2] is first[2] for message in later)  # so its id is hashed once


def test_connections_know_nothing_of_each_other():
    first = Encoder()
    first.encode(calls_of(ROOMS))
    for _ in range(2):
        encoder, decoder = Encoder(), Decoder()
        for rooms in (ROOMS, ROOMS[::-1]):
            assert decoder.decode(encoder.encode(calls_of(rooms))) == calls_of(rooms)
    with pytest.raises(WireError, match="does not follow"):
        Decoder().decode(first.encode(calls_of(ROOMS)))


def test_an_equal_target_of_another_stub_is_the_same_object_and_takes_no_number():
    encoder, decoder = Encoder(), Decoder()
    for _ in range(30):
        batch = calls_of([(*room[:2], room[2]) for room in ROOMS])
        assert decoder.decode(encoder.encode(batch)) == batch
    assert len(encoder._known) == len(ROOMS) + 1


def test_no_more_than_so_many_have_a_number_and_those_that_are_called_get_one_again(monkeypatch):
    monkeypatch.setattr(numbers, "NUMBERED", 10)
    encoder, decoder = Encoder(), Decoder()
    for turn in range(50):
        others = [("Room", b"%032d" % (turn * 4 + n), None) for n in range(4)]
        for _ in range(numbers.LOOK):
            batch = calls_of(ROOMS + others)
            assert decoder.decode(encoder.encode(batch)) == batch
        assert len(encoder._known) <= 10 + len(batch) + 1
    assert all(room in encoder._known for room in ROOMS)


def test_a_large_value_that_calls_share_is_sent_with_one_of_them():
    encoder, decoder = Encoder(), Decoder()
    decoder.decode(encoder.encode(calls_of(ROOMS)))
    shared = (b"x" * 100_000,)
    for _ in range(10):
        batch = calls_of(ROOMS * 4, args=shared)
        frame = encoder.encode(batch)
        assert decoder.decode(frame) == batch
        assert len(frame) < 110_000
    for _ in range(numbers.LARGE_BATCHES + 1):
        frame = encoder.encode(calls_of(ROOMS))
        assert decoder.decode(frame) == calls_of(ROOMS)
    assert goes_on(frame)


def test_small_batches_and_those_of_requests_are_plain_pickles():
    encoder = Encoder()
    fetch = (m.FETCH, 1, ROOMS[0], "GET", "http://x/", [], None)
    for batch in ([(m.HELLO, m.VERSION)], calls_of(ROOMS[:2]), [fetch, *calls_of(ROOMS)]):
        frame = encoder.encode(batch)
        assert not goes_on(frame)
        assert decode(frame) == batch
        assert Decoder().decode(encode(batch)) == batch


@pytest.mark.parametrize("after", [b"", b"nonsense", b"\x80\x05h\x07."])
@pytest.mark.parametrize("kind", [b"\x01", b"\x02", b"\x03"])
def test_what_is_no_batch_is_an_error(kind, after):
    with pytest.raises(WireError, match="cannot be read"):
        Decoder().decode(kind + bytes(4) + after)
