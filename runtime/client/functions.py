"""Stateless functions on the hosts: `run`, `submit`, and an Executor for code that wants one.

A function travels as a pickle, by value where a host could not import it (lambdas, `__main__`,
notebooks). For `run` it is pickled once and stored in the run directory; a host that is given its
first items loads it from there, knows it by its hash from then on, and the items travel without it.
"""

from __future__ import annotations

import secrets
from concurrent import futures
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runtime.batch.chunks import apply_all
from runtime.batch.job import Job
from runtime.client.instance import by_value
from runtime.wire.codec import dumps_values
from runtime.wire.runs import ALONE, FUNCTIONS, Run, ready
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runtime.batch.plan import Plan
    from runtime.client.connection import Connection
    from runtime.wire.codec import Ready

R = TypeVar("R")

BUSY: Final = 2
"""Runs of one function that are under way for each host: one that it computes, one that waits."""


def call_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ready:
    """Pack the call of a function, as it is now. Raises TypeError when it cannot be sent."""
    _check(function)
    with by_value(_module(function)):
        return ready(Run(ALONE, (((function, *args), kwargs),)))


def job_of(connection: Connection, plan: Plan, function: Callable[..., Any], items: Any) -> Job:
    """Store a function and return the job of calling it with every item."""
    _check(function)
    with by_value(_module(function)):
        try:
            pickled = dumps_values(function)
        except Exception as cause:
            raise TypeError(f"the function cannot be sent to the hosts: {cause}") from cause
    directory = connection.run / FUNCTIONS
    path = directory / secrets.token_hex(8)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(pickled)
    except FileNotFoundError:  # the run directory goes with the instance
        raise RuntimeClosed(connection.ending or "the instance has ended") from None
    plan = replace(
        plan,
        method=f"{sha256(pickled).hexdigest()}:{path.name}",
        title=getattr(function, "__name__", type(function).__name__),
        shared=BUSY * connection.roster.hosts,
    )
    place = connection.bindings.place(blocking=True)
    job = Job(plan, items, None, "", _no_target, place)
    job.on_close = partial(path.unlink, missing_ok=True)
    return job


def _check(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a function is needed, not {type(function).__name__}")


def _no_target(_key: Any) -> None:
    return None


def _module(function: object) -> tuple[str, ...]:
    name = getattr(function, "__module__", None)
    return (name,) if name else ()


class HostExecutor(Executor):
    """A `concurrent.futures.Executor` whose workers are the hosts of a Runtime.

    It may be used by several threads, and as many as you like may exist. Shutting one down leaves
    the hosts as they are. A call whose host dies fails with HostLost (`.retryable`).
    """

    def __init__(self, submit: Callable[..., Future[Any]], hosts: int) -> None:
        self._submit = submit
        self._max_workers = hosts  # the pools of the standard library have it, and dask asks for it
        self._under_way: set[Future[Any]] = set()
        self._shut = False

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Call a function on the host with the least to do; returns the future of its result.

        Raises RuntimeError after `shutdown`, TypeError when an argument cannot be sent.
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self._submit(fn, *args, **kwargs)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[R]:
        """Call a function with the items of iterables, in their order; see the base class.

        All items are read and sent at once, `chunksize` of them together. `Runtime.run` reads as
        results are taken.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        items = zip(*iterables, strict=False)
        chunks = super().map(
            partial(apply_all, fn), _chunks(items, chunksize), timeout=timeout, **more
        )
        return (result for chunk in chunks for result in chunk)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those under way, or cancel them."""
        self._shut = True
        under_way = list(self._under_way)
        if cancel_futures:
            for future in under_way:
                future.cancel()
        if wait:
            futures.wait(under_way)


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(items, size)):
        yield chunk
