"""Which host begins with which slots: so that hosts begin as even as the balancer would leave them.

Each slot goes to the host that has least so far, the busiest slot first. Those that hardly took anything
are then dealt out in turn, from the host with least on: any of them may wake up, so nobody gets most of
them. Where nothing is known that is all, and slot s goes to host s mod hosts. Pure.
"""

from __future__ import annotations

from heapq import heapreplace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

IDLE: Final = 0.1
"""Of what a slot took on average: one that took no more is dealt out in turn."""


def deal(taken: Sequence[float], hosts: int) -> list[int]:
    """Return the host of each slot, by what each slot has taken."""
    owners = [0] * len(taken)
    least = IDLE * sum(taken) / len(taken)
    heap = [(0.0, 0, host) for host in range(hosts)]  # what it has, of how many slots
    for slot in sorted(range(len(taken)), key=taken.__getitem__, reverse=True):
        if taken[slot] > least:
            load, count, host = heap[0]
            owners[slot] = host
            heapreplace(heap, (load + taken[slot], count + 1, host))
    turn = [host for _, _, host in sorted(heap)]
    for place, slot in enumerate(slot for slot, each in enumerate(taken) if each <= least):
        owners[slot] = turn[place % hosts]
    return owners
