"""A slot of a host that stays much busier than another moves by itself, and a single hot object stays."""

import asyncio
import time

import pytest

from runtime import AsyncRuntime
from runtime.ids import slot_of
from tests.stepping import until
from workers import DurableObject

SLOTS = 16


class Spinner(DurableObject):
    def spin(self, seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    async def spin_later(self, seconds):
        await asyncio.sleep(0)
        self.spin(seconds)


def embedded(tmp_path, **settings):
    return AsyncRuntime(
        objects={"SPINNERS": Spinner}, data_dir=tmp_path, hosts=2, slots=SLOTS, **settings
    )


def of_host(rt, host, count):
    """Stubs of objects in different slots of a host."""
    found = {}
    for n in range(1000):
        stub = rt.env.SPINNERS.getByName(f"s{n}")
        slot = slot_of(stub.id.raw, SLOTS)
        if rt.connection.roster.owners[slot] == host:
            found.setdefault(slot, stub)
    return dict(list(found.items())[:count])


async def call(stub, method, stopped):
    while not stopped.is_set():
        await getattr(stub, method)(0.01)


async def test_a_slot_moves_from_a_busy_host_to_an_idle_one_while_its_calls_go_on(tmp_path):
    async with embedded(tmp_path) as rt:
        busy = of_host(rt, 0, 2)
        stopped = asyncio.Event()
        calls = [asyncio.create_task(call(stub, "spin", stopped)) for stub in busy.values()]
        roster = rt.connection.roster
        async with asyncio.timeout(60):
            while not roster.changes:  # noqa: ASYNC110  (another process decides)
                await asyncio.sleep(0.05)
        assert sorted(roster.owners[slot] for slot in busy) == [0, 1]
        stopped.set()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("method", ["spin", "spin_later"])
async def test_what_a_slot_takes_is_its_owner_s_to_tell(tmp_path, method):
    async with embedded(tmp_path, balance=False) as rt:
        (hot, stub), (cool, other) = of_host(rt, 0, 2).items()
        roster = rt.connection.roster
        for _ in range(20):
            await asyncio.gather(getattr(stub, method)(0.02), getattr(other, method)(0.002))
        await until(lambda: roster.busy[hot] > 0.2e9)
        assert roster.busy[hot] > 2 * roster.busy[cool]
        assert sum(roster.busy[slot] for slot in range(SLOTS) if slot not in {hot, cool}) == 0
        await until(lambda: rt.status()[0].busiest)
        assert rt.status()[0].busiest[0].id == str(stub.id)
        assert rt.status()[1].busiest == ()
