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
import heapq
import itertools
import logging
import os
import pickle
import selectors
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from runtime import control
from runtime.host.process import run_host
from runtime.roster import Identity, Roster, State, endpoint
from runtime.supervisor.children import Child, Stage, describe_exit, fork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.directories import Directories
    from runtime.host.process import Worker

_log = logging.getLogger("roost")

QUICK = 1.0
"""Seconds: a host that dies sooner after its start counts towards a crash loop."""

PARENT_SECONDS = 0.5
"""Between two looks at whether the embedding program still lives."""

CRASHES = 8
"""So many quick deaths of one host in a row end the instance."""


class Supervisor:
    """See the module's text. `run` returns the exit code of the instance."""

    def __init__(
        self,
        worker: Worker,
        directories: Directories,
        hosts: int,
        *,
        extras: Mapping[str, Callable[[socket.socket, int], None]] | None = None,
        trial: Callable[[socket.socket, int], None] | None = None,
        parent: socket.socket | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._directories = directories
        self._hosts = hosts
        self._extras = dict(extras or {})
        """Processes beside the hosts, by kind: the gateway, the watcher of the script."""
        self._trial = trial
        """Loads the changed script on trial, before any host is replaced by it."""
        self._parent = parent
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._roster = Roster.create(directories.roster, hosts, directories.slots)
        self._listener = control.listen(str(directories.control))
        self._children: dict[int, Child] = {}
        self._clients: dict[socket.socket, str] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._signals: list[int] = []
        self._quick_deaths = [0] * hosts
        self._ready = False
        self._stopping = False
        self._ended = False
        self._code = 0
        self._failure = ""
        self._to_replace: list[int] = []
        self._reload_again = False
        self._reload_began = 0.0

    # --- the loop --------------------------------------------------------------------------------

    def run(self) -> int:
        """Supervise until the end. Returns the exit code; `failure` tells more if it is not 0."""
        wake, waker = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)
        for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(caught, lambda number, _: self._signals.append(number))
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._wake_ends = (wake, waker)
        self._selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(64))
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        (self._directories.run / "worker").write_bytes(pickle.dumps(self._worker.config))
        if self._parent is not None:
            self._watch_client(self._parent)
            self._watch_parent(os.getppid())
        for number in range(self._hosts):
            self._start_host(number)
        try:
            while not self._ended:
                for key, _ in self._selector.select(self._until_timer()):
                    if self._selector.get_map().get(key.fd) is key:  # not closed by one before it
                        key.data()
                while self._signals:
                    self._take_signal(self._signals.pop(0))
                while self._timers and self._timers[0][0] <= time.monotonic():
                    heapq.heappop(self._timers)[2]()
        finally:
            self._kill_all()
            signal.set_wakeup_fd(-1)
            self._selector.close()
            self._listener.close()
            wake.close()
            waker.close()
        return self._code

    @property
    def failure(self) -> str:
        """Why the instance ended, when its exit code is not 0."""
        return self._failure

    def _until_timer(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._count), function))

    # --- starting --------------------------------------------------------------------------------

    def _start_host(self, number: int) -> None:
        if self._stopping:
            return
        identity = self._roster.identity(number)
        generation = identity.generation or 1
        ours, theirs = control.pair()
        supervisor = os.getpid()

        def target() -> None:
            self._shed(theirs)
            run_host(number, generation, self._worker, self._directories, theirs, supervisor)

        child = fork("host", number, generation, (ours, theirs), target)
        self._roster.set_identity(
            number, Identity(child.pid, generation, State.STARTING, identity.left_in_order)
        )
        self._watch_child(child)

    def _start_extra(self, kind: str, body: Callable[[socket.socket, int], None]) -> None:
        if self._stopping:
            return
        ours, theirs = control.pair()
        supervisor = os.getpid()

        def target() -> None:
            self._shed(theirs)
            body(theirs, supervisor)

        self._watch_child(fork(kind, 0, 1, (ours, theirs), target))

    def _shed(self, own: socket.socket) -> None:
        """In a new child: close what is the supervisor's, above all its ends of other connections.

        A child that held them would keep its siblings from seeing their supervisor's death.
        """
        signal.set_wakeup_fd(-1)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket) and key.fileobj is not own:
                key.fileobj.close()
        for child in self._children.values():
            os.close(child.pidfd)
        self._wake_ends[1].close()
        self._selector.close()

    def _watch_child(self, child: Child) -> None:
        self._children[child.pid] = child
        self._selector.register(
            child.connection, selectors.EVENT_READ, partial(self._hear_child, child)
        )
        self._selector.register(
            child.pidfd, selectors.EVENT_READ, partial(self._child_ended, child)
        )

    # --- what children say -----------------------------------------------------------------------

    def _hear_child(self, child: Child) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = control.hear(child.connection)
                if packet is None:
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(child.connection)
                    return  # its pidfd tells of its end
                verb, text = packet
                if verb == "up":
                    self._child_up(child, text)
                elif verb == "failed":
                    child.why = text
                elif verb in {"idle", "busy"}:
                    child.idle = verb == "idle"
                    self._look_at_leaving()
                elif verb == "reload":
                    self.reload()

    def _child_up(self, child: Child, name: str) -> None:
        child.name = name
        if child.stage is Stage.STARTING:
            child.stage = Stage.UP
        if child.kind != "host":
            if child.kind == "gateway":
                self._look_whether_ready()
            return
        identity = self._roster.identity(child.number)
        self._roster.set_identity(
            child.number, Identity(child.pid, child.generation, State.UP, identity.left_in_order)
        )
        self._tell_all("look")
        if child.generation > 1 and not identity.left_in_order:
            _log.info("host %s is up again (pid %s)", child.number, child.pid)
        self._look_whether_ready()
        self._replace_next()
        self._look_at_leaving()

    def _look_whether_ready(self) -> None:
        if self._ready or any(c.kind == "host" and c.stage is not Stage.UP for c in self._all()):
            return
        running = {child.kind for child in self._all()}
        missing = [kind for kind in self._extras if kind not in running]
        for kind in missing:
            self._start_extra(kind, self._extras[kind])
        if any(c.kind == "gateway" and c.stage is not Stage.UP for c in self._all()):
            return
        self._ready = True
        self._on_ready()
        for client in list(self._clients):
            control.say(client, "welcome")

    def _all(self) -> list[Child]:
        return list(self._children.values())

    def _tell_all(self, verb: str, text: str = "", *, but: Child | None = None) -> None:
        for child in self._all():
            if child.kind in {"host", "gateway"} and child is not but:
                control.say(child.connection, verb, text)
        if verb == "look":
            for client in self._clients:
                control.say(client, verb)

    # --- ends of children ------------------------------------------------------------------------

    def _child_ended(self, child: Child) -> None:
        self._hear_child(child)  # its last words
        self._selector.unregister(child.pidfd)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.connection)
        pid = child.pid
        code = child.reap()
        del self._children[pid]
        if child.kind == "host":
            self._host_ended(child, pid, code)
        elif child.kind == "trial":
            self._trial_ended(child, code)
        elif not self._stopping:
            _log.error("the %s (pid %s) %s; starting another", child.kind, pid, describe_exit(code))
            if child.why:
                self._fail(child.why)
            else:
                delay = 0.0 if time.monotonic() - child.started > QUICK else QUICK
                self._later(delay, partial(self._start_extra, child.kind, self._extras[child.kind]))
        if child.name:
            self._tell_all("gone", child.name)
        if self._stopping:
            self._look_at_leaving()

    def _host_ended(self, child: Child, pid: int, code: int) -> None:
        number = child.number
        in_order = code == 0 and child.stage is Stage.STOPPING
        self._roster.set_identity(number, Identity(0, child.generation + 1, State.DOWN, in_order))
        path = endpoint(self._directories.run, number, child.generation).removeprefix("ipc://")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        self._tell_all("look")
        if self._stopping:
            return
        if in_order:
            self._start_host(number)
            return
        if not self._ready and child.stage is Stage.STARTING:
            self._fail(child.why or f"host {number} {describe_exit(code)} while it started")
            return
        quick = time.monotonic() - child.started < QUICK
        deaths = self._quick_deaths[number] = self._quick_deaths[number] + 1 if quick else 0
        if deaths >= CRASHES:
            self._fail(
                f"host {number} died {deaths} times in a row within {QUICK:g} s of its start; the "
                f"last one {describe_exit(code)}" + (f":\n{child.why}" if child.why else "")
            )
            return
        _log.error(
            "host %s (pid %s) %s; its objects are back in a moment%s",
            number,
            pid,
            describe_exit(code),
            f"\n{child.why}" if child.why else "",
        )
        # The first death is mended at once; who dies again at once waits ever longer.
        delay = 0.0 if deaths < 2 else min(5.0, 0.1 * 2 ** (deaths - 2))
        if delay:
            self._later(delay, partial(self._start_host, number))
        else:
            self._start_host(number)

    def _fail(self, why: str) -> None:
        if not self._failure:
            self._failure = why
            self._code = 1
            for client in self._clients:
                control.say(client, "failed", why)
        self._stop(grace=0.0)

    # --- replacing hosts by a changed script -----------------------------------------------------

    def reload(self) -> None:
        """Replace the hosts one by one, if the script loads."""
        if self._stopping or not self._ready:
            return
        if self._to_replace or any(child.kind == "trial" for child in self._all()):
            self._reload_again = True
            return
        self._reload_began = time.monotonic()
        if self._trial is not None:
            self._start_extra("trial", self._trial)
        else:
            self._begin_replacing()

    def _trial_ended(self, child: Child, code: int) -> None:
        if code == 0:
            self._begin_replacing()
        else:
            _log.error("the changed script is not used:\n%s", child.why or describe_exit(code))
            self._reload_done()

    def _begin_replacing(self) -> None:
        self._to_replace = list(range(self._hosts))
        self._leave_next()

    def _leave_next(self) -> None:
        number = self._to_replace[0]
        for child in self._all():
            if child.kind == "host" and child.number == number and child.stage is Stage.UP:
                child.stage = Stage.LEAVING
                child.idle = False
                control.say(child.connection, "leave")
                self._later(self._worker.config.limits.grace_s, partial(self._hurry, child))
                return

    def _replace_next(self) -> None:
        """Go on with the next host, when the one that is being replaced is up again."""
        if not self._to_replace:
            return
        number = self._to_replace[0]
        if any(
            c.kind == "host" and c.number == number and c.stage is Stage.UP for c in self._all()
        ):
            self._to_replace.pop(0)
            if self._to_replace:
                self._leave_next()
            else:
                took = (time.monotonic() - self._reload_began) * 1000
                _log.info("reloaded the script in %.0f ms", took)
                self._reload_done()

    def _reload_done(self) -> None:
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def _hurry(self, child: Child) -> None:
        """End a child that did not leave within the grace period."""
        if self._children.get(child.pid) is child:
            _log.warning("the %s %s did not finish in time and is ended", child.kind, child.number)
            child.kill()

    # --- stopping --------------------------------------------------------------------------------

    def _take_signal(self, number: int) -> None:
        if self._stopping:
            _log.warning("stopping at once")
            self._kill_all()
            self._ended = True
        else:
            _log.info("%s: finishing what is under way", signal.Signals(number).name)
            self._stop(grace=self._worker.config.limits.grace_s)

    def _stop(self, *, grace: float) -> None:
        """End the instance: first those who bring work, then, when it is done, the hosts."""
        if self._stopping:
            return
        self._stopping = True
        self._to_replace = []
        if grace <= 0:
            self._kill_all()
            self._ended = True
            return
        self._later(grace, self._give_up)
        for child in self._all():
            if child.kind == "gateway":
                child.stage = Stage.STOPPING
                control.say(child.connection, "stop")
            elif child.kind != "host":
                child.kill()
        self._look_at_leaving()

    def _give_up(self) -> None:
        if self._children:
            _log.warning("not everything under way has ended in time; stopping at once")
        self._kill_all()
        self._ended = True

    def _look_at_leaving(self) -> None:
        """Take the next step of whatever is ending."""
        hosts = [child for child in self._all() if child.kind == "host"]
        if not self._stopping:
            for child in hosts:
                if child.stage is Stage.LEAVING and child.idle:
                    child.stage = Stage.STOPPING
                    control.say(child.connection, "stop")
            return
        if any(child.kind == "gateway" for child in self._all()):
            return
        for child in hosts:
            if child.stage in {Stage.UP, Stage.STARTING}:
                if child.stage is Stage.STARTING:
                    child.idle = False
                child.stage = Stage.LEAVING
                control.say(child.connection, "leave")
        if all(child.idle for child in hosts):
            for child in hosts:
                if child.stage is Stage.LEAVING:
                    child.stage = Stage.STOPPING
                    control.say(child.connection, "stop")
        if not self._children:
            self._ended = True

    def _kill_all(self) -> None:
        for child in self._all():
            child.kill()
        for child in self._all():
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.pidfd)
                self._selector.unregister(child.connection)
            pid = child.pid
            child.reap()
            del self._children[pid]

    # --- clients ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._watch_client(connection)

    def _watch_client(self, connection: socket.socket) -> None:
        self._clients[connection] = ""
        self._selector.register(
            connection, selectors.EVENT_READ, partial(self._hear_client, connection)
        )

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
                    self.reload()
                elif verb == "finish":
                    self._stop(grace=self._worker.config.limits.grace_s)

    def _watch_parent(self, pid: int) -> None:
        """End with the program, also when a fork of it keeps the connection open."""
        if os.getppid() != pid:
            self._stop(grace=0.0)
        else:
            self._later(PARENT_SECONDS, partial(self._watch_parent, pid))

    def _client_gone(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        name = self._clients.pop(connection)
        if name:
            self._tell_all("gone", name)
        if connection is self._parent and not self._stopping:
            self._stop(grace=0.0)  # the program that embeds this instance is dead


def only_one_thread() -> bool:
    """Whether this process can be forked safely."""
    return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
