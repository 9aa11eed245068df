"""`Runtime`: an instance inside a plain, synchronous program.

A background thread keeps the connection and carries what is submitted; a blocking call goes
straight from the calling thread to the host (see `lane`). Threads may share a Runtime.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvloop

from runtime.batch.blocking import Results
from runtime.batch.plan import IN_FLIGHT, RETRIES, OnError, Plan
from runtime.bindings import Env
from runtime.client.connection import Connection, list_objects, open_connection
from runtime.client.functions import HostExecutor, call_of, job_of
from runtime.client.instance import Instance, find
from runtime.client.lane import Lane, NotStarted
from runtime.client.options import options
from runtime.passed import programs
from runtime.status import HostStatus, status_of
from runtime.wire.caller import LANE
from runtime.wire.codec import parcel
from runtime.wire.items import RemoteItems
from workers import Request, Response
from workers.body import take_content
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from runtime.batch.place import Carried
    from runtime.storage import ObjectRecord
    from runtime.wire.codec import Parcel, Ready
    from runtime.wire.link import Link, Waiter
    from runtime.wire.messages import Message, Target
    from workers import DurableObject, WorkerEntrypoint

T = TypeVar("T")

_EXTRA_SECONDS = 5.0


class Pending(Future[Any]):
    """The future of a submitted call: `result()`, `add_done_callback()`, `cancel()`."""

    call: int
    link: Link | None = None
    message: Message = ()

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._calls = calls

    def cancel(self) -> bool:
        """Cancel the wait, and the call if it can still be cancelled at its host."""
        if not super().cancel():
            return False
        self._calls.cancelled(self)
        return True

    def set_result(self, result: Any) -> None:
        """Take the result, unless another thread has just cancelled the wait.

        The items of a generator become an iterator that blocks.
        """
        if isinstance(result, RemoteItems):
            result = self._calls.blocking(result)
        with contextlib.suppress(InvalidStateError):
            super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Take the error, unless another thread has just cancelled the wait."""
        with contextlib.suppress(InvalidStateError):
            super().set_exception(exception)


class Calls:
    """How the stubs of a Runtime call: blocking through the lane, submitted through the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread: int | None, connection: Connection
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._connection = connection
        self._lane = Lane(
            connection.context,
            connection.roster,
            connection.run,
            connection.name + LANE,
            lambda: connection.ending if connection.ended.done() else "",
        )
        self._lock = threading.Lock()
        self._queue: deque[tuple[Waiter, Target | None, str, Parcel, float | None]] = deque()
        self._scheduled = False
        self._under_way = 0
        self.refusal = ""
        """Why no calls can be made any more, when that is so."""

    def call(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Any:
        """Call a method and wait for its result."""
        self.refuse_waiting()
        ready = parcel(args, kwargs, self._connection.shelf)
        lane = self._lane
        # What was submitted must not be overtaken, so then the call goes the same way.
        if target is not None and not self._under_way and lane.lock.acquire(blocking=False):
            try:
                if self.refusal:
                    raise RuntimeClosed(self.refusal)
                return lane.call(target, method, ready, timeout)
            except NotStarted:
                pass
            finally:
                lane.lock.release()
        pending = self._send(target, method, ready, timeout)
        try:
            return pending.result()
        except BaseException:
            pending.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def submit(
        self,
        target: Target | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Pending:
        """Call a method; the future has its result."""
        return self._send(target, method, parcel(args, kwargs, self._connection.shelf), timeout)

    def way_to(self, _target: Target) -> Self:
        """Return what makes the calls of an object."""
        return self

    def _send(
        self, target: Target | None, method: str, ready: Parcel, timeout: float | None
    ) -> Pending:
        pending = Pending(self)
        self._queue_up(pending, target, method, ready, timeout)
        pending.add_done_callback(self._ended)
        return pending

    def carry(self, waiter: Carried, target: Target | None, method: str, ready: Ready) -> None:
        """Send a run, for a waiter that calls `carried` when it is answered or given up."""
        self._queue_up(waiter, target, method, parcel(ready, {}, self._connection.shelf), None)

    def carried(self, waiter: Carried) -> bool:
        """End the wait for a run; False when it had ended before."""
        with self._lock:
            if waiter.over:
                return False
            waiter.over = True
            self._under_way -= 1
        return True

    def _queue_up(
        self,
        waiter: Waiter,
        target: Target | None,
        method: str,
        ready: Parcel,
        timeout: float | None,
    ) -> None:
        if self.refusal:
            raise RuntimeClosed(self.refusal)
        with self._lock:
            self._under_way += 1
            self._queue.append((waiter, target, method, ready, timeout))
            if not self._scheduled:
                # In this order, so that Ctrl-C between the two leaves nothing unsent.
                self._loop.call_soon_threadsafe(self._post)
                self._scheduled = True

    def _post(self) -> None:
        """Send what was submitted, in order. In the loop's thread."""
        caller = self._connection.caller
        while True:
            with self._lock:
                queue, self._queue = self._queue, deque()
                if not queue:
                    self._scheduled = False
                    return
            for waiter, target, method, ready, timeout in queue:
                if not waiter.done():
                    caller.post(waiter, target, method, ready)
                    if timeout is not None:
                        caller.deadlines.add(waiter, timeout, target, method)

    def _ended(self, _: Future[Any]) -> None:
        with self._lock:
            self._under_way -= 1

    def cancelled(self, waiter: Waiter) -> None:
        """Tell the host that nobody waits for a call."""
        self._loop.call_soon_threadsafe(self._cancelled, waiter)

    def _cancelled(self, waiter: Waiter) -> None:
        if waiter.link is not None:  # the present one: it may have been sent on
            waiter.link.cancelled(waiter.call)

    def blocking(self, items: RemoteItems) -> Iterator[Any]:
        """Iterate over items that arrive in the loop's thread."""
        try:
            while True:
                self.refuse_waiting()
                if self._loop.is_closed():
                    raise RuntimeClosed("the runtime was closed")
                step = asyncio.run_coroutine_threadsafe(_next(items), self._loop)
                more = step.result()
                if more is None:
                    return
                yield from more
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(items.close)

    def fetch(self, target: Target | None, request: Request) -> Response:
        """Send a request and wait for the response, whole."""
        return self.wait(self._fetch(target, request))

    async def _fetch(self, target: Target | None, request: Request) -> Response:
        response: Response = await self._connection.caller.fetch(target, request)
        content = take_content(response)
        if content is not None and not isinstance(content, bytes):
            content = b"".join([chunk async for chunk in content])
        return Response(
            content,
            status=response.status,
            status_text=response.status_text,
            headers=response.headers,
        )

    def objects(self, class_name: str | None, limit: int) -> list[ObjectRecord]:
        """Ask all hosts for their objects."""
        return self.wait(list_objects(self._connection.caller, class_name, limit))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop and wait for its result."""
        try:
            self.refuse_waiting()
            if self.refusal:
                raise RuntimeClosed(self.refusal)
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def refuse_waiting(self) -> None:
        """Raise RuntimeError in the loop's own thread, which would wait for itself."""
        if threading.get_ident() == self._thread:
            raise RuntimeError(
                "a callback of a submitted call cannot wait for another call: submit() that one too"
            )

    def stop_reading(self) -> None:
        """Break the streams that are being read, so that their writers end."""
        self._lane.stop_reading()

    def close(self) -> None:
        """Close the lane, when its thread has left it."""
        self._lane.close()


async def _next(items: RemoteItems) -> list[Any] | None:
    """Return the items that are there, at least one; None at the end."""
    async for item in items:
        return [item, *items.take()]
    return None


class Runtime:
    """Runs a worker on this machine's cores, for a plain Python program.

    ```python
    with Runtime(objects={"ROOMS": Room}, kv=["SETTINGS"], hosts=8) as rt:
        room = rt.env.ROOMS.getByName("a")
        room.score(rows)                    # waits for the result
        future = room.score.submit(rows)    # a concurrent.futures.Future
    ```

    worker: a folder with wrangler.toml, or such a file; or instead:
    objects: Durable Object classes by binding name. Classes of `__main__` and of notebooks work.
    kv: names of KV namespaces, or binding names with ids.
    vars: further names in `env`.
    entrypoint: a WorkerEntrypoint class, for `fetch`.
    name: the worker's name; the ids of objects depend on it.
    data_dir: where storage and KV live, `.roost` by default; one instance at a time uses it.
    hosts: how many processes run objects; by default one for each core.
    settings: `durability`, `idle_s`, `grace_s`, ... as in the `[roost]` table of wrangler.toml.

    Objects run in processes of their own, so calls to different objects are truly parallel.
    Raises ConfigError, DataDirInUse, and ScriptError when the classes cannot be loaded.
    """

    env: Env
    """The bindings: object namespaces, KV namespaces, variables. Everything blocks."""

    def __init__(
        self,
        worker: str | Path | None = None,
        *,
        objects: Mapping[str, type[DurableObject]] | None = None,
        kv: Sequence[str] | Mapping[str, str] = (),
        vars: Mapping[str, object] | None = None,  # noqa: A002  (the name in wrangler.toml)
        entrypoint: type[WorkerEntrypoint] | None = None,
        name: str = "worker",
        data_dir: str | Path | None = None,
        hosts: int | None = None,
        env: str | None = None,
        log_level: str = "warning",
        **settings: Any,
    ) -> None:
        asked = options(
            worker,
            objects=objects,
            kv=kv,
            vars=vars,
            entrypoint=entrypoint,
            name=name,
            data_dir=data_dir,
            hosts=hosts,
            env=env,
            log_level=log_level,
            settings=settings,
        )
        self._open(asked.start())

    def _open(self, instance: Instance) -> None:
        self._instance = instance
        self._loop = uvloop.new_event_loop()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run_loop, name="roost-client", daemon=True)
        self._thread.start()
        opening = asyncio.run_coroutine_threadsafe(open_connection(instance), self._loop)
        try:
            self._connection = opening.result()
        except BaseException:
            opening.cancel()
            instance.hang_up()
            instance.wait(_EXTRA_SECONDS)
            self._end_loop()
            raise
        self._calls = Calls(self._loop, self._thread.ident, self._connection)
        self.env = Env(self._connection.bindings, self._calls, blocking=True)
        programs.add(self.env)
        atexit.register(self.close)
        _runtimes.add(self)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fetch(self, request: Request | str, **init: Any) -> Response:
        """Send an HTTP request to the worker's entrypoint, without HTTP."""
        if not isinstance(request, Request) or init:
            request = Request(request, **init)
        return self._calls.fetch(None, request)

    def run(
        self,
        fn: Callable[[Any], Any],
        items: Any,
        *,
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
        errors: OnError = "raise",
        retries: int = RETRIES,
        timeout: float | None = None,
        progress: bool = False,
    ) -> Results:
        """Call a function with every item, on all hosts; yields its results in the items' order.

        Any function will do, also a lambda, one of `__main__` or of a notebook, or an async one. It
        is pickled once. The other arguments are those of `map` of a namespace (there are no keys and
        no checkpoints); with `ordered=False` results come as they finish. Lazy: items are read as
        results are taken. Calls that fail with a retryable error (their host died) are made again,
        so an item may be applied more than once.
        """
        plan = Plan(
            "",
            ordered=ordered,
            in_flight=in_flight,
            errors=errors,
            retries=retries,
            timeout=timeout,
            progress=progress,
        )
        return Results(job_of(self._connection, plan, fn, items), self._calls)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Pending:
        """Call a function on the host with the least to do; returns a concurrent.futures.Future.

        Raises TypeError when the function or an argument cannot be sent.
        """
        return self._calls.submit(None, "", call_of(fn, args, kwargs), {})

    def executor(self) -> HostExecutor:
        """Return a `concurrent.futures.Executor` over the hosts, for code that takes one."""
        return HostExecutor(self.submit)

    def objects(self, class_name: str | None = None, *, limit: int = 1000) -> list[ObjectRecord]:
        """Return objects that have stored something, of a class or of all, at most `limit`."""
        return self._calls.objects(class_name, limit)

    def status(self) -> list[HostStatus]:
        """Who the hosts are and how they fare."""
        if why := self._calls.refusal or (
            self._connection.ended.done() and self._connection.ending
        ):
            raise RuntimeClosed(why)
        return status_of(self._connection.roster)

    def reload(self) -> None:
        """Replace the hosts one by one, so that they load the script anew; state stays.

        Returns when they are replaced. Raises ScriptError, and leaves everything as it is, when
        the script does not load.
        """
        self._calls.wait(self._connection.reload())

    def move_slot(self, slot: int, host: int) -> None:
        """Have a host own a slot, with all its objects, while calls go on; `status` tells who has what.

        Calls wait for as long as that takes, mostly some milliseconds; memory of objects is gone
        there as after an eviction, WebSockets stay connected. Raises RoostError, and leaves
        everything as it is, when an event goes on for longer than a second; ValueError.
        """
        self._calls.wait(self._connection.move_slot(slot, host))

    def close(self) -> None:
        """Let what is under way end, stop the instance, free everything. Again: does nothing.

        Ctrl-C meanwhile stops the instance at once.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        programs.discard(self.env)
        self._connection.bindings.close_maps()
        self._connection.bindings.end_watches()
        self._calls.refusal = "the runtime is closed"
        self._calls.stop_reading()
        try:
            self._in_loop(self._connection.finish())
        finally:
            self._in_loop(self._cut_off())
            self._calls.close()
            self._in_loop(self._free())
            self._instance.wait(_EXTRA_SECONDS)
            self._end_loop()

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _cut_off(self) -> None:
        self._connection.end("the runtime is closed")

    async def _free(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forked(self) -> None:
        """In a fork of the program: this is not ours, and half of it is not even here."""
        self._instance.connection.close()
        self._closed = True
        self._calls.refusal = (
            f"this process is a fork of the one (pid {os.getppid()}) that opened the runtime; "
            f"connect() to its data directory instead"
        )


_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _after_fork() -> None:
    for runtime in list(_runtimes):
        runtime._forked()  # noqa: SLF001  (this module's own)


os.register_at_fork(after_in_child=_after_fork)


def connect(data_dir: str | Path) -> Runtime:
    """Connect to the instance that runs on a data directory, such as one of `roost serve`.

    Raises RuntimeClosed when none does. Closing the result leaves the instance running.
    """
    from pathlib import Path  # noqa: PLC0415

    runtime = Runtime.__new__(Runtime)
    runtime._open(find(Path(data_dir)))  # noqa: SLF001
    return runtime
