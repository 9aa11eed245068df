"""At most one activation of an object exists, however many processes call it at once."""

import json
from collections import defaultdict

from runtime import connect

CLIENTS, CALLS = 4, 4 * 16 * 50


def test_each_object_has_one_activation_under_64_callers_of_4_processes(serve, run, programs):
    served = serve((programs / "worker.py").read_text())
    clients = [run(programs / "visitors.py", served.data, seed) for seed in range(CLIENTS)]
    for client in clients:
        client.out.wait("ready")
    for client in clients:
        client.tell("go")
    said = [
        answer for client in clients for answer in json.loads(client.out.whole().split("\n")[-1])
    ]
    assert [client.ended() for client in clients] == [0] * CLIENTS

    tokens, pids, counts = defaultdict(set), defaultdict(set), defaultdict(list)
    for room, token, pid, count in said:
        tokens[room].add(token)
        pids[room].add(pid)
        counts[room].append(count)
    assert len(said) == CALLS
    assert len(tokens) == 100
    assert {len(seen) for seen in tokens.values()} == {1}  # one instance an object
    assert len({token for seen in tokens.values() for token in seen}) == 100
    for seen in counts.values():
        assert sorted(seen) == list(range(1, len(seen) + 1))  # none lost, none doubled
    with connect(served.data) as rt:
        hosts = [host.pid for host in rt.status()]
        slots = [host.slots for host in rt.status()]
        total = sum(slots)
        for room, seen in pids.items():
            raw = bytes.fromhex(str(rt.env.ROOMS.idFromName(room)))
            slot = int.from_bytes(raw[:8], "big") % total
            assert seen == {hosts[slot % len(hosts)]}  # the owner of its slot
