"""Slots that were hot begin apart when an instance starts again, whatever the number of its hosts."""

import contextlib
import json
import os
import signal
import time

from runtime import AsyncRuntime
from runtime.client import instance
from runtime.ids import slot_of
from tests.stepping import until
from workers import DurableObject
from workers.errors import HostLost, RuntimeClosed

SLOTS = 16
HOT = [0, 12]  # dealt out in turn they would be together with 2, 3 and 4 hosts


class Spinner(DurableObject):
    def spin(self, seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return os.getpid()


def embedded(tmp_path, **settings):
    return AsyncRuntime(
        objects={"SPINNERS": Spinner},
        data_dir=tmp_path,
        slots=SLOTS,
        log_level="error",
        **{"hosts": 2} | settings,
    )


async def spin(rt, seconds):
    """Have an object of each hot slot work; returns where they are."""
    stubs = {}
    for n in range(1000):
        stub = rt.env.SPINNERS.getByName(f"s{n}")
        stubs.setdefault(slot_of(stub.id.raw, SLOTS), stub)
    return [await stubs[slot].spin(seconds) for slot in HOT]


def owners(rt):
    return list(rt.connection.roster.owners)


async def test_hot_slots_begin_apart_with_any_number_of_hosts(tmp_path):
    async with embedded(tmp_path) as rt:
        assert owners(rt) == [slot % 2 for slot in range(SLOTS)]
        first, second = await spin(rt, 0.8)
        assert first == second
    for hosts in (2, 3, 4, 1, 2):
        async with embedded(tmp_path, hosts=hosts) as rt:
            assert len({owners(rt)[slot] for slot in HOT}) == min(hosts, 2)
            assert len(set(await spin(rt, 0))) == min(hosts, 2)  # they run where the table says
            counts = [host.slots for host in rt.status()]
            assert max(counts) - min(counts) <= 1
            assert [host.host for host in rt.status() if HOT[0] in host.owned] == [
                owners(rt)[HOT[0]]
            ]


async def test_without_balance_slots_are_dealt_out_in_turn(tmp_path):
    async with embedded(tmp_path, balance=False) as rt:
        await spin(rt, 0.8)
    for _ in range(2):
        async with embedded(tmp_path, balance=False) as rt:
            assert owners(rt) == [slot % 2 for slot in range(SLOTS)]
    async with embedded(tmp_path) as rt:
        assert owners(rt)[HOT[0]] != owners(rt)[HOT[1]]


async def test_a_supervisor_that_is_killed_has_written_down_most_of_it(tmp_path, monkeypatch):
    often = "import runtime.supervisor.supervisor as s; s.KEEP_SECONDS = 0.05; main("
    monkeypatch.setattr(instance, "_BOOT", instance._BOOT.replace("main(", often))
    kept = tmp_path / "busy.json"
    async with embedded(tmp_path) as rt:
        await spin(rt, 0.8)
        await until(kept.exists)
        await until(lambda: sum(json.loads(kept.read_bytes())["busy_s"]) > 1.5)
        os.kill(rt.connection._instance.process.pid, signal.SIGKILL)
        with contextlib.suppress(RuntimeClosed, HostLost):
            while True:
                await spin(rt, 0)
    async with embedded(tmp_path, hosts=3) as rt:
        assert owners(rt)[HOT[0]] != owners(rt)[HOT[1]]
