"""The supervisor: forks hosts and the gateway, keeps the roster, replaces the dead.

It has one thread, never a ZeroMQ context, and runs no user requests, so that it can fork at any
time: a new host is up in milliseconds. Everything comes to one loop: signals (which only enqueue),
the ends of children, what they say, what clients say, and timers.

A dead host is reaped before its successor is forked, and its generation in the roster goes up by
one: so two hosts never own a slot. A host that cannot load the script fails the start, instead of
being started again; one that keeps dying is started ever more slowly, and at last not at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from runtime import control
from runtime.directories import SHARED_MEMORY, write_private
from runtime.host.process import WHERE, run_host
from runtime.roster import End, Identity, Roster, State, endpoint
from runtime.storage.layout import clear_journals
from runtime.supervisor.balance import Balance, Look
from runtime.supervisor.children import Child, Stage, describe_exit, fork
from runtime.supervisor.deal import deal
from runtime.supervisor.loop import Loop
from runtime.supervisor.moves import Moves
from runtime.supervisor.overruns import Overruns
from runtime.supervisor.past import KEEP_SECONDS, Past
from runtime.supervisor.reload import Reload
from runtime.supervisor.restarts import CRASHES, QUICK, Restarts
from runtime.supervisor.trial import run_trial
from runtime.wire.shelf import sweep

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from runtime.boot import Worker
    from runtime.directories import Directories

_log = logging.getLogger("roost")

LAST_WORDS_SECONDS = 0.1
"""How long a host has to write down where its event is, before it is killed."""

BALANCE_SECONDS = 1.0
"""Between two looks at how busy hosts and slots are."""

LOOK_SECONDS = 0.5
"""Between two looks at whether the embedding program still lives, and at the hosts' events."""


class Supervisor:
    """See the module's text. `run` returns the exit code of the instance."""

    def __init__(
        self,
        worker: Worker,
        directories: Directories,
        hosts: int,
        *,
        extras: Mapping[str, Sequence[Callable[[socket.socket, int], None]]] | None = None,
        fronts: Sequence[socket.socket] = (),
        parent: socket.socket | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._directories = directories
        self._hosts = hosts
        self._extras = dict(extras or {})
        """Processes beside the hosts, by kind: the gateways, the watcher of the script."""
        self._fronts = fronts
        """Where each gateway listens. Closed here when the instance stops: nobody gets in then."""
        self._parent = parent
        self._on_ready = on_ready
        self._loop = Loop(self._take_signal)
        self._restarts = Restarts()
        self._reload = Reload(hosts, self._start_trial, self._host, self._leave)
        self._overruns = Overruns(worker.config.limits.cpu_ms)
        clear_journals(directories.data)
        self._past = Past(directories.data, directories.slots, time.monotonic())
        owners = deal(self._past.taken, hosts) if worker.config.balance else ()
        self._roster = Roster.create(directories.roster, hosts, directories.slots, owners)
        self._moves = Moves(self._roster, self._host, lambda: self._tell_all("look"))
        self._balance = Balance()
        self._listener = control.listen(str(directories.control))
        self._children: dict[int, Child] = {}
        self._clients: dict[socket.socket, str] = {}
        self._ready = False
        self._stopping = False
        self._code = 0
        self._failure = ""

    def run(self) -> int:
        """Supervise until the end. Returns the exit code; `failure` tells more if it is not 0."""
        self._listener.setblocking(False)
        self._loop.watch(self._listener, self._accept)
        if self._directories.shelf is None:
            _log.warning(
                "there is no usable %s: KV is read from disk, and large values pass through sockets; "
                "both are slower, nothing else",
                SHARED_MEMORY,
            )
        write_private(self._directories.run / "worker", pickle.dumps(self._worker.config))
        if self._parent is not None:
            self._watch_client(self._parent)
            self._watch_parent(os.getppid())
        for number in range(self._hosts):
            self._start("host", number)
        self._watch_hosts()
        self._loop.later(KEEP_SECONDS, self._keep_past)
        if self._worker.config.balance and self._hosts > 1:
            self._watch_balance()
        try:
            self._loop.run()
        finally:
            self._kill_all()
            self._past.keep(self._roster.busy, time.monotonic())
            self._loop.close()
            self._listener.close()
        return self._code

    @property
    def failure(self) -> str:
        """Why the instance ended, when its exit code is not 0."""
        return self._failure

    # --- starting --------------------------------------------------------------------------------

    def _start(self, kind: str, number: int) -> None:
        """Start a host, or another process that the instance needs."""
        if self._stopping:
            return
        if kind != "host":
            self._fork(kind, number, 1, self._extras[kind][number])
            return
        identity = self._roster.identity(number)
        generation = identity.generation or 1
        child = self._fork(
            kind,
            number,
            generation,
            partial(run_host, number, generation, self._worker, self._directories),
        )
        self._roster.set_identity(
            number,
            replace(identity, pid=child.pid, generation=generation, state=State.STARTING),
        )

    def _start_trial(self) -> Child:
        return self._fork("trial", 0, 1, partial(run_trial, self._worker, self._directories.data))

    def _fork(
        self, kind: str, number: int, generation: int, body: Callable[[socket.socket, int], None]
    ) -> Child:
        ours, theirs = control.pair()
        supervisor = os.getpid()

        def target() -> None:
            ours.close()  # or it would never see the supervisor's end of it closed
            self._loop.shed()
            for child in self._children.values():
                os.close(child.pidfd)
            for other, front in enumerate(self._fronts):
                if kind != "gateway" or other != number:
                    front.close()
            body(theirs, supervisor)

        child = fork(kind, number, generation, (ours, theirs), target)
        self._children[child.pid] = child
        self._loop.watch(child.connection, partial(self._hear_child, child))
        self._loop.watch(child.pidfd, partial(self._child_ended, child))
        return child

    def _all(self, *kinds: str) -> list[Child]:
        return [child for child in self._children.values() if not kinds or child.kind in kinds]

    def _host(self, number: int) -> Child | None:
        return next((child for child in self._all("host") if child.number == number), None)

    # --- what children say -----------------------------------------------------------------------

    def _hear_child(self, child: Child) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(child.connection)
                if packet is None:
                    self._loop.forget(child.connection)
                    return  # its pidfd tells of its end
                verb, text = packet
                if verb == "up":
                    self._child_up(child, text)
                elif verb == "failed":
                    child.why = text
                elif verb in {"idle", "busy"}:
                    child.idle = verb == "idle"
                    self._look_at_leaving()
                elif verb == "gave":
                    self._moves.gave(child, int(text))
                elif verb == "kept":
                    self._moves.kept(child, text)
                elif verb == "reload":
                    self._ask_reload(child.connection)

    def _child_up(self, child: Child, name: str) -> None:
        child.name = name
        child.up = time.monotonic()
        if child.stage is Stage.STARTING:
            child.stage = Stage.UP
        if child.kind == "host":
            identity = self._roster.identity(child.number)
            state = State.UP if child.stage is Stage.UP else State.LEAVING
            self._roster.set_identity(child.number, replace(identity, state=state))
            self._tell_all("look")
            if child.generation > 1 and not identity.left_in_order(child.generation - 1):
                _log.info("host %s is up again (pid %s)", child.number, child.pid)
        self._look_whether_ready()
        if not self._stopping:
            self._reload.go_on()
        self._look_at_leaving()

    def _look_whether_ready(self) -> None:
        if self._ready or any(child.stage is not Stage.UP for child in self._all("host")):
            return
        for kind, bodies in self._extras.items():
            if not self._all(kind):
                for number in range(len(bodies)):
                    self._start(kind, number)
        if any(child.stage is not Stage.UP for child in self._all("gateway")):
            return
        self._ready = True
        self._on_ready()
        for client in self._clients:
            control.say(client, "welcome")

    def _tell_all(self, verb: str, text: str = "") -> None:
        for child in self._all("host", "gateway"):
            control.say(child.connection, verb, text)
        if verb == "look":
            for client in self._clients:
                control.say(client, verb)

    # --- ends of children ------------------------------------------------------------------------

    def _child_ended(self, child: Child) -> None:
        self._hear_child(child)  # its last words
        self._loop.forget(child.pidfd)
        self._loop.forget(child.connection)
        code = child.reap()
        del self._children[child.pid]
        in_order = code == 0 and child.stage is Stage.STOPPING
        if child.kind == "host":
            self._overruns.forget(child)
            self._moves.ended(child)
            self._strike_off(child, in_order=in_order)
        if child.name:
            self._gone(child.name)
        if self._stopping:
            self._look_at_leaving()
        elif child.kind == "trial":
            self._reload.trial_ended(child, code)
        elif in_order:
            self._start(child.kind, child.number)
        else:
            self._died(child, describe_exit(code))

    def _strike_off(self, child: Child, *, in_order: bool) -> None:
        """Tell everybody that a host has ended."""
        end = End.LEFT if in_order else End.OVERRAN if child.overran else End.DIED
        following = child.generation + 1
        left_from = self._roster.identity(child.number).left_from if in_order else following
        self._roster.set_identity(child.number, Identity(0, following, State.DOWN, end, left_from))
        path = endpoint(self._directories.run, child.number, child.generation)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.removeprefix("ipc://"))  # noqa: PTH108
        self._tell_all("look")

    def _died(self, child: Child, how: str) -> None:
        """Start a successor of a child that died, now or later; or fail."""
        several = child.kind == "host" or len(self._extras[child.kind]) > 1
        who = f"{child.kind} {child.number}" if several else f"the {child.kind}"
        why = f":\n{child.why}" if child.why else ""
        if child.kind == "watcher" and why:
            _log.error("changes of the script are not noticed%s", why)
            return
        if not self._ready and child.stage is Stage.STARTING:
            self._fail(child.why or f"{who} {how} while it started")
            return
        lived = time.monotonic() - (child.up or child.started)
        up_host = child.kind == "host" and bool(child.up)
        delay = self._restarts.died(who, lived, by_event=up_host)
        if delay is None:
            self._fail(
                f"{who} died {CRASHES} times in a row within {QUICK:g} s of its start; the last "
                f"one {how}{why}"
            )
            return
        _log.error("%s (pid %s) %s; it is back in a moment%s", who, child.pid, how, why)
        if delay:
            self._loop.later(delay, partial(self._start, child.kind, child.number))
        else:
            self._start(child.kind, child.number)

    def _fail(self, why: str) -> None:
        self._failure = why
        self._code = 1
        for client in self._clients:
            control.say(client, "failed", why)
        self._stop_at_once()

    # --- replacing hosts -------------------------------------------------------------------------

    def _ask_reload(self, asker: socket.socket) -> None:
        if not self._stopping and self._ready:
            self._reload.ask(asker)

    def _leave(self, host: Child) -> None:
        """Ask a host to end what is under way; when it has, another takes its place."""
        self._tell_to_leave(host)
        self._loop.later(self._worker.config.limits.grace_s, partial(self._hurry, host))

    def _tell_to_leave(self, *hosts: Child) -> None:
        for host in hosts:
            host.stage = Stage.LEAVING
            host.idle = False
            if host.up:
                identity = self._roster.identity(host.number)
                self._roster.set_identity(host.number, replace(identity, state=State.LEAVING))
        self._tell_all("look")
        for host in hosts:
            control.say(host.connection, "leave")

    def _hurry(self, host: Child) -> None:
        """End a host that did not leave within the grace period."""
        if self._children.get(host.pid) is host:
            _log.warning("host %s did not finish in time and is ended", host.number)
            host.kill()

    def _watch_hosts(self) -> None:
        """End hosts whose event takes more than its share of the processor."""
        for host in self._all("host"):
            if not host.up or host.overran:
                continue
            what = self._overruns.look(host, self._roster.figures(host.number).beat_ns)
            if what is not None:
                host.overran = True
                _log.error("an event of host %s %s; it was here:", host.number, what)
                host.signal(WHERE)
                self._loop.later(LAST_WORDS_SECONDS, partial(self._end_overrun, host))
        self._loop.later(LOOK_SECONDS, self._watch_hosts)

    def _ask_move(self, what: str, said: Callable[[str], None]) -> None:
        """Take what a client asks: it checks its numbers, but another version of it may not."""
        try:
            slot, host = map(int, what.split())
        except ValueError:
            slot = host = -1
        if 0 <= slot < self._roster.slots and 0 <= host < self._hosts:
            self._moves.ask(slot, host, said)
        else:
            said(f"no slot and host are {what!r}")

    def _watch_balance(self) -> None:
        """Move a slot from a host that stays busier than another."""
        roster = self._roster
        self._loop.later(BALANCE_SECONDS, self._watch_balance)
        if not self._moves.idle or any(host.stage is not Stage.UP for host in self._all("host")):
            self._balance.forget()
            return
        busy = [roster.figures(host).busy_ns for host in range(self._hosts)]
        move = self._balance.look(
            Look(time.monotonic(), busy, list(roster.busy), list(roster.owners))
        )
        if move is not None:
            _log.info("host %s is much busier than host %s", roster.owners[move[0]], move[1])
            self._moves.ask(*move, _say_kept)

    def _keep_past(self) -> None:
        """Remember what slots take, for the next start."""
        self._past.keep(self._roster.busy, time.monotonic())
        self._loop.later(KEEP_SECONDS, self._keep_past)

    def _end_overrun(self, host: Child) -> None:
        """End a host that had a moment to write down where its event is."""
        if self._children.get(host.pid) is host:
            host.kill()

    # --- stopping --------------------------------------------------------------------------------

    def _take_signal(self, number: signal.Signals) -> None:
        if self._stopping:
            _log.warning("stopping at once")
            self._stop_at_once()
        else:
            _log.info("%s: finishing what is under way", number.name)
            self._stop(self._worker.config.limits.grace_s)

    def _stop(self, grace: float) -> None:
        """End the instance: first those who bring work, then, when it is done, the hosts."""
        if grace <= 0 or not self._ready:  # before it is ready nothing can be under way
            self._stop_at_once()
        if self._stopping:
            return
        self._stopping = True
        for front in self._fronts:
            front.close()
        for client in self._clients:
            control.say(client, "leave")
        self._loop.later(grace, self._give_up)
        for child in self._all():
            if child.kind == "gateway":
                child.stage = Stage.STOPPING
                control.say(child.connection, "stop")
            elif child.kind != "host":
                child.kill()
        self._look_at_leaving()

    def _give_up(self) -> None:
        _log.warning("not everything under way has ended in time; stopping at once")
        self._stop_at_once()

    def _stop_at_once(self) -> None:
        self._stopping = True
        self._kill_all()
        self._loop.end()

    def _look_at_leaving(self) -> None:
        """Take the next step of whatever is ending."""
        hosts = self._all("host")
        if not self._stopping:
            for child in hosts:
                if child.stage is Stage.LEAVING and child.idle:
                    child.stage = Stage.STOPPING
                    control.say(child.connection, "stop")
            return
        if self._all("gateway"):
            return
        staying = [child for child in hosts if child.stage in {Stage.UP, Stage.STARTING}]
        if staying:
            self._tell_to_leave(*staying)
        if all(child.idle for child in hosts):
            for child in hosts:
                if child.stage is Stage.LEAVING:
                    child.stage = Stage.STOPPING
                    control.say(child.connection, "stop")
        if not self._children:
            self._loop.end()

    def _kill_all(self) -> None:
        for child in self._all():
            child.kill()
        for child in self._all():
            self._loop.forget(child.pidfd)
            self._loop.forget(child.connection)
            child.reap()
            del self._children[child.pid]

    # --- clients ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._watch_client(connection)

    def _watch_client(self, connection: socket.socket) -> None:
        self._clients[connection] = ""
        self._loop.watch(connection, partial(self._hear_client, connection))

    def _hear_client(self, connection: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(connection)
                if packet is None:
                    self._client_gone(connection)
                    return
                verb, text = packet
                if verb == "hello":
                    self._clients[connection] = text
                    if self._ready:
                        control.say(connection, "welcome")
                elif verb == "reload":
                    self._ask_reload(connection)
                elif verb == "move":
                    number, _, what = text.partition(" ")
                    self._ask_move(what, partial(_say_moved, connection, number))
                elif verb == "finish":
                    self._stop(float(text))

    def _gone(self, name: str) -> None:
        """Have everybody forget a process that called hosts, and sweep what it left."""
        self._tell_all("gone", name)
        if self._directories.shelf is not None:
            sweep(self._directories.shelf, name)

    def _client_gone(self, connection: socket.socket) -> None:
        self._loop.forget(connection)
        connection.close()
        name = self._clients.pop(connection)
        if name:
            self._gone(name)
        if connection is self._parent:
            self._stop_at_once()  # the program that embeds this instance is dead, or in a hurry

    def _watch_parent(self, pid: int) -> None:
        """End with the program, also when a fork of it keeps the connection open."""
        if os.getppid() != pid:
            self._stop_at_once()
        else:
            self._loop.later(LOOK_SECONDS, partial(self._watch_parent, pid))


def _say_moved(asker: socket.socket, number: str, why: str) -> None:
    control.say(asker, "moved", f"{number} {why}")


def _say_kept(why: str) -> None:
    if why:
        _log.info("%s", why)


def only_one_thread() -> bool:
    """Whether this process can be forked safely."""
    return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
