"""What scripts pass to storage: keys, options, ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage.arguments import key_range, key_text, keys_of, read_options

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def test_a_key_may_have_2048_bytes_of_utf8_and_no_more():
    for key in ("", "k" * 2048, "é" * 1024, "😀" * 512):
        assert key_text(key) == key
    for key, size in (("k" * 2049, 2049), ("é" * 1025, 2050), ("😀" * 600, 2400)):
        with pytest.raises(ValueError, match=f"larger than 2048 bytes. A key of size {size} was"):
            key_text(key)


def test_an_integer_key_means_its_digits():
    assert key_text(-12) == "-12"
    assert keys_of([10, "9", 10]) == ["10", "9"]


@pytest.mark.parametrize("key", [None, 1.5, True, b"k", ("k",)])
def test_other_types_are_no_keys(key):
    with pytest.raises(TypeError, match=f"a key must be a str, not {type(key).__name__}"):
        key_text(key)


def test_a_lone_surrogate_is_no_key():
    with pytest.raises(ValueError, match="valid Unicode"):
        key_text("\ud800")


def test_several_keys_are_any_iterable_but_not_text_or_bytes():
    for several in (["b", "a"], ("b", "a"), {"b", "a"}, iter("ba"), {"a": 1, "b": 2}.keys()):
        assert keys_of(several) == ["a", "b"]
    for single in ("ab", b"ab", bytearray(b"ab"), 7, None, {"a": 1}):
        assert keys_of(single) is None


def test_options_come_in_both_spellings_as_dict_and_as_keywords():
    assert read_options(
        "list", {"startAfter": "a", "limit": 1}, {"no_cache": True, "limit": 2}
    ) == {
        "start_after": "a",
        "limit": 2,
        "no_cache": True,
    }
    assert read_options("put", None, {"allowUnconfirmed": True}) == {"allow_unconfirmed": True}


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(TypeError, match=r"list\(\) has no option 'lmit'; it has .*prefix"):
        read_options("list", None, {"lmit": 1})
    with pytest.raises(TypeError, match=r"get\(\) has no option 'allowUnconfirmed'"):
        read_options("get", {"allowUnconfirmed": True}, {})
    with pytest.raises(TypeError, match="must be a dict, not str"):
        read_options("get", "json", {})


def test_a_range_is_checked():
    with pytest.raises(TypeError, match="both start and startAfter"):
        key_range({"start": "a", "start_after": "a"})
    for limit in (0, -1):
        with pytest.raises(TypeError, match=r"List limit must be positive\."):
            key_range({"limit": limit})
    with pytest.raises(TypeError, match="must be an integer, not str"):
        key_range({"limit": "2"})

    with pytest.raises(TypeError, match=r"the prefix of list\(\) must be a str, not bytes"):
        key_range({"prefix": b"a"})


async def test_a_limit_may_be_larger_than_any_list(storage):
    await storage.put("a", 1)
    assert await storage.list(limit=1 << 64) == {"a": 1}


optional = st.none() | keys


@given(optional, st.booleans(), optional, optional, keys)
def test_a_range_has_the_keys_that_its_options_describe(start, after, end, prefix, key):
    wanted = key_range({"start_after" if after else "start": start, "end": end, "prefix": prefix})
    expected = (
        (start is None or (key > start if after else key >= start))
        and (end is None or key < end)
        and key.startswith(prefix or "")
    )
    assert (key.encode() in wanted) == expected
