"""Whether a history of reads and writes of one register is linearizable.

An operation takes effect at one moment between its call and its return; a write without a return (its
writer was killed) at any moment after its call, or never. The search is Wing and Gong's with the memory
of Lowe: it takes effect first whichever operation no other has returned before, and never looks twice at
the same set of operations done with the same value.
"""

from collections import Counter
from dataclasses import dataclass, replace

NEVER = float("inf")


@dataclass(frozen=True)
class Operation:
    """A read that found `value`, or a write of it."""

    kind: str
    value: object
    called: float
    returned: float = NEVER


def is_linearizable(history, initial=None):
    """Whether some order of the operations explains every read."""
    operations = sorted(history, key=lambda operation: operation.called)
    operations = [op for op in operations if op.kind == "write" or op.returned != NEVER]
    must = sum(op.returned != NEVER for op in operations)
    # All below `first` are done, and `done`; `left` of those that must be done are not.
    seen, stack = set(), [(0, frozenset(), initial, must)]
    while stack:
        first, done, value, left = stack.pop()
        if left == 0:
            return True
        while first in done:
            done -= {first}
            first += 1
        if (first, done, value) in seen:
            continue
        seen.add((first, done, value))
        until, index = NEVER, first
        while index < len(operations) and operations[index].called <= until:
            op = operations[index]
            if index not in done:
                until = min(until, op.returned)
                if op.kind == "write" or op.value == value:
                    rest = left - (op.returned != NEVER)
                    stack.append((first, done | {index}, op.value, rest))
            index += 1
    return False


def without_doubt(history):
    """Say of killed writes of a value that nobody else wrote what the reads tell.

    One whose value was read took effect before the first such read returned; all others are as if they
    had never been. Each write left in doubt doubles the search.
    """
    first = {}
    for op in history:
        if op.kind == "read":
            first[op.value] = min(first.get(op.value, NEVER), op.returned)
    writes = Counter(op.value for op in history if op.kind == "write")
    sure = []
    for op in history:
        if op.kind == "read" or op.returned != NEVER or writes[op.value] > 1:
            sure.append(op)
        elif op.value in first:
            sure.append(replace(op, returned=first[op.value]))
    return sure
