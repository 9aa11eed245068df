"""A checkpointed map while everything is killed again and again: hosts, the supervisor, the client.

In the end every object's state is the model's: no item lost, none applied twice, none out of order.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
from zlib import crc32

ITEMS = 50_000
KEYS = 60
ROUNDS = 6
"""So often the client or its supervisor is killed."""

CLIENT = """
import sys
from runtime import Runtime
from workers import DurableObject

class Chain(DurableObject):
    async def add(self, n):
        from zlib import crc32
        links, chain = await self.ctx.storage.get("chain") or (0, 0)
        await self.ctx.storage.put("chain", (links + 1, crc32(str(n).encode(), chain)))
        return n

    async def chain(self, _key):
        return await self.ctx.storage.get("chain")

data, items, keys = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Runtime(objects={"CHAINS": Chain}, data_dir=data, hosts=2, log_level="critical") as rt:
    results = rt.env.CHAINS.map(
        "add", range(items), key=lambda n: n * 37 % keys, checkpoint="storm", retries=1000
    )
    for count, _ in enumerate(results):
        if count % 200 == 0:
            hosts = " ".join(str(status.pid) for status in rt.status())
            print(results.tally.done + results.tally.skipped, rt._instance.process.pid, hosts, flush=True)
    chains = dict(rt.env.CHAINS.map("chain", range(keys), key=lambda key: key, retries=1000))
    print("chains", [chains[key] for key in range(keys)], flush=True)
"""


def kill(pid):
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def expected():
    chains = dict.fromkeys(range(KEYS), (0, 0))
    for n in range(ITEMS):
        links, chain = chains[n * 37 % KEYS]
        chains[n * 37 % KEYS] = (links + 1, crc32(str(n).encode(), chain))
    return [chains[key] if chains[key][0] else None for key in range(KEYS)]


def test_no_item_is_lost_or_applied_twice_in_a_storm_of_kills(tmp_path):
    chance = random.Random(54)
    ended = ""
    for round_ in range(ROUNDS + 1):
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(tmp_path), str(ITEMS), str(KEYS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = chance.randrange(3, ITEMS // 200 // ROUNDS) if round_ < ROUNDS else -1
        with client:
            for count, line in enumerate(client.stdout):
                if line.startswith("chains"):
                    ended = line
                    continue
                _, supervisor, *hosts = map(int, line.split())
                if count == lines:
                    kill(chance.choice([client.pid, supervisor]))
                elif chance.random() < 0.05:
                    kill(chance.choice(hosts))
            errors = client.stderr.read()
        if client.returncode == 0:
            break
        killed = client.returncode == -signal.SIGKILL or "RuntimeClosed" in errors
        assert killed, errors
    assert ended == f"chains {expected()}\n"
