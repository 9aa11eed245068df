"""Ids: derived as a local workerd derives them, and good for one namespace only."""

import pickle

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from runtime.ids import ID_BYTES, NAME_BYTES, NamespaceKey, ObjectId, slot_of
from workers.errors import InvalidId

COUNTER = NamespaceKey("w-Counter")
OTHER = NamespaceKey("w-Other")
names = st.text(st.characters(exclude_categories=["Cs"]))


def test_an_id_is_the_one_a_local_workerd_derives():
    expected = "c2e7a6308ea6f48848f1ef93af5e8ba813dfb639d31b6ffb281d069a22d9346e"
    assert str(COUNTER.from_name("abc")) == expected
    assert COUNTER.from_name("abc").toString() == expected


@given(names, names)
@example("", "a")
def test_a_name_gives_one_id_and_another_name_another(name: str, other: str):
    object_id = COUNTER.from_name(name)
    assert object_id == COUNTER.from_name(name)
    assert object_id.equals(COUNTER.from_name(name))
    assert hash(object_id) == hash(COUNTER.from_name(name))
    assert (object_id == COUNTER.from_name(other)) == (name == other)


@given(names)
def test_an_id_comes_back_from_its_digits_without_its_name(name: str):
    object_id = COUNTER.from_name(name)
    assert object_id.name == name
    for text in (str(object_id), str(object_id).upper()):
        parsed = COUNTER.parse(text)
        assert parsed == object_id
        assert parsed.name is None


@given(names)
def test_the_id_of_another_namespace_is_refused(name: str):
    foreign = OTHER.from_name(name)
    assert not COUNTER.owns(foreign.raw)
    with pytest.raises(InvalidId, match=r"^Durable Object ID is not valid for this namespace\.$"):
        COUNTER.parse(str(foreign))


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES))
def test_an_id_made_up_is_refused(raw: bytes):
    assert not COUNTER.owns(raw)
    with pytest.raises(InvalidId):
        COUNTER.parse(raw.hex())


@given(names, st.integers(0, ID_BYTES * 8 - 1))
def test_one_bit_changed_makes_an_id_invalid(name: str, bit: int):
    forged = int.from_bytes(COUNTER.from_name(name).raw) ^ (1 << bit)
    assert not COUNTER.owns(forged.to_bytes(ID_BYTES))


@given(st.one_of(st.text(), st.text("0123456789abcdef", min_size=60, max_size=70)))
@example("00 " * 21 + "0")
@example(" " * 64)
@example("\N{ARABIC-INDIC DIGIT ZERO}" * 64)
def test_a_text_that_is_not_64_hex_digits_is_refused(text: str):
    assume(len(text) != 64 or set(text.lower()) - set("0123456789abcdef"))
    with pytest.raises(InvalidId, match=r"^Invalid Durable Object ID: must be 64 hex digits$"):
        COUNTER.parse(text)


@pytest.mark.parametrize("thing", [None, 5, b"0" * 64, ["0"] * 64])
def test_a_thing_that_is_no_text_is_refused_as_a_type_error(thing: object):
    with pytest.raises(TypeError, match="must be 64 hex digits"):
        COUNTER.parse(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_bytes_of_another_length_belong_to_nobody(size: int):
    assert not COUNTER.owns(COUNTER.from_name("a").raw.ljust(33, b"\0")[:size])


def test_unique_ids_differ_have_no_name_and_belong_to_their_namespace():
    first, second = COUNTER.unique(), COUNTER.unique()
    assert first != second
    assert first.name is None
    assert COUNTER.owns(first.raw)
    assert not OTHER.owns(first.raw)
    assert COUNTER.parse(str(first)) == first


def test_a_unique_id_is_made_of_the_random_bytes_it_is_given():
    object_id = COUNTER.unique(random=bytes)
    assert object_id.raw[:16] == bytes(16)
    assert COUNTER.owns(object_id.raw)


@pytest.mark.parametrize(("letter", "count"), [("a", NAME_BYTES), ("é", NAME_BYTES // 2)])
def test_a_name_over_1024_bytes_gives_a_valid_id_without_a_name(letter: str, count: int):
    longest, too_long = letter * count, letter * (count + 1)
    assert COUNTER.from_name(longest).name == longest
    assert COUNTER.from_name(too_long).name is None
    assert COUNTER.owns(COUNTER.from_name(too_long).raw)
    assert COUNTER.from_name(too_long) != COUNTER.from_name(too_long + letter)


def test_an_integer_names_the_object_of_its_digits():
    numpy = pytest.importorskip("numpy")
    assert COUNTER.from_name(7) == COUNTER.from_name("7") == COUNTER.from_name(numpy.int64(7))
    assert COUNTER.from_name(numpy.str_("7")) == COUNTER.from_name("7")
    assert type(COUNTER.from_name(numpy.str_("7")).name) is str


@pytest.mark.parametrize("name", [None, True, 1.5, b"abc", ("a",)])
def test_a_name_that_is_neither_text_nor_integer_is_refused(name: object):
    with pytest.raises(TypeError, match="parameter 1 is not of type 'str'"):
        COUNTER.from_name(name)  # type: ignore[arg-type]


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(UnicodeEncodeError):
        COUNTER.from_name("\ud800")


def test_an_id_compares_with_ids_only():
    object_id = COUNTER.from_name("a")
    assert object_id != str(object_id)
    assert object_id != object_id.raw
    with pytest.raises(TypeError, match="parameter 1 is not of type 'DurableObjectId'"):
        object_id.equals(str(object_id))  # type: ignore[arg-type]


@given(names)
def test_ids_and_keys_survive_pickling(name: str):
    object_id = COUNTER.from_name(name)
    copy = pickle.loads(pickle.dumps(object_id))
    assert (copy, copy.name) == (object_id, object_id.name)
    assert pickle.loads(pickle.dumps(COUNTER)) == COUNTER != OTHER
    assert pickle.loads(pickle.dumps(COUNTER)).from_name(name) == object_id


def test_an_id_shows_its_digits_and_its_name():
    object_id = COUNTER.from_name("abc")
    assert repr(object_id) == f"ObjectId({object_id}, name='abc')"
    assert repr(ObjectId(object_id.raw)) == f"ObjectId({object_id})"


@pytest.mark.parametrize("slots", [1, 16, 64])
def test_slots_are_even(slots: int):
    per_slot = 256
    counts = [0] * slots
    for index in range(slots * per_slot):
        counts[slot_of(COUNTER.from_name(f"name-{index}").raw, slots)] += 1
    # Six standard deviations of a fair spread; the names are fixed, so the answer is too.
    assert all(abs(count - per_slot) <= 6 * per_slot**0.5 for count in counts)


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.integers(0, 12))
def test_every_id_has_one_slot(raw: bytes, power: int):
    slots = 2**power
    assert slot_of(raw, slots) == int.from_bytes(raw[:8]) % slots


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.integers(0, 10))
def test_doubling_the_slots_splits_each_in_two(raw: bytes, power: int):
    slots = 2**power
    assert slot_of(raw, 2 * slots) in {slot_of(raw, slots), slot_of(raw, slots) + slots}
