"""Namespaces give out ids and stubs; a stub calls, and nothing else."""

import copy
import pickle
from contextvars import copy_context
from enum import StrEnum
from pathlib import Path
from weakref import WeakSet

import pytest

from runtime.batch.place import Place
from runtime.ids import NamespaceKey, ObjectId
from runtime.stubs import DurableObjectNamespace
from workers import Request
from workers.current import current_event
from workers.errors import InvalidId

PLACE = Place(Path(), None, blocking=False, maps=WeakSet())


class Calls:
    """Notes what is called."""

    def __init__(self):
        self.made = []

    def call(self, target, method, args, kwargs, timeout=None):
        self.made.append(("call", target, method, args, kwargs, timeout))
        return "called"

    def submit(self, target, method, args, kwargs, timeout=None):
        self.made.append(("submit", target, method, args, kwargs, timeout))
        return "submitted"

    def fetch(self, target, request):
        self.made.append(("fetch", target, request))
        return "fetched"

    def way_to(self, target):
        return self


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def rooms(calls):
    return DurableObjectNamespace(calls, "Room", NamespaceKey("w-Room"), PLACE)


# --- ids -------------------------------------------------------------------------------------------


def test_a_name_always_gives_the_same_id_in_both_spellings(rooms):
    found = rooms.idFromName("a")
    assert isinstance(found, ObjectId)
    assert found == rooms.id_from_name("a") == rooms.getByName("a").id == rooms.get_by_name("a").id
    assert found.name == "a"
    assert found != rooms.idFromName("b")


def test_unique_ids_differ_and_have_no_name(rooms):
    first, second = rooms.newUniqueId(), rooms.new_unique_id({})
    assert first != second
    assert first.name is None
    assert rooms.get(first).id == first


def test_a_printed_id_is_read_back_without_its_name(rooms):
    found = rooms.idFromName("a")
    again = rooms.idFromString(str(found))
    assert again == found == rooms.id_from_string(found.toString().upper())
    assert again.name is None
    assert rooms.get(again).name is None


@pytest.mark.parametrize("text", ["", "xyz", "0" * 63, "0" * 65, "g" * 64, None, 5])
def test_what_is_no_printed_id_is_refused(rooms, text):
    with pytest.raises(InvalidId, match=r"^Invalid Durable Object ID: must be 64 hex digits$"):
        rooms.idFromString(text)


def test_forged_and_foreign_ids_are_refused(rooms, calls):
    foreign = DurableObjectNamespace(calls, "Lobby", NamespaceKey("w-Lobby"), PLACE).idFromName("a")
    forged = ObjectId(bytes(32), "a")
    near = bytearray(rooms.idFromName("a").raw)
    near[31] ^= 1
    for wrong in (foreign, forged, ObjectId(bytes(near))):
        for use in (
            lambda wrong=wrong: rooms.get(wrong),
            lambda w=wrong: rooms.idFromString(str(w)),
        ):
            with pytest.raises(InvalidId, match="not valid for this namespace") as raised:
                use()
            assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize("wrong", ["a", None, b"\0" * 32, 5])
def test_get_takes_ids_only_and_says_what_it_was_given(rooms, wrong):
    with pytest.raises(TypeError, match=f"not of type 'DurableObjectId'.*{type(wrong).__name__}"):
        rooms.get(wrong)


def test_options_of_the_original_are_taken_in_every_spelling(rooms, calls):
    found = rooms.idFromName("a")
    for stub in (
        rooms.get(found, {"locationHint": "weur"}),
        rooms.get(found, locationHint="weur", routingMode="primary-only"),
        rooms.getByName("a", {"retry": {"maxRetries": 2}}),
        rooms.get_by_name("a", location_hint="enam"),
        rooms.get(found, None),
    ):
        assert stub.id == found
    for refused in (
        lambda: rooms.get(found, routingMode="any"),
        lambda: rooms.getByName("a", {"routing_mode": "any"}),
    ):
        with pytest.raises(ValueError, match="unknown routingMode: any"):
            refused()
    assert calls.made == []


def test_there_are_no_jurisdictions(rooms):
    for asked in (
        lambda: rooms.jurisdiction("eu"),
        lambda: rooms.newUniqueId(jurisdiction="eu"),
        lambda: rooms.newUniqueId({"jurisdiction": "eu"}),
    ):
        with pytest.raises(ValueError, match="Jurisdiction restrictions are not implemented"):
            asked()
    assert rooms.newUniqueId({"jurisdiction": None})


# --- stubs -----------------------------------------------------------------------------------------


def test_a_method_is_called_on_the_way_that_there_is_to_its_object(rooms, calls):
    there = Calls()
    calls.way_to = lambda target: there if target[2] == "a" else calls
    rooms.getByName("a").add.with_timeout(5)(1)
    rooms.getByName("b").add.submit(2)
    assert [(made[0], made[3], made[5]) for made in there.made] == [("call", (1,), 5)]
    assert [(made[0], made[3]) for made in calls.made] == [("submit", (2,))]


def test_making_ids_and_stubs_calls_nobody(rooms, calls):
    stub = rooms.getByName("a")
    assert (stub.name, str(stub.id)) == ("a", str(rooms.idFromName("a")))
    assert callable(stub.anything)
    assert calls.made == []


def test_any_other_attribute_is_a_method_of_the_object(rooms, calls):
    stub = rooms.getByName("a")
    assert stub.score([1], by=2) == "called"
    assert stub.score.submit(3) == "submitted"
    target = ("Room", stub.id.raw, "a")
    assert calls.made == [
        ("call", target, "score", ([1],), {"by": 2}, None),
        ("submit", target, "score", (3,), {}, None),
    ]
    assert stub.score is stub.score
    assert calls.made[0][1] is calls.made[1][1]  # a batch holds it once


def test_a_method_s_name_is_plain_text_whatever_it_was_asked_by(rooms, calls):
    class Name(StrEnum):
        SCORE = "score"

    getattr(rooms.getByName("a"), Name.SCORE)()
    assert type(calls.made[0][2]) is str
    assert calls.made[0][2] == "score"


def test_fetch_sends_a_request_or_makes_one(rooms, calls):
    stub = rooms.getByName("a")
    request = Request("http://x/a")
    assert stub.fetch(request) == "fetched"
    stub.fetch("http://x/b", method="POST", body="text")
    stub.fetch(request, headers={"x": "1"})
    (_, target, first), (_, _, second), (_, _, third) = calls.made
    assert target == ("Room", stub.id.raw, "a")
    assert first is request
    assert (second.url, second.method) == ("http://x/b", "POST")
    assert (third.url, third.headers["x"]) == ("http://x/a", "1")
    with pytest.raises(TypeError, match="Invalid URL: /x"):
        stub.fetch("/x")


def test_a_stub_can_be_looked_at_without_calling(rooms, calls):
    stub = rooms.getByName("a")
    assert repr(stub) == f"<stub of Room 'a' {stub.id}>"
    assert repr(rooms.get(rooms.idFromString(str(stub.id)))) == f"<stub of Room {stub.id}>"
    assert repr(stub.score) == "<method score of a stub>"
    assert repr(rooms) == "<namespace of Room>"
    assert not hasattr(stub, "__await__")
    assert not hasattr(stub, "__len__")
    assert copy.copy(stub) is copy.deepcopy(stub) is stub
    assert calls.made == []


def test_a_time_limit_goes_with_the_calls_of_the_method_that_has_it(rooms, calls):
    stub = rooms.getByName("a")
    stub.score.with_timeout(2)()
    stub.score.options(timeout=0.5).submit()
    stub.score.options(timeout=None)()
    stub.score()
    assert [made[5] for made in calls.made] == [2, 0.5, None, None]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_limit_must_be_positive(rooms, seconds):
    with pytest.raises(ValueError, match="positive"):
        rooms.getByName("a").score.with_timeout(seconds)


# --- stubs that were sent ------------------------------------------------------------------------


class Event:
    """An event of a worker that has rooms."""

    def __init__(self, calls):
        self.env = self
        self.calls = calls

    def _calls_to(self, target):
        return self.calls if NamespaceKey("w-Room").owns(target[1]) else None


def test_a_stub_that_was_sent_calls_in_the_name_of_the_event_that_uses_it(rooms):
    stub = pickle.loads(pickle.dumps(rooms.getByName("a")))
    assert (stub.id, stub.name) == (rooms.idFromName("a"), "a")
    for _ in range(2):  # one event after another, with the one stub
        event = Event(Calls())
        context = copy_context()
        context.run(current_event.set, event)
        assert context.run(stub.score, 1, n=2) == "called"
        assert context.run(stub.score.with_timeout(3).submit) == "submitted"
        assert context.run(stub.fetch, "http://x/") == "fetched"
        first, second, third = event.calls.made
        assert first == ("call", stub._target, "score", (1,), {"n": 2}, None)
        assert second == ("submit", stub._target, "score", (), {}, 3)
        assert third[:2] == ("fetch", stub._target)


def test_a_stub_of_another_worker_is_refused_when_it_is_used(calls):
    others = DurableObjectNamespace(calls, "Room", NamespaceKey("other-Room"), PLACE)
    stub = pickle.loads(pickle.dumps(others.getByName("a")))
    context = copy_context()
    context.run(current_event.set, Event(calls))
    with pytest.raises(InvalidId, match=f"object of Room .{stub.id}. that does not belong"):
        context.run(stub.score)
    assert calls.made == []


def test_what_is_bound_to_its_process_says_so_when_it_is_sent(rooms):
    with pytest.raises(TypeError, match="send the stub"):
        pickle.dumps(rooms.getByName("a").score)
    with pytest.raises(TypeError, match="every env has its own"):
        pickle.dumps(rooms)
