"""One of several client processes: visits rooms from many threads at once, and prints what they said."""

import json
import random
import sys
import threading

from runtime import connect

data, seed = sys.argv[1], int(sys.argv[2])
THREADS, ROOMS, VISITS = 16, 100, 50
answers = []


def visit(rt, chance):
    for _ in range(VISITS):
        room = f"room{chance.randrange(ROOMS)}"
        answers.append((room, *rt.env.ROOMS.getByName(room).visit()))


with connect(data) as rt:
    callers = [
        threading.Thread(target=visit, args=(rt, random.Random(seed * THREADS + n)))
        for n in range(THREADS)
    ]
    print("ready", flush=True)
    sys.stdin.readline()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
json.dump(answers, sys.stdout)
