"""Runs the items of a RUN message, one after another, as one event.

An item whose note the object has is not applied again. One that writes is noted in the same turn,
so that a commit takes its effects and its note together. That holds for what a method writes after
its last real wait: what it wrote before commits on its own, as everything before a wait does (and
what an asynchronous transaction wrote, because its end is waited for).

An item that raises is not noted: what it wrote before stays, and when it comes again it is called
again. After a retryable error the items behind it are not started, so that order is kept.

A run gives other events their turn every few milliseconds, between two items.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import TYPE_CHECKING, Any, Final

from runtime.host.ledger import Ledger
from runtime.wire.codec import pack, pack_error
from runtime.wire.runs import ALONE, FUNCTIONS, TOGETHER, Run, RunReply, pack_reply
from workers.errors import RoostError, ScriptError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from runtime.host.activation import Activation
    from runtime.host.host import Host
    from runtime.host.ledger import Note, Record
    from runtime.wire.runs import ItemId

SLICE_NS: Final = 5_000_000
"""Nanoseconds after which a run lets other events have their turn."""

_RAISED: Final = (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError)
"""What the method of an item may raise, and fails with alone; not what ends its object."""

LOADED: Final = 64
"""How many functions a host keeps loaded."""


class RunCall:
    """A RUN message, in the place where calls have the name of their method."""

    __slots__ = ("_run", "method")

    def __init__(self, method: str, run: Any) -> None:
        self.method = method
        self._run = Run(*run)

    def of_object(
        self, activation: Activation, function: Callable[..., Any]
    ) -> Callable[[], Coroutine[Any, Any, Any]]:
        """Return what runs the items with an object's method."""
        if activation.ledger is None and self._run.ids is not None:
            activation.ledger = Ledger(activation.storage)
        return _Items(self._run, function, activation).run

    def of_host(self, host: Host) -> Coroutine[Any, Any, Any]:
        """Return the run of the items with a function: stored by a caller, or sent with them."""
        function = host.functions.get(self.method) if self.method else _apply
        return _Items(self._run, function, None).run()


class _Items:
    """One run under way."""

    __slots__ = (
        "_activation",
        "_errors",
        "_function",
        "_ledger",
        "_record",
        "_run",
        "_taken",
        "_values",
    )

    def __init__(
        self, run: Run, function: Callable[..., Any], activation: Activation | None
    ) -> None:
        self._run = run
        self._function = function
        self._activation = activation
        self._ledger = activation.ledger if activation is not None and run.ids is not None else None
        self._record: Record | None = None
        self._taken = 0
        self._values: list[Any] = []
        self._errors: dict[int, bytes] = {}

    async def run(self) -> Any:
        """Apply the items; returns the answer of the call."""
        run = self._run
        began = time.monotonic()
        if self._ledger is not None:
            self._ledger.begin(run.job, run.answered)
        if run.mode == ALONE:
            return await self._alone()
        groups = None
        if run.mode == TOGETHER:
            groups = await self._together()
        else:
            await self._each()
        return self._packed(groups, time.monotonic() - began)

    async def _each(self) -> None:
        run, ledger, values = self._run, self._ledger, self._values
        clock = time.monotonic_ns
        end = clock() + SLICE_NS
        last = len(run.items) - 1
        for position, item in enumerate(run.items):
            ids: tuple[ItemId, ...] = ()
            if ledger is not None:
                assert run.ids is not None
                ids = (run.ids[position],)
                noted = ledger.find(run.job, ids[0])
                if noted is not None:
                    values.append(noted.value())
                    continue
            try:
                values.append(await self._apply(ids, item))
            except _RAISED as error:
                if self._failed(error):
                    return
            if position < last and clock() > end:
                await asyncio.sleep(0)
                end = clock() + SLICE_NS

    async def _together(self) -> list[tuple[int, ...]]:
        """Call with all items but those that were applied; their results are what was stored.

        Of items with one id the first is given, and the others have its result.
        """
        run, ledger = self._run, self._ledger
        groups: list[tuple[int, ...]] = []
        left = list(range(len(run.items)))
        ids: tuple[ItemId, ...] = ()
        items = run.items
        if ledger is not None:
            assert run.ids is not None
            noted: dict[int, tuple[Note, list[int]]] = {}
            first: dict[ItemId, int] = {}
            left = []
            for position, item in enumerate(run.ids):
                note = ledger.find(run.job, item)
                if note is not None:
                    noted.setdefault(id(note), (note, []))[1].append(position)
                else:
                    first.setdefault(item, position)
                    left.append(position)
            for note, positions in noted.values():
                self._values.append(note.value())
                groups.append(tuple(positions))
            ids = tuple(first)
            items = [run.items[position] for position in first.values()]
        if left:
            groups.append(tuple(left))
            try:
                self._values.append(await self._apply(ids, items))
            except _RAISED as error:
                self._failed(error)
        return groups

    async def _alone(self) -> Any:
        run = self._run
        ids: tuple[ItemId, ...] = ()
        if self._ledger is not None:
            assert run.ids is not None
            ids = (run.ids[0],)
            noted = self._ledger.find(run.job, ids[0])
            if noted is not None:
                return noted.value()
        args, kwargs = run.items[0]
        return await self._apply(ids, *args, **kwargs)

    async def _apply(self, ids: tuple[ItemId, ...], *args: Any, **kwargs: Any) -> Any:
        """Make one call, and note it if it wrote."""
        ledger = self._ledger
        if ledger is None:
            value = self._function(*args, **kwargs)
            return await self._wait(value) if hasattr(value, "__await__") else value
        assert self._activation is not None
        storage, job = self._activation.storage, self._run.job
        ledger.refuse_under_way(job, ids)
        taken = storage.changes_taken
        value = self._function(*args, **kwargs)
        if hasattr(value, "__await__"):
            ledger.start(job, ids)
            try:
                value = await self._wait(value)
            finally:
                ledger.end(job, ids)
        if storage.is_dirty or storage.changes_taken != taken:
            self._record = ledger.note(self._record, job, ids, value)
        return value

    async def _wait(self, value: Any) -> Any:
        if self._run.timeout is None:
            return await value
        limit = asyncio.timeout(self._run.timeout)
        try:
            async with limit:
                return await value
        except TimeoutError:
            if not limit.expired():
                raise  # the method's own
            raise TimeoutError(
                f"the call waited for longer than {self._run.timeout:g} s and was cancelled"
            ) from None

    def _failed(self, error: BaseException) -> bool:
        """Keep the error of a call; returns whether the run ends with it.

        Raises it when it is the run itself that is cancelled.
        """
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error
        self._keep(error, len(self._values))
        self._values.append(None)
        return bool(getattr(error, "retryable", False) or getattr(error, "overloaded", False))

    def _keep(self, error: BaseException, position: int) -> None:
        raw = None if self._activation is None else self._activation.id.raw
        own = not (isinstance(error, RoostError) and not error.remote)
        self._errors[position] = pack_error(error, raw, remote=own)

    def _packed(self, groups: list[tuple[int, ...]] | None, seconds: float) -> Any:
        """Return the answer; a value that cannot be sent is the failure of its call alone."""
        values = self._values
        reply = RunReply(values, self._errors, groups, seconds)
        try:
            return pack_reply(reply)
        except TypeError:
            for position, value in enumerate(values):
                try:
                    pack(value)
                except TypeError as cause:
                    self._keep(cause, position)
                    values[position] = None
            return pack_reply(reply)


class Functions:
    """The functions that callers have stored in the run directory, loaded when first called.

    Only this user's processes can write there. A function is known by the hash of its pickle, and
    the file in which this caller has it.
    """

    def __init__(self, run: Path) -> None:
        self._directory = run / FUNCTIONS
        self._loaded: dict[str, Callable[..., Any]] = {}

    def get(self, name: str) -> Callable[..., Any]:
        """Return the function of a "hash:file". Raises ScriptError when it cannot be loaded here."""
        digest, _, file = name.partition(":")
        function = self._loaded.get(digest)
        if function is None:
            try:
                function = pickle.loads((self._directory / file).read_bytes())
            except BaseException as cause:
                raise ScriptError(
                    f"the function cannot be loaded in a host process: {cause}"
                ) from cause
            if len(self._loaded) >= LOADED:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[digest] = function
        return function


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)
