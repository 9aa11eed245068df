"""The current event is a context variable: interleaved events never see each other's."""

import asyncio

from workers.current import current_event, default_env, set_default_env


async def test_interleaved_events_and_their_tasks_keep_their_own():
    async def event(name):
        current_event.set(name)
        await asyncio.sleep(0)
        child = asyncio.create_task(read())
        return current_event.get(), await child

    async def read():
        await asyncio.sleep(0)
        return current_event.get()

    assert await asyncio.gather(event("a"), event("b")) == [("a", "a"), ("b", "b")]
    assert current_event.get() is None


def test_the_default_env_is_what_was_set_last():
    before = default_env()
    try:
        mine = object()
        set_default_env(mine)
        assert default_env() is mine
    finally:
        set_default_env(before)
