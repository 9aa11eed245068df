"""Eight processes read and write a few keys through the shared cache, and writers are killed.

Killed at any line of a commit, while values are evicted all the time: what everybody saw of each key
is linearizable.
"""

import itertools
import os
import random
import signal
import time

from runtime.kv import SyncKVNamespace, open_store

from .conftest import die_at_line
from .linearizable import NEVER, Operation, is_linearizable, without_doubt

SECONDS = float(os.environ.get("ROOST_HISTORY_SECONDS", "3"))
KEYS = ["a", "b", "c", "é" * 256]  # the last one too long for the cache's own keys
FILLERS = 30


def live(directory, shelf, number, seed, until, log, _):
    """Read and write until the time is over, and log each call and return."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(line):
        os.write(file, f"{line}\n".encode())

    chance = random.Random(seed)
    kv = SyncKVNamespace(open_store(directory, cache=lambda: shelf, cache_bytes=1 << 20))
    if number < 4:
        die_at_line(chance.randint(1, 1500))
    count = 0
    while time.monotonic() < until:
        key = chance.randrange(len(KEYS))
        name, count = KEYS[key], count + 1
        value = f"{number}.{seed}.{count}"
        what = chance.random()
        if what < 0.15 or (number < 4 and what < 0.5):
            say(f"put {key} {value} {time.monotonic()}")
            kv.put(name, value.ljust(chance.choice([0, 3000, 40_000])))
            say(f"done {time.monotonic()}")
        elif what < 0.25:
            say(f"delete {key} None {time.monotonic()}")
            kv.delete(name)
            say(f"done {time.monotonic()}")
        elif what < 0.5:  # others' values push these out
            kv.get(f"filler{chance.randrange(FILLERS)}")
        else:
            began = time.monotonic()
            found = kv.get(name)
            say(f"get {key} {found and found.rstrip()} {began} {time.monotonic()}")
    say(f"counts {kv._store.statistics().generations} {kv._store.statistics().hits}")


def history_of(log, histories):
    """Add what a process logged to the histories of the keys; returns its counts, if it lived."""
    pending = None
    for line in log.read_text().splitlines():
        what, *rest = line.split(" ")
        if what in ("put", "delete"):
            pending = rest
        elif what == "done":
            key, value, called = pending
            histories[int(key)].append(
                Operation("write", plain(value), float(called), float(rest[0]))
            )
            pending = None
        elif what == "get":
            key, value, called, returned = rest
            histories[int(key)].append(
                Operation("read", plain(value), float(called), float(returned))
            )
        else:
            return [int(count) for count in rest]
    if pending is not None:
        key, value, called = pending
        histories[int(key)].append(Operation("write", plain(value), float(called), NEVER))
    return None


def plain(value):
    return None if value == "None" else value


def test_what_all_processes_saw_is_linearizable(fast_directory, shelf, start, tmp_path):
    kv = SyncKVNamespace(store := open_store(fast_directory))
    for number in range(FILLERS):
        kv.put(f"filler{number}", "x" * 40_000)
    store.close()
    until, seeds, logs = time.monotonic() + SECONDS, itertools.count(), []

    def begin(number):
        seed = next(seeds)
        logs.append(tmp_path / f"log{seed}")
        return start(live, fast_directory, shelf, number, seed, until, logs[-1])

    running, killed = {number: begin(number) for number in range(8)}, 0
    while running:
        for number, child in list(running.items()):  # the first of them die soon
            child.end()
            del running[number]
            if child.status:
                assert child.status == -signal.SIGKILL
                killed += 1
                if time.monotonic() < until:
                    running[number] = begin(number)
    histories = [[] for _ in KEYS]
    lived = [counts for log in logs if (counts := history_of(log, histories))]
    for history in histories:
        assert is_linearizable(without_doubt(history))
    # That this tried what it promises:
    assert killed >= 4
    assert max(generations for generations, _ in lived) >= 2
    assert sum(hits for _, hits in lived) > 100
    assert min(map(len, histories)) > 50
