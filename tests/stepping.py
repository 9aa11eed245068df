"""How tests of the engine let loops go on: a turn at a time, until something holds, or by hand."""

import asyncio
from collections import deque


async def settle(turns=20):
    """Let the loop turn until nothing is left that is ready."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def soon(awaitable):
    """What must happen, within a bound that only a failure reaches."""
    return await asyncio.wait_for(awaitable, 10)


async def until(condition):
    """Wait until something holds that no callback tells of, within the same bound."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class StepLoop:
    """As much of an event loop as futures and links need; nothing runs but in `step`."""

    def __init__(self):
        self.ready = deque()

    def get_debug(self):
        return False

    def call_soon(self, callback, *args, context=None):
        self.ready.append((callback, args))

    def create_future(self):
        return asyncio.Future(loop=self)

    def call_exception_handler(self, context):
        """An exception that nobody looked at is no news to a test."""

    def step(self):
        """Run what is ready now."""
        ready, self.ready = self.ready, deque()
        for callback, args in ready:
            callback(*args)
