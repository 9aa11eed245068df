"""The process of the gateway: HTTP in front, calls to hosts behind.

Its listening socket was bound by the supervisor, so that a port in use is an error at the start, and
a gateway that is replaced misses no connection. Told to stop, it finishes what it has and exits. If
its supervisor dies it removes the run directory, since nobody else can, and exits.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import uvloop

from runtime import control
from runtime.config.sockets import SocketLimits
from runtime.directories import remove_run
from runtime.gateway.access_log import AccessLog
from runtime.gateway.server import Server
from runtime.gateway.sockets import Sockets
from runtime.host.process import COLLECT_AT, ignore_terminal
from runtime.roster import Roster
from runtime.wire.caller import Caller, identity_of
from runtime.wire.context import open_context
from runtime.wire.sockets import Census, census_path

if TYPE_CHECKING:
    import socket

    from runtime.directories import Directories

_CLOSE_SECONDS = 3.0
"""How long clients of WebSockets have to answer when the gateway stops."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway serves."""

    listener: socket.socket
    directories: Directories
    mode: Literal["dev", "serve"]
    max_body: int
    """Bytes that a request may carry."""
    grace_s: float
    """Seconds that requests under way have to end when the gateway stops."""
    quiet: bool
    """Whether only failures are logged."""
    websockets: SocketLimits = field(default_factory=SocketLimits)
    number: int = 0
    """Which of the instance's gateways it is."""


def run_gateway(gateway: Gateway, connection: socket.socket, supervisor: int) -> None:
    """Be the gateway until told to stop. Called in the forked process."""
    ignore_terminal()
    if os.getppid() != supervisor:
        os._exit(1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a descriptor a connection
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_main(gateway, connection))
    except BaseException:
        logging.getLogger("roost.gateway").exception("the gateway cannot go on")
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _main(gateway: Gateway, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    run = gateway.directories.run
    context = open_context()
    name = identity_of("g", gateway.number, secrets.token_bytes(8))
    caller = Caller(loop, Roster.open(gateway.directories.roster), run, context, name)

    census = Census.create(census_path(run, gateway.number))
    sockets = Sockets(caller, gateway.websockets, gateway.number, census)

    log = AccessLog(sys.stdout, quiet=gateway.quiet)
    server = Server(
        caller.send_request,
        mode=gateway.mode,
        max_body=gateway.max_body,
        sockets=sockets,
        access_log=log,
    )
    stopped = asyncio.Event()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
    connection.setblocking(False)

    def hear() -> None:
        with suppress(BlockingIOError):
            while True:
                packet = control.hear(connection)
                if packet is None:
                    remove_run(run)
                    os._exit(1)
                if packet[0] == "look":
                    caller.look()
                elif packet[0] == "stop":
                    stopped.set()

    loop.add_reader(connection.fileno(), hear)
    caller.look()
    await server.start(gateway.listener)
    control.say(connection, "up", name.decode())
    await stopped.wait()
    await server.stop(gateway.grace_s)
    await sockets.close(min(gateway.grace_s, _CLOSE_SECONDS))
    log.flush()
    caller.close()
    context.destroy(linger=0)
