"""An asyncio process' connection to an instance: hears of hosts, and calls them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import pickle
import secrets
from typing import TYPE_CHECKING, Any

from runtime import control
from runtime.bindings import Bindings
from runtime.client.instance import config_of
from runtime.directories import remove_run, run_directory, shelf_directory
from runtime.roster import Roster
from runtime.wire.caller import Caller, identity_of
from runtime.wire.context import open_context
from runtime.wire.shelf import KEPT_SECONDS, Shelf
from workers.errors import RoostError, RuntimeClosed, ScriptError

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.client.instance import Instance
    from runtime.storage import ObjectRecord
    from runtime.wire.link import Waiter

_EXTRA_SECONDS = 5.0
"""Beyond the grace period: what an instance may take to end that is not its events' time."""


class Connection:
    """Open one with `open_connection`. Belongs to the loop it was opened in."""

    def __init__(self, instance: Instance, loop: asyncio.AbstractEventLoop, name: bytes) -> None:
        data = instance.data
        self.run: Path = run_directory(data)
        self.context = open_context()
        self.roster = Roster.open(self.run / "roster")
        self.shelf = Shelf(shelf_directory(self.run), name.decode())
        self.caller = Caller(loop, self.roster, self.run, self.context, name, shelf=self.shelf)
        self.bindings = Bindings(config_of(data), data)
        self.bindings.roster = self.roster
        self.name = name
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the instance has gone, or this connection was closed."""
        self.ending = ""
        """Why no more calls can be made, when that is so."""
        self._reloads: list[asyncio.Future[None]] = []
        self._moves: dict[str, asyncio.Future[None]] = {}
        self._count = 0
        self._failure = ""
        self._instance = instance
        self._loop = loop
        self._trim_shelf()
        loop.add_reader(instance.connection.fileno(), self._hear)
        self.caller.look()

    def _trim_shelf(self) -> None:
        if not self.ended.done():
            self.shelf.trim()
            self._loop.call_later(KEPT_SECONDS, self._trim_shelf)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(self._instance.connection)
                if packet is None:
                    if self._instance.process is not None:
                        # If its supervisor was killed, nobody else is left to clean up.
                        remove_run(self.run)
                    self.end(self._failure or "the instance has ended")
                    return
                self._heard(*packet)

    def _heard(self, verb: str, text: str) -> None:
        if verb == "look":
            self.caller.look()
        elif verb == "leave":
            self.ending = "the instance is stopping"
            self.caller.strand(self.ending)
        elif verb == "failed":
            self._failure = f"the instance has failed: {text}"
        elif verb == "reloaded" and self._reloads:
            waiter = self._reloads.pop(0)
            if not waiter.done():
                if text:
                    waiter.set_exception(ScriptError(text))
                else:
                    waiter.set_result(None)
        elif verb == "moved":
            number, _, why = text.partition(" ")
            moving = self._moves.pop(number)
            if not moving.done():
                if why:
                    moving.set_exception(RoostError(why))
                else:
                    moving.set_result(None)

    def end(self, why: str) -> None:
        """Fail what is under way and make no more calls. Again: does nothing."""
        if self.ended.done():
            return
        self.ending = why
        self._loop.remove_reader(self._instance.connection.fileno())
        self.ended.set_result(None)
        for waiter in (*self._reloads, *self._moves.values()):
            if not waiter.done():
                waiter.set_exception(RuntimeClosed(why))
        self.caller.close(why)

    async def finish(self) -> None:
        """End the instance, if this program started it, when what is under way has ended.

        Streams break: who would read them?
        """
        if self._instance.process is None or self.ended.done():
            return
        self.caller.refuse("the runtime is closed")
        for link in self.caller.links:
            link.streams.stop_reading(RuntimeClosed("the runtime was closed"))
        grace = self.bindings.config.limits.grace_s
        if waiting := self.caller.unanswered():
            until = self._loop.time() + grace
            _, late = await asyncio.wait(list(map(_as_future, waiting)), timeout=grace)
            # One grace period for all.
            grace = 0.0 if late else max(0.0, until - self._loop.time())
        control.say(self._instance.connection, "finish", str(grace))
        await asyncio.wait([self.ended], timeout=grace + _EXTRA_SECONDS)

    async def reload(self) -> None:
        """Have the hosts replaced one by one, so that they load the script anew.

        Raises ScriptError, and leaves everything as it is, when the script does not load.
        """
        if self.ending:
            raise RuntimeClosed(self.ending)
        waiter = self._loop.create_future()
        self._reloads.append(waiter)
        control.say(self._instance.connection, "reload")
        await waiter

    async def move_slot(self, slot: int, host: int) -> None:
        """Have a host own a slot; returns when the slot table says so.

        Raises RoostError, and leaves everything as it is, when its owner cannot give it; ValueError.
        """
        for what, number, count in (
            ("slot", slot, self.roster.slots),
            ("host", host, self.roster.hosts),
        ):
            if not 0 <= number < count:
                raise ValueError(f"there is no {what} {number}: they are 0 to {count - 1}")
        if self.ending:
            raise RuntimeClosed(self.ending)
        self._count += 1
        waiter = self._moves[str(self._count)] = self._loop.create_future()
        control.say(self._instance.connection, "move", f"{self._count} {slot} {host}")
        await waiter

    def close(self) -> None:
        """Close the connection. An instance of ours ends at once; another goes on without us."""
        self.end("the runtime is closed")
        self.shelf.clear()
        self._instance.hang_up()
        self.bindings.close()
        self.context.destroy(linger=100)
        self.roster.close()


def _as_future(waiter: Waiter) -> asyncio.Future[Any]:
    if isinstance(waiter, concurrent.futures.Future):
        future = asyncio.wrap_future(waiter)
        # What it raises is for who waits for the call; the loop is not to log it.
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return future
    assert isinstance(waiter, asyncio.Future)
    return waiter


async def open_connection(instance: Instance) -> Connection:
    """Connect to an instance, when it is ready.

    Raises ScriptError with the traceback when the script does not load, DataDirInUse, ConfigError.
    """
    loop = asyncio.get_running_loop()
    name = identity_of("c", os.getpid(), secrets.token_bytes(8))
    instance.connection.setblocking(False)
    control.say(instance.connection, "hello", name.decode())
    while True:
        try:
            packet = control.hear(instance.connection)
        except BlockingIOError:
            await _readable(loop, instance.connection.fileno())
            continue
        if packet is None:
            raise RuntimeClosed("the instance ended before it was ready")
        verb, text = packet
        if verb == "welcome":
            return Connection(instance, loop, name)
        if verb == "failed":
            raise ScriptError(text)
        if verb == "refused":  # an exception of our own child's
            refusal: Exception = pickle.loads(bytes.fromhex(text))
            raise refusal


async def list_objects(caller: Caller, class_name: str | None, limit: int) -> list[ObjectRecord]:
    """Ask which objects have storage, of a class or of all, slot by slot; at most `limit`."""
    found: list[ObjectRecord] = []
    for slot in range(caller.slots):
        if len(found) >= limit:
            break
        found += await caller.objects(slot, limit - len(found), class_name)
    return found


async def _readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = loop.create_future()

    def readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, readable)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
