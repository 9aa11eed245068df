"""A Request is checked and normalised where a script makes it, and travels as a value."""

import pickle
from http import HTTPMethod

import pytest

from workers import FormData, Request
from workers.body import take_content
from workers.request import request_from_parts


def test_defaults():
    request = Request("https://example.com")
    assert request.url == "https://example.com/"
    assert request.method is HTTPMethod.GET
    assert request.method == "GET"
    assert request.redirect == "follow"
    assert request.body is None
    assert request.headers.raw() == []
    assert repr(request) == "Request(method='GET', url='https://example.com/')"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("HTTP://Example.COM:80/a b?q=é", "http://example.com/a%20b?q=%C3%A9"),
        ("https://x.dev:443/%2F%zz", "https://x.dev/%2F%zz"),
        ("https://x.dev:8443", "https://x.dev:8443/"),
        ("http://x.dev/a/../b/./c", "http://x.dev/b/c"),
        ("http://x.dev/..", "http://x.dev/"),
        ("http://[::1]:8787/x", "http://[::1]:8787/x"),
        ("http://münchen.example/ü", "http://xn--mnchen-3ya.example/%C3%BC"),
        ("http://fake-host/ping#top", "http://fake-host/ping#top"),
        (" http://x.dev/\n", "http://x.dev/"),
    ],
)
def test_urls_are_normalised(given, url):
    assert Request(given).url == url


@pytest.mark.parametrize(
    "url", ["/x", "", "x.dev/a", "http://", "http:///a", "http://a b/", "http://x:99999/", "//x/"]
)
def test_a_url_that_is_not_absolute_is_refused(url):
    with pytest.raises(TypeError, match="Invalid URL: "):
        Request(url)


def test_standard_methods_are_recognised_and_others_kept():
    assert Request("http://x/", method="post").method is HTTPMethod.POST
    assert Request("http://x/", method=HTTPMethod.PATCH).method is HTTPMethod.PATCH
    assert Request("http://x/", method="PURGE").method == "PURGE"
    with pytest.raises(TypeError, match="Invalid HTTP method"):
        Request("http://x/", method="GET / HTTP")
    with pytest.raises(TypeError, match="does not send TRACE"):
        Request("http://x/", method="trace")


def test_options_come_as_keywords_or_as_a_trailing_mapping():
    options = {"method": "PUT", "headers": {"a": "1"}, "body": "x", "redirect": "manual"}
    for request in (Request("http://x/", options), Request("http://x/", **options)):
        assert request.method == "PUT"
        assert request.headers["a"] == "1"
        assert request.redirect == "manual"
        assert take_content(request) == b"x"


def test_unknown_options_and_redirect_modes_are_refused():
    with pytest.raises(TypeError, match="no option 'metod'; it has body, cache"):
        Request("http://x/", metod="PUT")
    with pytest.raises(TypeError, match="follow, manual, error; found 'maybe'"):
        Request("http://x/", redirect="maybe")


def test_browser_options_are_kept_in_both_spellings():
    request = Request("http://x/", {"referrerPolicy": "origin"}, keepalive=True)
    assert request.referrer_policy == request.referrerPolicy == "origin"
    assert request.keepalive is True
    assert (request.mode, request.cache, request.is_history_navigation) == (
        "cors",
        "default",
        False,
    )


def test_a_get_has_no_body():
    for method in ("GET", "HEAD"):
        with pytest.raises(TypeError, match="GET or HEAD method cannot have a body"):
            Request("http://x/", method=method, body="x")


def test_text_and_forms_bring_their_content_type_unless_one_is_given():
    post = {"method": "POST"}
    text = Request("http://x/", post, body="x")
    assert text.headers["content-type"] == "text/plain;charset=UTF-8"
    own = Request("http://x/", post, body="x", headers={"Content-Type": "a/b"})
    assert own.headers.get_all("content-type") == ["a/b"]
    form = Request("http://x/", post, body=FormData({"a": "1"}))
    assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    kind = "application/x-www-form-urlencoded"
    coded = Request("http://x/", post, body=FormData({"a": "1"}), headers={"Content-Type": kind})
    assert coded.headers["content-type"] == kind
    assert take_content(coded) == b"a=1"
    assert Request("http://x/", post, body=b"x").headers["content-type"] is None


async def test_a_request_made_of_another_takes_its_body_over():
    first = Request("http://x/a", method="POST", headers={"a": "1"}, body="x", redirect="manual")
    second = Request(first, headers={"b": "2"})
    assert (second.url, second.method, second.redirect) == ("http://x/a", "POST", "manual")
    assert second.headers.items() == [("b", "2")]
    assert first.body_used
    assert await second.text() == "x"
    third = Request(Request("http://x/a", headers={"a": "1"}), method="POST", body="y")
    assert third.headers["a"] == "1"
    assert await third.text() == "y"
    with pytest.raises(TypeError, match="GET or HEAD"):
        Request(Request("http://x/", method="POST", body="x"), method="GET")


async def test_a_clone_has_headers_and_body_of_its_own():
    request = Request("http://x/?a=1", method="POST", headers={"a": "1"}, body="x", cf={"k": 1})
    clone = request.clone()
    clone.headers["a"] = "2"
    assert request.headers["a"] == "1"
    assert clone.cf == {"k": 1}
    assert clone.query["a"] == "1"
    assert await request.text() == await clone.text() == "x"


async def test_a_request_with_whole_content_pickles():
    request = Request(
        "http://x/?a=1", method="POST", headers=[("a", "1"), ("a", "2")], body=b"x", mode="no-cors"
    )
    copy = pickle.loads(pickle.dumps(request))
    assert (copy.url, copy.mode, copy.redirect) == ("http://x/?a=1", "no-cors", "follow")
    assert copy.method is HTTPMethod.POST
    assert copy.headers.get_all("a") == ["1", "2"]
    assert await copy.bytes() == b"x"
    assert pickle.loads(pickle.dumps(request)).body_used is False
    await request.bytes()
    assert pickle.loads(pickle.dumps(request)).body_used is True


def test_a_request_with_a_stream_says_how_it_travels():
    async def stream():
        yield b"x"

    with pytest.raises(TypeError, match=r"pass it through fetch\(\)"):
        pickle.dumps(Request("http://x/", method="POST", body=stream()))


async def test_the_engines_parts_are_taken_over_unchecked():
    pairs = [("host", "x"), ("a", "1")]
    request = request_from_parts("GET", "http://x/?q=1", pairs, b"even a body")
    assert request.method is HTTPMethod.GET
    assert request.headers.raw() is pairs
    assert request.query["q"] == "1"
    assert request_from_parts("PURGE", "http://x/").method == "PURGE"
    copy = Request(request)
    assert await copy.text() == "even a body"


def test_js_object_is_the_request_itself():
    request = Request("http://x/")
    assert request.js_object is request


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError):
        _ = Request("http://x/").nothing
