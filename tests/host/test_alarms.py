"""What rings when, where several alarms and calls of alarm() meet."""

import asyncio

import pytest

from tests.stepping import soon, until
from workers import DurableObject


class Bell(DurableObject):
    """Sets its next alarm in alarm(), which does not end before it is let go."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.begun, self.let_go, self.rang_again = (asyncio.Event() for _ in range(3))

    async def set(self):
        await self.ctx.storage.setAlarm(1)

    async def alarm(self):
        if self.begun.is_set():
            self.rang_again.set()
            return
        await self.set()
        await self.ctx.storage.sync()
        self.begun.set()
        await self.let_go.wait()


@pytest.mark.parametrize("sql", [False, True])
async def test_an_alarm_that_is_due_while_alarm_runs_rings_when_it_ends(house, sql):
    h = await house(BELLS=Bell, kv_classes=[] if sql else ["Bell"])
    stub, later = h.env.BELLS.getByName("a"), h.env.BELLS.getByName("b")
    await stub.set()
    bell = h.activation(stub).instance
    await soon(bell.begun.wait())
    await later.set()
    await soon(h.activation(later).instance.begun.wait())  # so the first one's was looked at
    assert not bell.rang_again.is_set()
    bell.let_go.set()
    await soon(bell.rang_again.wait())
    h.activation(later).instance.let_go.set()


class Quitter(DurableObject):
    """Aborts in its alarm(), and says when it does."""

    async def set(self, options):
        await self.ctx.storage.put("options", options)
        await self.ctx.storage.setAlarm(1)

    async def alarm(self):
        self.ctx.abort("enough", await self.ctx.storage.get("options"))

    def wrong(self):
        self.ctx.abort("enough", retryAlarms=False)


@pytest.mark.parametrize("options", [None, {"retryAlarm": True}, {"retryAlarm": False}])
async def test_an_alarm_that_aborts_is_called_again_unless_it_says_no(house, options):
    h = await house(QUITTERS=Quitter)
    stub = h.env.QUITTERS.getByName("a")
    await stub.set(options)

    def alarm():
        return h.file(stub).alarm(stub.id.raw)

    await until(lambda: alarm() is None or alarm().due != alarm().scheduled)
    assert (alarm() is None) is (options == {"retryAlarm": False})


async def test_abort_has_no_other_options(house):
    h = await house(QUITTERS=Quitter)
    with pytest.raises(TypeError, match="no option 'retryAlarms'; it has retryAlarm"):
        await h.env.QUITTERS.getByName("a").wrong()
