"""Writes through an instance until told to stop, and says what was acknowledged.

The instance is one that runs on a data directory, or one of its own for a worker's folder.

Each thread has a room of its own. Acknowledged writes go to a file, `room number` a line, before the
next one is tried; errors are printed, and the write is made again if they are retryable.
"""

import os
import sys
import threading

from runtime import Runtime, connect
from workers.errors import RoostError, RuntimeClosed

data, acks, threads, *worker = sys.argv[1:]
acks = os.open(acks, os.O_WRONLY | os.O_APPEND)
stop = threading.Event()


def say(line):
    os.write(1, line.encode() + b"\n")  # whole, whatever the other threads say


def write(rt, room):
    stub = rt.env.ROOMS.getByName(room)
    number = 0
    while not stop.is_set():
        try:
            stub.record(number)
        except RuntimeClosed:
            say(f"closed {room}")
            return
        except RoostError as error:
            say(f"{type(error).__name__} {error.retryable} {error.durable_object_id}")
            if not error.retryable:
                raise
        else:
            os.write(acks, f"{room} {number}\n".encode())
            number += 1
            if number == 10:
                say(f"warm {room}")


with Runtime(*worker, data_dir=data, hosts=2) if worker else connect(data) as rt:
    say("open")
    writers = [threading.Thread(target=write, args=(rt, f"load{i}")) for i in range(int(threads))]
    for writer in writers:
        writer.start()
    sys.stdin.readline()
    stop.set()
    for writer in writers:
        writer.join()
say("done")
