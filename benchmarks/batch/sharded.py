"""The rival: what one writes by hand with multiprocessing, when the work has keys.

So many processes, each with a queue; an item goes to the process that its key hashes to, in batches;
a key's state is in a dict there. At the end each process pickles what it has to a file, once, and
syncs it, so that what is left is as durable as ours. Before that a crash loses everything. There is no
order of results, no retry, no bound on what is under way but the queue's.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.queues import Queue
    from pathlib import Path

QUEUED = 64
"""Batches that may wait for a process."""


def work(
    make: Callable[[], Any],
    apply: Callable[[Any, list[Any]], Any],
    inbox: Queue[Any],
    outbox: Queue[Any],
    path: Path,
) -> None:
    """Be one of the processes."""
    states: dict[str, Any] = defaultdict(make)
    while (message := inbox.get()) is not None:
        key, items = message
        outbox.put((key, apply(states[key], items)))
    with path.open("wb") as file:
        pickle.dump(dict(states), file, 5)
        file.flush()
        os.fsync(file.fileno())
    outbox.put(None)


def sharded(
    items: Iterable[tuple[str, Any]],
    make: Callable[[], Any],
    apply: Callable[[Any, list[Any]], Any],
    processes: int,
    batch: int,
    directory: Path,
) -> int:
    """Apply items in batches to the states of their keys; returns how many answers came."""
    context = multiprocessing.get_context("fork")
    outbox: Queue[Any] = context.Queue()
    inboxes: list[Queue[Any]] = [context.Queue(QUEUED) for _ in range(processes)]
    workers = [
        context.Process(target=work, args=(make, apply, inbox, outbox, directory / str(number)))
        for number, inbox in enumerate(inboxes)
    ]
    for worker in workers:
        worker.start()
    waiting: dict[str, list[Any]] = defaultdict(list)
    for key, item in items:
        its = waiting[key]
        its.append(item)
        if len(its) == batch:
            inboxes[crc32(key.encode()) % processes].put((key, its))
            waiting[key] = []
    for key, its in waiting.items():
        if its:
            inboxes[crc32(key.encode()) % processes].put((key, its))
    for inbox in inboxes:
        inbox.put(None)
    ended = answers = 0
    while ended < processes:
        if outbox.get() is None:
            ended += 1
        else:
            answers += 1
    for worker in workers:
        worker.join()
    return answers
