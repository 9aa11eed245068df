"""Waits in a blocking call until Ctrl-C, goes on with the same Runtime, and waits again."""

import asyncio
import sys

from runtime import Runtime
from workers import DurableObject


class Sleeper(DurableObject):
    async def sleep(self):
        print("sleeping", self.ctx.id.name, flush=True)
        await asyncio.Event().wait()

    def spin(self):
        print("spinning", flush=True)
        while True:
            pass

    def add(self, a, b):
        return a + b


data, path = sys.argv[1:]

with Runtime(objects={"SLEEPERS": Sleeper}, data_dir=data, hosts=1) as rt:
    stub = rt.env.SLEEPERS.getByName("a")
    try:
        if path == "lane":
            stub.sleep()
        else:
            waiting = rt.env.SLEEPERS.getByName("b").sleep.submit()  # so the next one is queued
            stub.sleep()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("sum", stub.add(1, 2), flush=True)
    if path == "loop":
        waiting.cancel()
    while sum(host.waiting for host in rt.status()):
        pass  # the calls that nobody waits for any more are cancelled
    print("idle", flush=True)
    stub.spin()
