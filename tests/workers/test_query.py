"""A URL's query reads as a mapping of first values."""

import pytest

from workers import Request
from workers.query import Query


def test_the_first_value_wins_and_all_are_there():
    query = Query("a=1&b=&a=2&c=x%20y+z")
    assert dict(query) == {"a": "1", "b": "", "c": "x y z"}
    assert query.get_all("a") == ["1", "2"]
    assert query.get("d") is None
    assert query.get("d", "e") == "e"


def test_a_missing_name_is_a_key_error():
    with pytest.raises(KeyError, match="roomId"):
        Query("")["roomId"]


def test_a_request_has_its_urls_query():
    request = Request("https://x.dev/p?roomId=a%2Fb&n=%C3%A9#frag")
    assert request.query["roomId"] == "a/b"
    assert request.query["n"] == "é"
    assert request.query is request.query
