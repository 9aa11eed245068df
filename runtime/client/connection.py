"""An asyncio process' connection to an instance: hears of hosts, and calls them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import secrets
import shutil
from typing import TYPE_CHECKING

import zmq

from runtime import control
from runtime.bindings import Bindings
from runtime.client.instance import config_of, run_of
from runtime.roster import Roster
from runtime.wire.caller import Caller, identity_of
from workers.errors import RuntimeClosed, ScriptError

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.client.instance import Instance
    from runtime.storage import ObjectRecord


class Connection:
    """Open one with `open_connection`. Belongs to the loop it was opened in."""

    def __init__(self, instance: Instance, loop: asyncio.AbstractEventLoop, name: bytes) -> None:
        data = instance.data
        self.run: Path = run_of(data)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.roster = Roster.open(self.run / "roster")
        self.caller = Caller(loop, self.roster, self.run, self.context, name)
        self.bindings = Bindings(config_of(data), data)
        self.name = name
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the instance has gone, or this connection was closed."""
        self._finishing = False
        self._instance = instance
        self._loop = loop
        loop.add_reader(instance.connection.fileno(), self._hear)
        self.caller.look()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(self._instance.connection)
                if packet is None:
                    if self._instance.process is not None and not self._finishing:
                        # Its supervisor was killed, and nobody else is left to clean up.
                        shutil.rmtree(self.run, ignore_errors=True)
                    self._end()
                    return
                if packet[0] == "look":
                    self.caller.look()

    def _end(self) -> None:
        if self.ended.done():
            return
        self._loop.remove_reader(self._instance.connection.fileno())
        self.ended.set_result(None)
        self.caller.close()

    def finish(self) -> None:
        """Ask the instance to end, when what is under way has ended."""
        self._finishing = True
        control.say(self._instance.connection, "finish")

    def reload(self) -> None:
        """Ask the instance to replace its hosts, so that they load the script anew."""
        control.say(self._instance.connection, "reload")

    def close(self) -> None:
        """Close the connection; the instance goes on without it, if it is not ours."""
        self._end()
        self._instance.connection.close()
        self.bindings.close()
        self.context.destroy(linger=100)
        self.roster.close()


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
    """Ask all hosts which objects have storage, of a class or of all; at most `limit`."""
    found: list[ObjectRecord] = []
    for link in caller.links:
        found += await caller.objects(link.host, limit - len(found), class_name)
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
