"""A Response is cheap to make, checked as the fetch standard says, and travels as a value."""

import pickle
from http import HTTPStatus

import pytest

from workers import FormData, Response
from workers.body import take_content
from workers.response import response_from_parts


def test_defaults():
    response = Response()
    assert (response.status, response.status_text, response.ok, response.url) == (200, "", True, "")
    assert response.headers.raw() == []
    assert response.body is None
    assert response.web_socket is None


def test_a_str_is_utf8_text_and_bytes_have_no_type():
    assert Response("x").headers["content-type"] == "text/plain;charset=UTF-8"
    assert Response("x", headers={"a": "1"}).headers.items() == [
        ("a", "1"),
        ("content-type", "text/plain;charset=UTF-8"),
    ]
    assert Response("x", headers={"Content-Type": "a/b"}).headers.get_all("content-type") == ["a/b"]
    assert Response(b"x").headers["content-type"] is None


def test_a_form_brings_its_type():
    response = Response(FormData({"a": "1"}))
    assert response.headers["content-type"].startswith("multipart/form-data; boundary=")
    kind = "application/x-www-form-urlencoded"
    assert take_content(Response(FormData({"a": "1"}), headers={"content-type": kind})) == b"a=1"


async def test_json_makes_a_response_on_the_class_and_reads_one_on_an_instance():
    response = Response.json({"a": [1]}, status=201)
    assert response.status == 201
    assert response.headers["content-type"] == "application/json"
    assert await response.json() == {"a": [1]}
    assert await Response.from_json([1], headers={"a": "1"}).json() == [1]


def test_json_keeps_a_given_content_type_and_other_headers():
    kind = {"Content-Type": "application/problem+json"}
    assert Response.json({}, headers=kind).headers.raw() == [
        ("content-type", "application/problem+json")
    ]
    headers = Response.json({}, {"headers": {"a": "1"}, "status": 404}).headers
    assert headers.items() == [("a", "1"), ("content-type", "application/json")]
    with pytest.raises(TypeError, match="not JSON serializable"):
        Response.json(object())


def test_several_cookies_stay_apart():
    response = Response(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    response.headers.append("Set-Cookie", "c=3")
    assert response.headers.raw() == [("set-cookie", f"{n}={i}") for i, n in enumerate("abc", 1)]


@pytest.mark.parametrize("status", [0, 99, 100, 102, 199, 600, 1000, -1])
def test_a_status_outside_of_the_allowed_range_is_a_value_error(status):
    with pytest.raises(ValueError, match="within 200 to 599, or 101"):
        Response(None, status=status)


def test_statuses_are_ints_or_http_statuses():
    assert type(Response(None, status=HTTPStatus.NOT_FOUND).status) is int
    assert not Response(None, status=404).ok
    with pytest.raises(TypeError, match="A status is an int, found str"):
        Response(None, status="200")


def test_101_belongs_to_a_web_socket():
    socket = object()
    response = Response(None, status=101, web_socket=socket)
    assert response.web_socket is response.webSocket is socket
    with pytest.raises(ValueError, match="needs a web_socket"):
        Response(None, status=101)
    with pytest.raises(ValueError, match="must have the status 101"):
        Response(None, web_socket=socket)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_null_body_status_has_no_body(status):
    assert Response(None, status=status).status == status
    for body in ("", b"x"):
        with pytest.raises(TypeError, match=f"null body status {status} cannot have a body"):
            Response(body, status=status)
        with pytest.raises(TypeError, match=f"null body status {status} cannot have a body"):
            Response(None, status=status).replace_body(body)


def test_options_may_come_as_a_mapping_in_the_originals_spelling():
    response = Response("x", {"status": 404, "statusText": "Nope", "headers": {"a": "1"}})
    assert (response.status, response.status_text, response.headers["a"]) == (404, "Nope", "1")
    with pytest.raises(TypeError, match="no option 'stats'"):
        Response("x", {"stats": 404})


def test_a_redirect_names_an_absolute_target():
    response = Response.redirect("https://x.dev/a b")
    assert (response.status, response.headers["location"]) == (302, "https://x.dev/a%20b")
    assert Response.redirect("https://x.dev/", 308).status == 308
    with pytest.raises(ValueError, match="301, 302, 303, 307 or 308, found 200"):
        Response.redirect("https://x.dev/", 200)
    with pytest.raises(TypeError, match="Invalid URL: /login"):
        Response.redirect("/login")


async def test_a_response_made_of_another_is_the_same_and_takes_its_body():
    first = Response("x", status=201, headers={"a": "1"})
    second = Response(first)
    assert (second.status, second.headers["a"], await second.text()) == (201, "1", "x")
    assert first.body_used
    with pytest.raises(ValueError, match="Expected no options"):
        Response(Response("x"), status=200)


async def test_the_body_can_be_replaced():
    response = Response("x", status=201, headers={"a": "1"}).replace_body("y")
    assert (response.status, response.headers["a"], await response.text()) == (201, "1", "y")


async def test_a_clone_has_headers_and_body_of_its_own():
    response = Response("x", headers={"a": "1"})
    clone = response.clone()
    clone.headers["a"] = "2"
    assert response.headers["a"] == "1"
    assert await response.text() == await clone.text() == "x"
    with pytest.raises(TypeError, match="cannot be cloned"):
        Response(None, status=101, web_socket=object()).clone()


async def test_a_response_with_whole_content_pickles():
    response = Response("x", status=404, status_text="Nope")
    copy = pickle.loads(pickle.dumps(response))
    assert (copy.status, copy.status_text) == (404, "Nope")
    assert copy.headers["content-type"] == "text/plain;charset=UTF-8"
    assert await copy.text() == "x"
    assert not response.body_used


def test_a_stream_or_a_web_socket_says_how_it_travels():
    async def stream():
        yield b"x"

    with pytest.raises(TypeError, match=r"pass it through fetch\(\)"):
        pickle.dumps(Response(stream()))
    with pytest.raises(TypeError, match=r"return it from fetch\(\)"):
        pickle.dumps(Response(None, status=101, web_socket=object()))


def test_no_headers_object_is_made_until_somebody_asks():
    response = Response("x")
    assert response._headers is None
    assert response.headers is response.headers
    assert Response.json({})._headers is None


def test_the_engines_parts_are_taken_over_unchecked():
    pairs = [("a", "1")]
    response = response_from_parts(103, "Early", pairs, b"x", url="http://x/")
    assert response.headers.raw() is pairs
    assert (response.status, response.url, take_content(response)) == (103, "http://x/", b"x")


def test_repr_says_what_it_is():
    assert repr(Response("x", 404)) == (
        "Response(status=404, content_type='text/plain;charset=UTF-8')"
    )
