"""Multipart bodies: what clients send is read, what is cut off is refused."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workers import File
from workers.blob import data_of
from workers.multipart import (
    boundary_of,
    encode_multipart,
    new_boundary,
    parse_header,
    parse_multipart,
)

# A name that spells out an escape is read back as what the escape means, in every client.
NAMES = st.text(st.characters(codec="utf-8")).filter(
    lambda name: not any(escape in name for escape in ("%22", "%0A", "%0D", '\\"'))
)
TEXT = st.text(st.characters(codec="utf-8"))
FILES = st.builds(
    lambda data, name: File(data, name, "image/png", last_modified=0), st.binary(), NAMES
)


def plain(pairs):
    return [
        (name, value if isinstance(value, str) else (value.name, data_of(value)))
        for name, value in pairs
    ]


@given(st.lists(st.tuples(NAMES, TEXT | FILES)))
def test_pairs_survive_the_round_trip(pairs):
    boundary = new_boundary()
    back = parse_multipart(encode_multipart(pairs, boundary), boundary)
    assert plain(back) == plain(pairs)
    assert all(v.content_type == "image/png" for _, v in back if isinstance(v, File))


@given(st.lists(st.binary(), min_size=1))
def test_content_that_looks_like_a_boundary_is_kept(pieces):
    content = b"\r\n--xyzz".join(pieces)
    assume(b"\r\n--xyz\r\n" not in content)
    assume(b"--xyz--" not in content)
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n'
        + content
        + b"\r\n--xyz--\r\n"
    )
    ((_, file),) = parse_multipart(body, "xyz")
    assert data_of(file) == content


@given(st.binary())
def test_any_bytes_are_a_form_or_a_type_error(body):
    for attempt in (body, b"--x\r\n" + body, b"--x\r\n\r\n" + body + b"\r\n--x--"):
        try:
            parse_multipart(attempt, "x")
        except TypeError as error:
            assert "Malformed multipart form" in str(error)  # noqa: PT017


def test_every_truncation_is_refused():
    body = encode_multipart([("a", "1"), ("f", File("data", "n.txt"))], "xyz")
    whole = len(body) - len(b"\r\n")
    for length in range(whole):
        with pytest.raises(TypeError, match="Malformed multipart form"):
            parse_multipart(body[:length], "xyz")
    assert len(parse_multipart(body[:whole], "xyz")) == 2


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ('form-data; name="a"; filename="b.txt"', "a", "b.txt"),
        ("form-data; name=a; filename=b.txt", "a", "b.txt"),
        ('form-data; NAME="a"; FileName="x;y.txt"', "a", "x;y.txt"),
        (r'form-data; name="a"; filename="C:\dir\f.txt"', "a", r"C:\dir\f.txt"),
        (r'form-data; name="a"; filename="q\"t.txt"', "a", 'q"t.txt'),
        ('form-data; name="a%22%0D%0A"; filename="%22"', 'a"\r\n', '"'),
        ('form-data; name="a\\"; filename="; x"', "a\\", "; x"),
        ('form-data; name="a"; filename=""', "a", ""),
        ("form-data; name=\"a\"; filename*=UTF-8''%e2%82%ac.txt", "a", "\u20ac.txt"),
        ('form-data; name="é"; filename="ü"', "é", "ü"),
    ],
)
def test_what_browsers_curl_and_python_clients_send_is_read(disposition, name, filename):
    body = f"--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--\r\n".encode()
    ((found, file),) = parse_multipart(body, "b")
    assert (found, file.name, file.content_type) == (name, filename, "text/plain")


def test_preamble_epilogue_padding_and_header_case_are_tolerated():
    body = (
        b"preamble\r\n--b  \r\nCONTENT-DISPOSITION:form-data; name=a\r\n"
        b"content-transfer-encoding: 8bit\r\n\r\n1\r\n--b--\r\nepilogue"
    )
    assert parse_multipart(body, "b") == [("a", "1")]


@pytest.mark.parametrize(
    "part",
    [
        b"\r\n\r\nx",
        b"Content-Disposition: attachment; name=a\r\n\r\nx",
        b"Content-Disposition: form-data\r\n\r\nx",
        b"Content-Disposition: form-data; name=a\r\n",
    ],
)
def test_a_part_without_a_name_or_without_end_of_headers_is_refused(part):
    with pytest.raises(TypeError, match="Malformed multipart form"):
        parse_multipart(b"--b\r\n" + part + b"\r\n--b--", "b")


def test_a_part_without_end_of_headers_does_not_swallow_the_next_one():
    good = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--"
    with pytest.raises(TypeError, match="no end to its headers"):
        parse_multipart(b"--b\r\nContent-Disposition: form-data; name=x\r\n" + good, "b")


def test_an_empty_form_is_only_the_closing_boundary():
    assert parse_multipart(encode_multipart([], "b"), "b") == []


def test_a_boundary_is_needed_and_must_not_occur_in_the_content():
    with pytest.raises(TypeError, match="no valid boundary"):
        boundary_of({})
    with pytest.raises(TypeError, match="no valid boundary"):
        boundary_of({"boundary": "a\r\nb"})
    with pytest.raises(TypeError, match="occurs in the form's own content"):
        encode_multipart([("a", "--x")], "x")


def test_a_header_is_split_into_value_and_parameters():
    assert parse_header('Multipart/Form-Data; Boundary="a b"; x=1 ') == (
        "multipart/form-data",
        {"boundary": "a b", "x": "1"},
    )
