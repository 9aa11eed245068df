"""The process of a host: what happens between its fork and its end.

The supervisor forks it, it loads the worker script, listens, and says `up`; told to leave, it says
when it is idle; told to stop, it says goodbye to its callers and exits. If its supervisor dies it is
killed at once by the kernel, so that a new instance never meets an old host.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import secrets
import signal
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from runtime import control
from runtime.bindings import Bindings, Env
from runtime.host.host import Host
from runtime.host.script import load_script
from runtime.roster import Roster, endpoint
from runtime.wire.caller import Caller, identity_of
from runtime.wire.context import open_context
from runtime.wire.listener import Listener, bind
from runtime.wire.shelf import Shelf
from workers.current import set_default_env
from workers.errors import ScriptError

if TYPE_CHECKING:
    import socket

    from runtime.boot import Worker
    from runtime.directories import Directories

FAILED_TO_START = 3
"""Exit code of a host that cannot start, so that it is not simply started again."""

WHERE = signal.SIGXCPU
"""A host that is sent this signal writes the traceback of its running code to standard error."""

COLLECT_AT = (10_000, 10, 10)
"""After how many new objects Python looks for cycles. With its own 700, the calls of a burst are looked
through many times while they wait for their answers: a tenth of the time of those that make objects.
"""

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.005


def run_host(
    number: int,
    generation: int,
    worker: Worker,
    directories: Directories,
    connection: socket.socket,
    supervisor: int,
) -> None:
    """Be a host until told to stop. Called in the forked process; never returns an error."""
    die_with(supervisor)
    ignore_terminal()
    # Not a handler in Python: that would wait for the C code which may be what takes so long.
    faulthandler.register(WHERE, all_threads=False)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        code = loop.run_until_complete(_main(number, generation, worker, directories, connection))
    except BaseException:
        control.say(connection, "failed", traceback.format_exc())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _main(
    number: int,
    generation: int,
    worker: Worker,
    directories: Directories,
    connection: socket.socket,
) -> int:
    loop = asyncio.get_running_loop()
    context = open_context()
    roster = Roster.open(directories.roster)
    name = identity_of("h", number, secrets.token_bytes(8))
    shelf = Shelf(directories.shelf, name.decode())
    caller = Caller(loop, roster, directories.run, context, name, shelf=shelf, own_host=number)
    bindings = Bindings(worker.config, directories.data)
    set_default_env(Env(bindings, caller))
    for entry in worker.path:
        if entry not in sys.path:
            sys.path.append(entry)
    try:
        script = load_script(worker.config, worker.classes)
    except ScriptError as error:
        control.say(connection, "failed", str(error))
        return FAILED_TO_START
    router = bind(context, endpoint(directories.run, number, generation))
    host = Host(loop, number, router, roster, caller, bindings, script, directories.data)
    listener = Listener(loop, router, host)
    host.on_sent = listener.look_again
    gc.freeze()  # what is loaded by now stays; collections need not look at it again
    gc.set_threshold(*COLLECT_AT)

    stopped = loop.create_future()
    connection.setblocking(False)

    def hear() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(connection)
                if packet is None:
                    os._exit(1)  # the supervisor is dead
                verb, text = packet
                if verb == "leave":
                    _close_outgoing()
                    bindings.end_watches()
                    host.leave()
                    _tell_idle(host, connection, loop, was=None)
                elif verb == "stop" and not stopped.done():
                    stopped.set_result(None)
                else:
                    _hear(host, connection, verb, text)

    def tick() -> None:
        host.tick()
        loop.call_later(1.0, tick)

    loop.add_reader(connection.fileno(), hear)
    tick()
    caller.look()
    control.say(connection, "up", name.decode())
    await stopped
    while not host.idle:  # noqa: ASYNC110  many things end; a peer's call may have come since
        await asyncio.sleep(_LOOK_SECONDS)

    await host.close()
    host.say_goodbye()
    loop.remove_reader(connection.fileno())
    listener.close()
    host.on_sent = _nothing
    caller.close()
    router.close(linger=2000)
    context.term()
    return 0


def _hear(host: Host, connection: socket.socket, verb: str, text: str) -> None:
    """Take what the supervisor says of others, and of slots."""
    if verb == "look":
        host.look()
    elif verb == "gone":
        host.gone(text.encode())
    elif verb == "give":
        host.handover.give(int(text), partial(control.say, connection))
    elif verb == "moved":
        host.handover.moved(int(text))


def _tell_idle(
    host: Host, connection: socket.socket, loop: asyncio.AbstractEventLoop, *, was: bool | None
) -> None:
    """Tell the supervisor whenever a leaving host becomes idle, or busy again."""
    idle = host.idle
    if idle is not was:
        control.say(connection, "idle" if idle else "busy")
    loop.call_later(_LOOK_SECONDS, lambda: _tell_idle(host, connection, loop, was=idle))


def _close_outgoing() -> None:
    """Close the WebSockets that the script has opened, if it has opened any."""
    outgoing = sys.modules.get("workers.outgoing")
    if outgoing is not None:
        outgoing.close_all()


def _nothing() -> None:
    pass


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def ignore_terminal() -> None:
    """Leave signals of the terminal to the supervisor, which tells its children what to do.

    A handler and not SIG_IGN, which the programs that a script starts would inherit.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
