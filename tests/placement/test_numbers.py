"""Calls that name their objects by numbers reach these and no others, wherever they are by now."""

import asyncio
import os
import random
import signal

import pytest

from runtime import AsyncRuntime
from runtime.wire import numbers
from tests.stepping import until
from workers import DurableObject
from workers.errors import HostLost, RoostError

SLOTS, HOSTS, OBJECTS = 16, 2, 200


class Named(DurableObject):
    """Takes the numbers 0, 1, 2, ..., each once and in order, and says who it is."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.last = -1

    def tell(self, number):
        after, self.last = self.last, number
        return self.ctx.id.name, after


@pytest.fixture(autouse=True)
def early(monkeypatch):
    """This process names new objects often, and begins anew with so many."""
    monkeypatch.setattr(numbers, "FEW", 2)
    monkeypatch.setattr(numbers, "LOOK", 2)
    monkeypatch.setattr(numbers, "NUMBERED", OBJECTS // 2)


def embedded(tmp_path):
    return AsyncRuntime(
        objects={"NAMED": Named}, data_dir=tmp_path, hosts=HOSTS, slots=SLOTS, log_level="error"
    )


async def keep_moving(rt, until_done):
    """Move slots to and fro; returns how many moves there were."""
    moves = 0
    while not until_done.done():
        slot = moves % SLOTS
        try:
            await rt.move_slot(slot, 1 - rt.connection.roster.owners[slot])
            moves += 1
        except RoostError:  # its owner has died
            await asyncio.sleep(0)
    return moves


async def tell_all(stubs, first, count):
    """Call all objects in turn, many calls at once; returns round by round what each was told, or its error."""
    rounds = [[stub.tell(number) for stub in stubs] for number in range(first, first + count)]
    return [await asyncio.gather(*calls, return_exceptions=True) for calls in rounds]


def assert_told(stubs, rounds, *, lost):
    """Each answer is its own object's, which was told nothing else in between."""
    for stub, answers in zip(stubs, zip(*rounds, strict=True), strict=True):
        last = -1
        for number, answer in enumerate(answers):
            if isinstance(answer, HostLost):
                assert lost
                assert answer.durable_object_id == str(stub.id)
                continue
            name, after = answer
            assert name == stub.name
            assert after in {last, -1} or (lost and last < after < number)  # a move forgets it
            last = number


@pytest.mark.parametrize("kills", [0, 4])
async def test_pipelined_calls_reach_their_objects_while_slots_move_and_hosts_die(tmp_path, kills):
    chance = random.Random(kills)
    async with embedded(tmp_path) as rt:
        stubs = [rt.env.NAMED.getByName(f"n{n}") for n in range(OBJECTS)]
        done = asyncio.get_running_loop().create_future()
        rounds = []

        async def tell():
            while not done.done():
                rounds.extend(await tell_all(stubs, len(rounds), 20))

        telling = asyncio.create_task(tell())
        moving = asyncio.create_task(keep_moving(rt, done))
        for _ in range(kills):
            came = len(rounds)
            await until(lambda came=came: len(rounds) > came)
            victim = chance.choice(rt.status())
            os.kill(victim.pid, signal.SIGKILL)
            await until(
                lambda gone=victim.pid: all(h.state == "up" and h.pid != gone for h in rt.status())
            )
        came = len(rounds)
        await until(lambda: len(rounds) >= came + 100)
        done.set_result(None)
        await telling
        assert await moving >= HOSTS
        assert_told(stubs, rounds, lost=bool(kills))
