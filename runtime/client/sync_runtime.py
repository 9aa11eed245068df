"""`Runtime`: an instance inside a plain, synchronous program.

A background thread keeps the connection and carries what is submitted; a blocking call goes
straight from the calling thread to the host (see `lane`). Threads may share a Runtime.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvloop

from runtime.batch.blocking import Results
from runtime.batch.plan import IN_FLIGHT, RETRIES, OnError, Plan
from runtime.bindings import Env
from runtime.client.calls import Calls
from runtime.client.connection import open_connection
from runtime.client.functions import HostExecutor, call_of, job_of
from runtime.client.instance import Instance, find
from runtime.client.options import options
from runtime.passed import programs
from runtime.status import HostStatus, status_of
from workers import Request, Response
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from runtime.client.pending import Pending
    from runtime.storage import ObjectRecord
    from workers import DurableObject, WorkerEntrypoint

T = TypeVar("T")

_EXTRA_SECONDS = 5.0


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
        return HostExecutor(self.submit, self._connection.roster.hosts)

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
        everything as it is, when an event goes on for longer than a second, and at once when an object
        has a WebSocket that was accepted with `accept()`; it names the object. ValueError.
        """
        self._calls.wait(self._connection.move_slot(slot, host))

    def close(self) -> None:
        """Let what is under way end, stop the instance, free everything. Again: does nothing.

        Ctrl-C meanwhile stops the instance at once. Raises RuntimeError in a callback of a call.
        """
        self._calls.refuse_waiting("close the runtime")
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
