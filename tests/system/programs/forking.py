"""A program that opens a Runtime and then forks in all the usual ways."""

import multiprocessing
import os
import signal
import sys

from runtime import Runtime, connect
from workers import DurableObject
from workers.errors import RuntimeClosed


class Counter(DurableObject):
    def add(self, n):
        self.total = getattr(self, "total", 0) + n
        return self.total


data, *outlived = sys.argv[1:]


def connected(n):
    """A child's own way to the instance."""
    with connect(data) as rt:
        return rt.env.COUNTERS.getByName("shared").add(n)


def in_fork(function):
    """Run a function in a fork that ends like a program, and return what it returned, printed."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.write(writer, str(function()).encode())
        sys.exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        said = result.read()
    assert os.wait()[1] == 0
    return said


def call_inherited():
    try:
        return rt.env.COUNTERS.getByName("shared").add(1)
    except RuntimeClosed as error:
        return error


rt = Runtime(objects={"COUNTERS": Counter}, kv=["KV"], data_dir=data, hosts=2)
rt.env.COUNTERS.getByName("shared").add(1)
rt.env.KV.put("key", "value")
print("inherited", in_fork(call_inherited), flush=True)
print("kv", in_fork(lambda: rt.env.KV.get("key")), flush=True)
print("closed", in_fork(rt.close), flush=True)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print("pool", sorted(pool.map(connected, [1] * 8)), flush=True)
print("after", rt.env.COUNTERS.getByName("shared").add(1), flush=True)
if fork := os.fork():
    print("fork", fork, flush=True)
    if outlived:
        signal.pause()
    rt.close()
    print("ended", flush=True)
else:
    if outlived:
        sys.stdin.readline()
    os._exit(0)
