"""Slots move while everybody calls: nothing is lost, doubled or out of order, and storage goes along."""

import asyncio
import contextlib
import os
import random
import signal
import threading

import numpy as np
import pytest

from runtime import AsyncRuntime, Runtime, control
from runtime.ids import slot_of
from tests.placement.worker import Counter, Default
from tests.stepping import until
from workers.errors import HostLost, RoostError, RuntimeClosed

SLOTS, HOSTS = 16, 2


def embedded(tmp_path, kind=AsyncRuntime):
    return kind(
        entrypoint=Default,
        objects={"COUNTERS": Counter},
        data_dir=tmp_path,
        hosts=HOSTS,
        slots=SLOTS,
        log_level="error",
    )


def owners(rt):
    connection = getattr(rt, "connection", None) or rt._connection
    return connection.roster.owners


def slot(stub):
    return slot_of(stub.id.raw, SLOTS)


def in_slot(rt, number, count):
    """Names of objects of a slot."""
    names = (f"in{n}" for n in range(10_000))
    found = (name for name in names if slot(rt.env.COUNTERS.getByName(name)) == number)
    return [next(found) for _ in range(count)]


async def move_all(rt, rounds, stop=None):
    """Move each slot to and fro; returns how many moves there were."""
    moves = 0
    for _ in range(rounds):
        for number in random.Random(rounds).sample(range(SLOTS), SLOTS):
            if stop is not None and stop.is_set():
                return moves
            await rt.move_slot(number, 1 - owners(rt)[number])
            moves += 1
    return moves


async def count_to(stub, most, moving, method="add"):
    """Call in bursts until the slots stand still; returns how far it came."""
    number = 0
    while not moving.done():
        burst = range(number, number + random.randrange(1, most))
        answers = await asyncio.gather(*(getattr(stub, method)(n) for n in burst))
        assert answers == list(burst)
        number = burst.stop
    return number


async def test_nothing_is_lost_doubled_or_reordered_under_pipelined_calls(tmp_path):
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(move_all(rt, 6))
        counters = [rt.env.COUNTERS.getByName(f"c{n}") for n in range(32)]
        tables = [rt.env.COUNTERS.getByName(f"t{n}") for n in range(8)]
        reached = await asyncio.gather(
            *(count_to(stub, 30, moving) for stub in counters),
            *(count_to(stub, 5, moving, "insert") for stub in tables),
        )
        assert await moving == 6 * SLOTS
        assert [await stub.count() for stub in counters] == reached[:32]
        records = await rt.objects()
        assert len(records) == len({record.id for record in records}) == 40
        assert all(host.waiting == 0 for host in rt.status())


async def test_objects_call_each_other_while_they_move(tmp_path):
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(move_all(rt, 3))

        async def chain(n):
            caller, number = rt.env.COUNTERS.getByName(f"from{n}"), 0
            while not moving.done():
                assert await caller.pass_on(f"to{n}", number) == number
                assert await caller.write_and_pass_on(f"to{n}", number + 1) == [
                    number + 1,
                    number + 2,
                ]
                number += 3
            return number

        reached = await asyncio.gather(*(chain(n) for n in range(24)))
        assert await moving == 3 * SLOTS
        counts = [await rt.env.COUNTERS.getByName(f"to{n}").count() for n in range(24)]
        assert counts == reached


async def test_an_event_that_needs_another_object_of_its_slot_does_not_hold_it_up(tmp_path):
    async with embedded(tmp_path) as rt:
        first, second = in_slot(rt, 3, 2)
        busy = True
        count = 0

        async def chain():
            nonlocal count
            while busy:
                burst = (
                    rt.env.COUNTERS.getByName(first).pass_on(second, count + n) for n in range(5)
                )
                assert await asyncio.gather(*burst) == list(range(count, count + 5))
                count += 5

        calling = asyncio.create_task(chain())
        for turn in range(20):
            await rt.move_slot(3, 1 - turn % 2)
        busy = False
        await calling
        assert await rt.env.COUNTERS.getByName(second).count() == count


def test_blocking_threads_and_submitted_calls_follow_the_slots(tmp_path):
    with embedded(tmp_path, Runtime) as rt:
        stopped = threading.Event()
        reached, errors = {}, []

        def one_by_one(n):
            stub, number = rt.env.COUNTERS.getByName(f"thread{n}"), 0
            try:
                while not stopped.is_set():
                    assert stub.add(number) == number
                    number += 1
                    if number % 7 == 0:  # what is submitted goes another way
                        later = [stub.add.submit(number + n) for n in range(3)]
                        assert [call.result(30) for call in later] == [number + n for n in range(3)]
                        number += 3
            except BaseException as error:
                errors.append(error)
            reached[stub] = number

        threads = [threading.Thread(target=one_by_one, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            for number in range(SLOTS):
                rt.move_slot(number, 1 - owners(rt)[number])
        stopped.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert all(stub.count() == number for stub, number in reached.items())


async def test_alarms_ring_where_their_objects_are(tmp_path):
    async with embedded(tmp_path) as rt:
        stubs = [rt.env.COUNTERS.getByName(f"a{n}") for n in range(16)]
        await asyncio.gather(*(stub.ring(30) for stub in stubs))
        await move_all(rt, 4)
        async with asyncio.timeout(30):
            while any([await stub.rang() < 30 for stub in stubs]):
                pass
        assert [await stub.rang() for stub in stubs] == [30] * 16


async def test_bodies_large_arguments_and_items_go_along(tmp_path):
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(move_all(rt, 2))
        stub = rt.env.COUNTERS.getByName("large")
        arrays = [np.zeros(200_000, np.uint8), np.zeros(2_000_000, np.uint8)]
        while not moving.done():
            assert await asyncio.gather(*(stub.size(*arrays) for _ in range(4))) == [2_200_000] * 4
            assert [item async for item in stub.items(50)] == list(range(50))
        await moving


async def test_requests_and_their_bodies_reach_objects_that_move(tmp_path):
    async def body():
        for _ in range(20):
            yield b"x" * 50_000

    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(move_all(rt, 3))

        async def visit(name, straight):
            number = 0
            while not moving.done():
                url = f"http://x/?name={name}&number={number}"
                sent = body() if number % 2 else b"short"
                if straight:
                    stub = rt.env.COUNTERS.getByName(name)
                    response = await stub.fetch(url, method="POST", body=sent)
                else:
                    response = await rt.fetch(url, method="POST", body=sent)
                assert await response.text() == f"{1_000_000 if number % 2 else 5} {number}"
                number += 1

        await asyncio.gather(*(visit(f"v{n}", straight=n % 2 == 0) for n in range(12)))
        assert await moving == 3 * SLOTS


async def test_a_map_goes_on_over_moving_slots(tmp_path):
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(move_all(rt, 3))
        told = dict.fromkeys((f"m{n}" for n in range(20)), 0)

        def numbers():
            while not moving.done():
                for name, number in told.items():
                    told[name] = number + 1
                    yield name, number

        answers = dict.fromkeys(told, 0)
        results = rt.env.COUNTERS.map("add_item", numbers(), key=lambda item: item[0])
        async for name, answer in results:
            assert answer == answers[name]
            answers[name] += 1
        assert answers == told
        assert await moving == 3 * SLOTS


async def test_an_event_that_does_not_end_keeps_its_slot_and_calls_go_on(tmp_path):
    async with embedded(tmp_path) as rt:
        stub = rt.env.COUNTERS.getByName("waits")
        pid, waiting = await stub.pid(), asyncio.ensure_future(stub.wait())
        assert await stub.add(0) == 0
        home = owners(rt)[slot(stub)]
        moving = asyncio.ensure_future(rt.move_slot(slot(stub), 1 - home))
        calls = [asyncio.ensure_future(stub.add(n)) for n in range(1, 50)]
        with pytest.raises(RoostError, match=rf"stays at host {home}: .*{stub.id} .*goes on"):
            await moving
        assert await asyncio.gather(*calls) == list(range(1, 50))
        assert await stub.pid() == pid
        await stub.go_on()
        assert await waiting == pid
        await rt.move_slot(slot(stub), 1 - home)
        assert await stub.add(50) == 50
        assert await stub.pid() != pid


async def test_a_move_to_where_the_slot_is_does_nothing_and_to_nowhere_is_an_error(tmp_path):
    async with embedded(tmp_path) as rt:
        await rt.move_slot(5, 1)
        assert rt.connection.roster.changes == 0
        with pytest.raises(ValueError, match="no host 2: they are 0 to 1"):
            await rt.move_slot(5, 2)
        with pytest.raises(ValueError, match="no slot 16: they are 0 to 15"):
            await rt.move_slot(16, 0)


async def test_moves_that_are_asked_for_at_once_come_one_after_the_other(tmp_path):
    async with embedded(tmp_path) as rt:
        await asyncio.gather(*(rt.move_slot(9, n % 2) for n in range(10)), rt.move_slot(2, 1))
        assert owners(rt)[9] == 1
        assert owners(rt)[2] == 1
        assert rt.connection.roster.changes == 11


async def test_a_reload_while_slots_move_keeps_both(tmp_path):
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(keep_moving(rt, 40))
        stubs = [rt.env.COUNTERS.getByName(f"r{n}") for n in range(16)]
        counting = [asyncio.create_task(count_to(stub, 10, moving)) for stub in stubs]
        await rt.reload()
        await moving
        reached = await asyncio.gather(*counting)
        assert [await stub.count() for stub in stubs] == reached


async def keep_moving(rt, moves):
    """Move slots, whatever becomes of the hosts."""
    for turn in range(moves):
        number = turn * 5 % SLOTS
        try:
            await rt.move_slot(number, 1 - owners(rt)[number])
        except RuntimeClosed:
            raise
        except RoostError:  # its owner has died or is leaving
            await asyncio.sleep(0.01)


async def test_hosts_that_are_killed_while_slots_move_lose_nothing_acknowledged(tmp_path):
    chance = random.Random(5)
    async with embedded(tmp_path) as rt:
        moving = asyncio.create_task(keep_moving(rt, 250))
        known = {rt.env.COUNTERS.getByName(f"k{n}"): 0 for n in range(16)}

        async def count(stub):
            while not moving.done():
                try:
                    known[stub] = await stub.add(known[stub]) + 1
                except HostLost:  # nobody knows whether it ran
                    while True:
                        with contextlib.suppress(HostLost):
                            found = await stub.count()
                            break
                    assert found in {known[stub], known[stub] + 1}
                    known[stub] = found

        counting = [asyncio.create_task(count(stub)) for stub in known]
        for _ in range(5):
            victim = chance.choice(rt.status())
            if victim.pid:
                os.kill(victim.pid, signal.SIGKILL)
            await until(
                lambda gone=victim.pid: all(h.state == "up" and h.pid != gone for h in rt.status())
            )
        await asyncio.gather(moving, *counting)
        assert sum(host.slots for host in rt.status()) == SLOTS
        assert {await stub.count() for stub in known} == set(known.values())
        for stub, number in known.items():
            assert await stub.count() == number


async def test_a_supervisor_that_is_killed_while_slots_move_leaves_all_that_was_acknowledged(
    tmp_path,
):
    known = {}
    async with embedded(tmp_path) as rt:
        stubs = [rt.env.COUNTERS.getByName(f"s{n}") for n in range(16)]

        async def count(stub):
            number = 0
            with contextlib.suppress(RuntimeClosed, HostLost):
                while True:
                    known[stub.id] = number = await stub.add(number) + 1

        counting = [asyncio.create_task(count(stub)) for stub in stubs]
        await move_all(rt, 1)
        moving = asyncio.create_task(move_all(rt, 1000))
        await until(lambda: rt.connection.roster.changes >= 40)
        os.kill(rt.connection._instance.process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeClosed):
            await moving
        await asyncio.gather(*counting)
    async with embedded(tmp_path) as rt:
        assert list(owners(rt)) == [number % HOSTS for number in range(SLOTS)]
        for object_id, number in known.items():
            assert await rt.env.COUNTERS.get(object_id).count() in {number, number + 1}


async def test_a_client_that_asks_for_nonsense_is_told_so_and_the_instance_goes_on(tmp_path):
    async with embedded(tmp_path) as rt:
        connection = rt.connection
        for number, what in enumerate(["", "x 1", "16 0", "0 2", "-1 0", "1 2 3"]):
            waiter = connection._moves[str(number)] = asyncio.get_running_loop().create_future()
            control.say(connection._instance.connection, "move", f"{number} {what}")
            with pytest.raises(RoostError, match="no slot and host"):
                await waiter
        assert await rt.env.COUNTERS.getByName("a").add(0) == 0
