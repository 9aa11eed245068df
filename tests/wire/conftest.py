"""A loop that a test steps by hand."""

import asyncio
from collections import deque

import pytest


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


@pytest.fixture
def step_loop():
    return StepLoop()
