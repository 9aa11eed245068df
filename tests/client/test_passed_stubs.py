"""Stubs as arguments, results and stored values, between real processes."""

import asyncio

import pytest

from runtime import AsyncRuntime, Runtime
from workers import DurableObject
from workers.errors import InvalidId


class Counter(DurableObject):
    async def add(self, n):
        total = (await self.ctx.storage.get("total") or 0) + n
        await self.ctx.storage.put("total", total)
        return total


class Relay(DurableObject):
    """Uses stubs that others made."""

    async def add_to_all(self, stubs, *, n):
        return [await stub.add(n) for stub in stubs]

    def counter(self, name):
        return self.env.COUNTERS.getByName(name)

    async def keep(self, stub):
        await self.ctx.storage.put("stub", stub)

    async def add_to_kept(self, n):
        stub = await self.ctx.storage.get("stub")
        return stub.name, await stub.add(n)

    async def write_and_add(self, stub):
        self.ctx.storage.put("written", 1)
        return await stub.add(1)


class Tally(Counter):
    """Its ids are of no other class: in one process, a stub of it is of one runtime."""


BINDINGS = {"COUNTERS": Counter, "RELAYS": Relay}


@pytest.fixture(scope="module")
def rt(tmp_path_factory):
    with Runtime(objects=BINDINGS, data_dir=tmp_path_factory.mktemp("data"), hosts=2) as rt:
        yield rt


def test_an_object_calls_the_stubs_it_is_given(rt):
    relay = rt.env.RELAYS.getByName("r")
    counters = [rt.env.COUNTERS.getByName(f"given {number}") for number in range(8)]
    assert relay.add_to_all(counters, n=2) == [2] * 8
    assert [counter.add(1) for counter in counters] == [3] * 8
    assert relay.write_and_add(counters[0]) == 4


def test_a_program_calls_a_stub_that_it_got(rt):
    counter = rt.env.RELAYS.getByName("r").counter("got")
    assert (counter.name, counter.id) == ("got", rt.env.COUNTERS.idFromName("got"))
    assert [counter.add(1), counter.add.submit(1).result(30)] == [1, 2]
    assert rt.env.RELAYS.getByName("s").add_to_all([counter], n=1) == [3]


async def test_an_asyncio_program_does_too(tmp_path):
    bindings = {**BINDINGS, "COUNTERS": Tally}
    async with AsyncRuntime(objects=bindings, data_dir=tmp_path, hosts=1) as rt:
        counter = await rt.env.RELAYS.getByName("r").counter("got")
        assert await asyncio.gather(counter.add(1), counter.add(1)) == [1, 2]


def test_a_stored_stub_is_one_again_after_a_restart(tmp_path):
    with Runtime(objects=BINDINGS, data_dir=tmp_path, hosts=1) as rt:
        rt.env.RELAYS.getByName("r").keep(rt.env.COUNTERS.getByName("kept"))
    with Runtime(objects=BINDINGS, data_dir=tmp_path, hosts=2) as rt:
        assert rt.env.RELAYS.getByName("r").add_to_kept(5) == ("kept", 5)


def test_a_stub_of_a_runtime_without_such_objects_is_refused(rt, tmp_path):
    with Runtime(objects={"RELAYS": Relay}, data_dir=tmp_path, hosts=1) as other:
        stray = rt.env.COUNTERS.getByName("stray")
        with pytest.raises(InvalidId, match=f"Counter .{stray.id}. that does not belong"):
            other.env.RELAYS.getByName("r").add_to_all([stray], n=1)


def test_a_stub_that_several_runtimes_could_have_made_is_not_guessed_at(rt, tmp_path):
    counter = rt.env.RELAYS.getByName("r").counter("whose")
    with Runtime(objects=BINDINGS, data_dir=tmp_path, hosts=1) as other:
        with pytest.raises(RuntimeError, match="several open runtimes have objects of Counter"):
            counter.add(1)
        assert other.env.COUNTERS.get(counter.id).add(1) == 1
    assert counter.add(2) == 2
