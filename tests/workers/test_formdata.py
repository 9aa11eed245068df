"""A form keeps its pairs in order and survives both wire formats."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import Blob, File, FormData
from workers.formdata import encode_form, parse_form

TEXT = st.text(st.characters(codec="utf-8"))


def test_brackets_read_the_first_value_and_none_when_absent():
    form = FormData({"a": "1"})
    form.append("a", "2")
    assert form["a"] == "1"
    assert form.get_all("a") == form.getAll("a") == ["1", "2"]
    assert form["b"] is None
    assert form.get("b", "d") == "d"
    assert "a" in form
    assert "b" not in form


def test_every_pair_is_seen_in_order():
    form = FormData([("a", "1"), ("b", "2"), ("a", "3")])
    assert list(form.items()) == [("a", "1"), ("b", "2"), ("a", "3")]
    assert list(form) == list(form.keys()) == ["a", "b", "a"]
    assert list(form.values()) == ["1", "2", "3"]
    assert len(form) == 3


def test_setting_replaces_all_values_in_the_place_of_the_first():
    form = FormData([("a", "1"), ("b", "2"), ("a", "3")])
    form["a"] = "4"
    assert list(form.items()) == [("a", "4"), ("b", "2")]
    form["c"] = "5"
    del form["b"]
    form.delete("never there")
    assert list(form.items()) == [("a", "4"), ("c", "5")]


def test_pop_and_setdefault_work_as_on_a_dict():
    form = FormData([("a", "1"), ("a", "2")])
    assert form.pop("a") == "1"
    assert form.pop("a", "none") == "none"
    assert form.setdefault("b", "3") == "3"
    assert form.setdefault("b", "4") == "3"


def test_a_blob_becomes_a_file():
    form = FormData({"f": Blob("x", "a/b")})
    assert isinstance(form["f"], File)
    assert (form["f"].name, form["f"].content_type) == ("blob", "a/b")
    form.append("g", Blob("x"), "g.bin")
    form.append("h", File("x", "old.txt"), "new.txt")
    assert (form["g"].name, form["h"].name) == ("g.bin", "new.txt")


def test_values_of_other_types_are_refused():
    form = FormData()
    with pytest.raises(TypeError, match="Expected single item"):
        form["a"] = ["1", "2"]
    with pytest.raises(TypeError, match="wrap bytes in a Blob"):
        form["a"] = b"x"
    with pytest.raises(TypeError, match="filename"):
        form.append("a", "text", "name.txt")
    with pytest.raises(TypeError, match="mapping, pairs"):
        FormData("a=1")
    assert len(form) == 0
    form["n"] = 3
    assert form["n"] == "3"


def test_a_form_pickles():
    form = pickle.loads(pickle.dumps(FormData([("a", "1"), ("a", "2")])))
    assert form.get_all("a") == ["1", "2"]


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_text_survives_the_urlencoded_round_trip(pairs):
    kind = "application/x-www-form-urlencoded;charset=UTF-8"
    body, content_type = encode_form(FormData(pairs), kind)
    assert content_type == kind
    assert body.isascii()
    assert list(parse_form(body, content_type).items()) == pairs


def test_a_form_without_a_wanted_type_is_multipart_with_a_boundary():
    body, content_type = encode_form(FormData({"a": "1"}))
    assert content_type.startswith("multipart/form-data; boundary=")
    assert parse_form(body, content_type)["a"] == "1"


def test_a_wanted_multipart_type_gets_the_boundary_it_lacks_or_keeps_its_own():
    assert "boundary=" in encode_form(FormData({"a": "1"}), "multipart/form-data")[1]
    body, content_type = encode_form(FormData({"a": "1"}), "multipart/form-data; boundary=xyz")
    assert content_type == "multipart/form-data; boundary=xyz"
    assert body.startswith(b"--xyz\r\n")


def test_a_type_that_is_no_form_is_refused():
    with pytest.raises(TypeError, match="cannot be sent as 'application/json'"):
        encode_form(FormData(), "application/json")
    with pytest.raises(TypeError, match="content type is application/json"):
        parse_form(b"{}", "application/json")
    with pytest.raises(TypeError, match="content type is missing"):
        parse_form(b"{}", None)


def test_malformed_utf8_becomes_replacement_characters():
    form = parse_form(b"a=%ff&b", "application/x-www-form-urlencoded")
    assert list(form.items()) == [("a", "\ufffd"), ("b", "")]
