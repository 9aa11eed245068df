"""The host itself: slices of work, fairness between callers, what it lists and shows, its own faults."""

import asyncio
import logging

import numpy as np
import pytest

from runtime.client.connection import list_objects
from runtime.host import host as host_module
from runtime.host.activation import Activation
from runtime.host.channel import Channel
from runtime.host.context import DurableObjectContext
from runtime.storage import ObjectStorage
from runtime.storage.layout import slot_files
from runtime.wire import messages as m
from runtime.wire.codec import encode, pack_still, unpack, unpack_error
from runtime.wire.shelf import SHELVED, Shelf
from tests.stepping import settle, soon
from workers import DurableObject, Response, bindings, fetch, wait_until
from workers.current import default_env
from workers.errors import RoostError, RuntimeClosed, StorageError


class Room(DurableObject):
    seen = None

    def add(self, n=1):
        Room.seen.append(n)
        return n

    def same(self, *values):
        return values

    async def put(self, value):
        await self.ctx.storage.put("k", value)

    async def wait(self):
        await asyncio.get_running_loop().create_future()

    async def fetch(self, request):
        return Response(request.body)


class Lobby(Room):
    pass


@pytest.fixture
async def opened(house):
    Room.seen = []
    return await house(ROOMS=Room, LOBBIES=Lobby)


class Exit:
    """Where a channel's batches go."""

    def __init__(self):
        self.batches = []
        self.gone = False

    def send(self, batch, frames):
        if self.gone:
            raise LookupError("the caller is gone")
        self.batches.append((batch, frames))

    @property
    def messages(self):
        return [message for batch, _ in self.batches for message in batch]


@pytest.fixture
async def connect(opened):
    """Make a caller by hand; returns its channel and where its answers go."""

    def connect_(name=b"c1"):
        way_out = Exit()
        channel = Channel(opened.host, way_out, is_peer=name[:1] == b"h")
        opened.host._channels[name] = channel
        return channel, way_out

    return connect_


@pytest.fixture
async def hand_over(opened):
    """Let messages of a channel arrive."""

    async def hand_over_(channel, *batches, frames=(), turns=20):
        for batch in batches:
            opened.host._take(channel, batch, list(frames))
        opened.host._work_later()
        await settle(turns)

    return hand_over_


def calls(opened, numbers, name="a"):
    target = opened.env.ROOMS.getByName(name)._target
    return [(m.CALL, number, target, "add", (number,), None) for number in numbers]


# --- slices ----------------------------------------------------------------------------------------


async def test_answers_of_a_batch_leave_as_one_batch(opened, connect, hand_over, monkeypatch):
    monkeypatch.setattr(host_module, "SLICE_NS", 10**12)
    monkeypatch.setattr(host_module, "FLUSH_NS", 10**12)
    channel, way_out = connect()
    await hand_over(channel, calls(opened, range(50)))
    assert way_out.batches == [([(m.RESULT, n, n) for n in range(50)], [])]


async def test_a_flood_of_one_caller_does_not_hold_up_another(
    opened, connect, hand_over, monkeypatch
):
    monkeypatch.setattr(host_module, "SLICE_NS", 0)  # a message a slice
    flooder, flooded = connect(b"c1")
    other, answers = connect(b"c2")
    await hand_over(flooder, calls(opened, range(100)), calls(opened, range(100, 120)), turns=0)
    await hand_over(other, calls(opened, (1000, 1001)), turns=5)
    assert answers.messages == [(m.RESULT, 1000, 1000), (m.RESULT, 1001, 1001)]
    assert len(flooded.messages) < 10
    await settle(200)
    assert flooded.messages == [(m.RESULT, n, n) for n in range(120)]
    assert opened.host.idle


@pytest.mark.parametrize("slice_ns", [0, 10**9])
async def test_frames_stay_with_their_messages_wherever_a_slice_ends(
    opened, connect, hand_over, monkeypatch, slice_ns
):
    monkeypatch.setattr(host_module, "SLICE_NS", slice_ns)
    channel, way_out = connect()
    target = opened.env.ROOMS.getByName("a")._target
    batch, frames = [], []
    for number in range(6):
        values = [bytearray([number]) * 10] if number % 2 else [large(number), large(number + 10)]
        data, own = pack_still((tuple(values), {}))
        batch.append((m.CALL_PACKED, number, target, "same", data, len(own)))
        frames += own
    assert len(frames) == 6
    await hand_over(channel, batch, frames=frames, turns=50)
    sent = [frame for _, own in way_out.batches for frame in own]
    at, got = 0, {}
    for _, number, data, count in way_out.messages:
        got[number] = unpack(data, sent[at : at + count])
        at += count
    assert at == len(sent)
    for number in range(6):
        values = got[number]
        if number % 2:
            assert values == (bytearray([number]) * 10,)
        else:
            assert [value[0] for value in values] == [number, number + 10]


def large(number):
    """A value with a large buffer."""
    return np.full(70_000, number, np.uint8)


# --- faults ----------------------------------------------------------------------------------------


async def test_a_message_that_cannot_be_handled_is_answered_once_and_what_ran_runs_once(
    opened, connect, hand_over, monkeypatch, caplog
):
    channel, way_out = connect()
    deliver = Activation.deliver

    def broken(self, ticket, method, args, kwargs):
        if args == (2,):
            raise ZeroDivisionError("a fault of the engine")
        deliver(self, ticket, method, args, kwargs)

    monkeypatch.setattr(Activation, "deliver", broken)
    with caplog.at_level(logging.ERROR, "roost.host"):
        await hand_over(channel, [*calls(opened, range(4)), ()], calls(opened, range(4, 6)))
    assert Room.seen == [0, 1, 3, 4, 5]
    assert [message[:2] for message in way_out.messages if message[0] == m.RESULT] == [
        (m.RESULT, n) for n in Room.seen
    ]
    ((_, number, packed),) = [o for o in way_out.messages if o[0] == m.ERROR]
    assert number == 2
    assert isinstance(unpack_error(packed), RoostError)
    assert "a fault of the engine" in caplog.text
    assert opened.host.idle


async def test_a_caller_that_is_gone_loses_its_bodies_and_no_other_caller_anything(
    opened, connect, hand_over
):
    channel, way_out = connect(b"c1")
    _, answers = other = connect(b"c2")
    target = opened.env.ROOMS.getByName("a")._target
    upload = (m.FETCH, 1, target, "POST", "http://x/", [], 7)
    await hand_over(channel, [upload])
    assert way_out.messages[-1][:2] == (m.RESPONSE, 1)
    assert channel.streams.writing == 1
    way_out.gone = True
    await hand_over(channel, calls(opened, [2]), turns=0)
    await hand_over(other[0], calls(opened, [3]))
    assert answers.messages == [(m.RESULT, 3, 3)]
    assert channel.streams.writing == 0


async def test_a_caller_declared_gone_is_forgotten_with_its_blocking_half(
    opened, connect, hand_over
):
    channel, _ = connect(b"c1")
    lane, _ = connect(b"c1" + host_module.LANE)
    for one in (channel, lane):
        await hand_over(one, [(*calls(opened, [1])[0][:3], "wait", (), None)])
    inflow = channel.streams.receive(9)
    assert opened.host.waiting == 2
    opened.host.gone(b"c1")
    await settle()
    assert opened.host.waiting == 0
    with pytest.raises(RuntimeClosed, match="the caller is gone"):
        await anext(inflow)
    opened.host.gone(b"c1")


async def test_large_results_that_a_caller_declared_gone_did_not_take_are_removed(opened, tmp_path):
    host = opened.host
    host.caller.shelf = Shelf(tmp_path, "h0-aa")
    for name in (b"c1", b"c1" + host_module.LANE + b"1", b"c2"):
        host.take(name, encode([(m.HELLO, m.VERSION)]), [])
        pack_still(np.zeros(SHELVED), host._channels[name].shelf)
    host._to_flush.clear()  # there is no ROUTER to welcome them over

    def left():
        return len(list(tmp_path.glob("h0-aa.*.to-*")))

    assert left() == 3
    host.gone(b"c1")
    assert left() == 1
    host.gone(b"c2")
    assert left() == 0


# --- cancelling and leaving ------------------------------------------------------------------------


async def test_a_cancellation_of_an_unknown_or_ended_call_does_nothing(opened, connect, hand_over):
    channel, way_out = connect()
    await hand_over(channel, [*calls(opened, [1]), (m.CANCEL, 1), (m.CANCEL, 77)])
    assert way_out.messages == [(m.RESULT, 1, 1)]


async def test_a_closed_host_starts_nothing_not_even_for_its_peers(opened, connect, hand_over):
    channel, way_out = connect(b"h1")
    opened.host.closed = True
    target = opened.env.ROOMS.getByName("a")._target
    asked = [
        *calls(opened, [1]),
        (m.FETCH, 2, target, "GET", "http://x/", [], None),
        (m.FETCH, 3, target, "POST", "http://x/", [], 5),
        (m.OBJECTS, 4, 0, 10, None),
    ]
    await hand_over(channel, asked)
    assert way_out.messages == [(m.REFUSED, n) for n in (1, 2, 3, 4)]  # and no body was asked for
    assert Room.seen == []


async def test_a_host_is_idle_when_nothing_is_under_way(opened, disk):
    room = opened.env.ROOMS.getByName("a")
    assert opened.host.idle
    disk.hold()
    writing = room.put(1)
    await disk.held()
    assert not opened.host.idle
    disk.release()
    await soon(writing)
    assert opened.host.idle
    waiting = room.wait()
    await settle()
    assert not opened.host.idle
    waiting.cancel()
    await settle()
    assert opened.host.idle


# --- what it shows ---------------------------------------------------------------------------------


async def test_it_lists_the_objects_that_have_stored_something(opened):
    rooms = {opened.env.ROOMS.getByName(f"room {n}") for n in range(9)}
    lobby = opened.env.LOBBIES.getByName("lobby")
    for stub in (*rooms, lobby):
        await stub.put(1)
    await opened.env.ROOMS.getByName("without storage").add()
    found = await list_objects(opened.caller, None, 100)
    assert {record.id for record in found} == {stub.id for stub in (*rooms, lobby)}
    assert {record.name for record in found if record.class_name == "Lobby"} == {"lobby"}
    assert len(await list_objects(opened.caller, "Room", 100)) == 9
    assert len(await list_objects(opened.caller, None, 4)) == 4
    assert await list_objects(opened.caller, None, 0) == []


async def test_a_list_of_what_cannot_be_read_is_a_storage_error(opened, tmp_path):
    await opened.env.ROOMS.getByName("a").put(1)
    opened.host._slots.close()
    for _, path in slot_files(opened.host._slots.data):
        path.write_bytes(b"no database at all, but long enough" * 9)
    with pytest.raises(StorageError):
        await list_objects(opened.caller, None, 100)


async def test_it_shows_its_calls_objects_and_what_waits(opened):
    room = opened.env.ROOMS.getByName("a")
    await asyncio.gather(*(room.add(n) for n in range(5)))
    waiting = room.wait()
    await settle()
    opened.host.tick()
    shown = opened.roster.figures(0)
    assert (shown.calls, shown.activations, shown.waiting) == (6, 1, 1)
    assert shown.busy_ns > 0
    assert shown.event_started_ns == 0
    assert shown.beat_ns > 0
    waiting.cancel()


async def test_it_shows_since_when_it_has_been_working_while_it_works(house):
    class Watched(DurableObject):
        def look(self):
            return Watched.roster.figures(0).event_started_ns

    opened = await house(WATCHED=Watched)
    Watched.roster = opened.roster
    assert await opened.env.WATCHED.getByName("a").look() > 0
    assert opened.roster.figures(0).event_started_ns == 0


# --- what scripts import ---------------------------------------------------------------------------


async def test_module_level_names_act_for_the_event_that_runs(house):
    from workers import env

    class Script(DurableObject):
        async def names(self):
            task = asyncio.ensure_future(self.later())
            return env.ROOMS is self.env.ROOMS, await task, env.WHO

        async def later(self):
            await asyncio.sleep(0)
            return env.ROOMS is self.env.ROOMS

        async def keep(self):
            wait_until(self.later())
            return "kept"

        async def out(self):
            async def fetcher(request):
                return Response("fetched")

            return await (await fetch("http://x/", fetcher=fetcher)).text()

    opened = await house(SCRIPTS=Script, ROOMS=Room, vars={"WHO": "me"})
    script = opened.env.SCRIPTS.getByName("a")
    assert await script.names() == (True, True, "me")
    assert await script.keep() == "kept"
    assert await script.out() == "fetched"
    assert default_env() is opened.env
    await settle()
    assert opened.host.waiting == 0


@pytest.mark.parametrize(
    ("engine", "face"),
    [
        (DurableObjectContext, bindings.DurableObjectContext),
        (ObjectStorage, bindings.DurableObjectStorage),
    ],
)
def test_type_checkers_know_every_call_of_the_original_that_the_engine_has(engine, face):
    calls = {name for name in dir(engine) if name[0].islower() and name != name.lower()}
    assert len(calls) > 5
    assert calls <= set(dir(face))
