"""Calls the objects of a running instance, in forks of this process, which has imported everything.

A line of input starts one: where the test listens, a data directory, a file, and names of objects. It counts in each object, and
writes each name and number into the file when that is acknowledged, or what went wrong.
"""

import asyncio
import os
import sys
import traceback

from runtime import aconnect
from tests.placement import steps
from workers.errors import RoostError, RuntimeClosed


async def count(stub, name, done):
    """Count in an object until killed; its errors may only be such after which one tries again."""
    number = None
    while True:
        try:
            if number is None:
                number = await stub.count()
            await stub.add(number)
        except RuntimeClosed:
            return
        except RoostError as error:
            if not error.retryable:
                raise
            number = None  # nobody knows whether it was counted
        else:
            number += 1
            done(f"{name} {number}")


async def call(data, names, done):
    rt = await aconnect(data)
    await asyncio.gather(*(count(rt.env.COUNTERS.getByName(name), name, done) for name in names))


def main():
    steps.install()
    for line in sys.stdin:
        test, data, path, *names = line.split()
        pid = os.fork()
        if pid == 0:
            os.environ["STEPS"] = test
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

            def done(text, file=file):
                os.write(file, f"{text}\n".encode())

            try:
                asyncio.run(call(data, names, done))
            except BaseException:
                done(traceback.format_exc())
            os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)


main()
