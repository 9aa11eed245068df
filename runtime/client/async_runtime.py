"""`AsyncRuntime`: an instance inside an asyncio program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from runtime.batch.plan import IN_FLIGHT, RETRIES, OnError, Plan
from runtime.batch.waiting import AsyncResults
from runtime.bindings import Env
from runtime.client.connection import Connection, list_objects, open_connection
from runtime.client.functions import call_of, job_of
from runtime.client.instance import Instance, find
from runtime.client.options import Options, options
from runtime.passed import programs
from runtime.status import HostStatus, status_of
from workers import Request, Response
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from runtime.storage import ObjectRecord
    from workers import DurableObject, WorkerEntrypoint

_EXTRA_SECONDS = 5.0


class AsyncRuntime:
    """Runs a worker on this machine's cores, for an asyncio program; any loop will do.

    ```python
    async with AsyncRuntime(objects={"ROOMS": Room}, kv=["SETTINGS"]) as rt:
        await rt.env.ROOMS.getByName("a").score(rows)
    ```
    The arguments are those of `Runtime`. Calls return awaitables; calls made in one turn of the
    loop leave as one message, so gather many of them.
    """

    env: Env
    """The bindings: object namespaces, KV namespaces, variables."""

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
        self._options = options(
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
        self._instance: Instance | None = None
        self._connection: Connection | None = None

    async def start(self) -> Self:
        """Start the instance and wait until it is ready.

        Raises ScriptError when the classes cannot be loaded, DataDirInUse when another instance
        has the data directory, ConfigError.
        """
        if self._connection is not None:
            raise RuntimeError("this runtime was started already")
        instance = self._options.start()
        try:
            self._attach(instance, await open_connection(instance))
        except BaseException:
            instance.hang_up()
            await asyncio.to_thread(instance.wait, _EXTRA_SECONDS)
            raise
        return self

    def _attach(self, instance: Instance, connection: Connection) -> None:
        self._instance = instance
        self._connection = connection
        self.env = Env(connection.bindings, connection.caller)
        programs.add(self.env)

    @property
    def connection(self) -> Connection:
        """The connection to the instance. Raises RuntimeClosed when there is none."""
        if self._connection is None:
            raise RuntimeClosed("the runtime is not running: use `async with`, or start() it")
        return self._connection

    async def fetch(self, request: Request | str, **init: Any) -> Response:
        """Send an HTTP request to the worker's entrypoint, without HTTP."""
        if not isinstance(request, Request) or init:
            request = Request(request, **init)
        response: Response = await self.connection.caller.fetch(None, request)
        return response

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
    ) -> AsyncResults:
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
        connection = self.connection
        return AsyncResults(job_of(connection, plan, fn, items), connection.caller)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a function on the host with the least to do; returns a future to await.

        Raises TypeError when the function or an argument cannot be sent.
        """
        return self.connection.caller.submit(None, "", call_of(fn, args, kwargs), {})

    async def objects(
        self, class_name: str | None = None, *, limit: int = 1000
    ) -> list[ObjectRecord]:
        """Return objects that have stored something, of a class or of all, at most `limit`."""
        return await list_objects(self.connection.caller, class_name, limit)

    def status(self) -> list[HostStatus]:
        """Who the hosts are and how they fare."""
        return status_of(self.connection.roster)

    async def reload(self) -> None:
        """Replace the hosts one by one, so that they load the script anew; state stays.

        Returns when they are replaced. Raises ScriptError, and leaves everything as it is, when
        the script does not load.
        """
        await self.connection.reload()

    async def move_slot(self, slot: int, host: int) -> None:
        """Have a host own a slot, with all its objects, while calls go on; `status` tells who has what.

        Calls wait for as long as that takes, mostly some milliseconds; memory of objects is gone
        there as after an eviction, WebSockets stay connected. Raises RoostError, and leaves
        everything as it is, when an event goes on for longer than a second, and at once when an object
        has a WebSocket that was accepted with `accept()`; it names the object. ValueError.
        """
        await self.connection.move_slot(slot, host)

    async def close(self) -> None:
        """Let what is under way end, stop the instance, free everything. Again: does nothing.

        Cancelled meanwhile, it stops the instance at once.
        """
        connection, self._connection = self._connection, None
        instance, self._instance = self._instance, None
        if connection is None or instance is None:
            return
        programs.discard(self.env)
        connection.bindings.close_maps()
        connection.bindings.end_watches()
        try:
            await connection.finish()
        finally:
            connection.close()
            await asyncio.to_thread(instance.wait, _EXTRA_SECONDS)

    async def __aenter__(self) -> Self:
        return self if self._connection is not None else await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def started(asked: Options) -> AsyncRuntime:
    """Start what a command asks for; see `AsyncRuntime.start`."""
    runtime = AsyncRuntime.__new__(AsyncRuntime)
    runtime._options = asked  # noqa: SLF001
    runtime._instance = runtime._connection = None  # noqa: SLF001
    return await runtime.start()


async def aconnect(data_dir: str | Path) -> AsyncRuntime:
    """Connect to the instance that runs on a data directory.

    Raises RuntimeClosed when none does. Closing the result leaves the instance running.
    """
    from pathlib import Path  # noqa: PLC0415

    instance = find(Path(data_dir))
    runtime = AsyncRuntime.__new__(AsyncRuntime)
    runtime._attach(instance, await open_connection(instance))  # noqa: SLF001
    return runtime
