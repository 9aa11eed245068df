"""Headers read like a mapping, keep repeated names, and cannot be forged."""

import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import Headers

NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))


def test_names_are_case_insensitive():
    headers = Headers({"Content-Type": "text/html"})
    assert headers["content-TYPE"] == headers.get("CONTENT-type") == "text/html"
    assert "Content-type" in headers
    assert headers.raw() == [("content-type", "text/html")]


def test_a_missing_name_reads_as_none():
    headers = Headers()
    assert headers["x"] is None
    assert headers.get("x") is None
    assert headers.get("x", "d") == "d"
    assert headers.get_all("x") == []


def test_repeated_names_are_joined_but_set_cookie_never_is():
    headers = Headers([("Accept", "a"), ("Set-Cookie", "x=1"), ("accept", "b")])
    headers.append("set-cookie", "y=2")
    assert headers.get("accept") == "a, b"
    assert headers.get("set-cookie") == "x=1"
    assert headers.getSetCookie() == headers.get_all("Set-Cookie") == ["x=1", "y=2"]
    assert headers.items() == [("accept", "a, b"), ("set-cookie", "x=1"), ("set-cookie", "y=2")]
    assert [pair[1] for pair in headers.raw()] == ["a", "x=1", "b", "y=2"]


def test_set_replaces_every_value_and_delete_removes_them():
    headers = Headers([("a", "1"), ("a", "2"), ("b", "3")])
    headers["A"] = "4"
    assert headers.get_all("a") == ["4"]
    del headers["a"]
    headers.delete("never there")
    assert headers.keys() == ["b"]


def test_it_converts_to_a_dict_and_from_python_headers():
    from http.client import HTTPMessage

    message = HTTPMessage()
    message["X-A"] = "1"
    assert dict(Headers(message)) == {"x-a": "1"}
    assert {**Headers({"b": "2"})} == {"b": "2"}


def test_a_copy_is_independent():
    first = Headers({"a": "1"})
    second = Headers(first)
    second["a"] = "2"
    assert first["a"] == "1"


def test_numbers_become_text_and_other_types_are_refused():
    assert Headers({"content-length": 5})["content-length"] == "5"
    with pytest.raises(TypeError, match="header 'x' must be a str, found list"):
        Headers({"x": ["1"]})


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\0b", "\u20ac"])
def test_a_value_cannot_smuggle_another_header(value):
    headers = Headers()
    for add in (headers.append, headers.set, lambda n, v: Headers({n: v})):
        with pytest.raises(TypeError, match="Invalid value for header 'x'"):
            add("x", value)
    assert headers.raw() == []


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "é"])
def test_a_name_is_an_http_token(name):
    with pytest.raises(TypeError, match="Invalid header name"):
        Headers({name: "v"})


def test_things_that_are_not_pairs_are_refused():
    with pytest.raises(TypeError, match="must be a mapping or pairs"):
        Headers(["abc"])


def test_raw_pairs_are_taken_over_without_a_copy():
    pairs = [("a", "1")]
    assert Headers.from_raw(pairs).raw() is pairs


def test_for_each_passes_value_then_name():
    seen = []
    Headers({"a": "1"}).forEach(lambda value, name: seen.append((value, name)))
    assert seen == [("1", "a")]


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_every_pair_comes_back_from_raw_and_through_pickle(pairs):
    headers = Headers(pairs)
    assert headers.raw() == [(name.lower(), value.strip(" \t\r\n")) for name, value in pairs]
    assert pickle.loads(pickle.dumps(headers)).raw() == headers.raw()
    for name, _ in pairs:
        assert headers.get_all(name) == [v for n, v in headers.raw() if n == name.lower()]
