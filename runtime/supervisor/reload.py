"""Replaces the hosts one by one by new ones, which have loaded the changed script.

First the script is loaded on trial, so that one with an error never replaces one that works. Then
each host in turn leaves: it ends what is under way, and its successor takes the calls that it
refused. One reload is under way at a time; whoever asks meanwhile gets another one after it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from runtime import control
from runtime.supervisor.children import Child, Stage, describe_exit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_log = logging.getLogger("roost")


class Reload:
    """See the module's text.

    `try_script` forks the trial, `host` is the present child of a number, `leave` asks it to leave.
    """

    def __init__(
        self,
        hosts: int,
        try_script: Callable[[], Child],
        host: Callable[[int], Child | None],
        leave: Callable[[Child], None],
    ) -> None:
        self._hosts = hosts
        self._try_script = try_script
        self._host = host
        self._leave = leave
        self._trial: Child | None = None
        self._to_replace: list[int] = []
        self._asked: list[socket.socket] = []
        self._asked_again: list[socket.socket] | None = None
        self._began = 0.0

    def ask(self, asker: socket.socket) -> None:
        """Begin a reload; the asker hears `reloaded` when it is done."""
        if self._trial is None and not self._to_replace:
            self._asked = [asker]
            self._begin()
            return
        self._asked_again = [*(self._asked_again or ()), asker]
        if self._trial is not None:
            self._trial.kill()  # it may hang, and tries what has changed since

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._trial = self._try_script()

    def trial_ended(self, child: Child, code: int) -> None:
        """Take note that the trial has ended."""
        self._trial = None
        if self._asked_again is not None:
            self._asked += self._asked_again
            self._asked_again = None
            self._begin()
        elif code == 0:
            self._to_replace = list(range(self._hosts))
            self.go_on()
        else:
            why = child.why or f"loading it on trial {describe_exit(code)}"
            _log.error("the changed script is not used:\n%s", why)
            self._done(why)

    def go_on(self) -> None:
        """Take the next step: a host has come up."""
        while self._to_replace:
            host = self._host(self._to_replace[0])
            if host is None or host.stage is not Stage.UP:
                return  # it is on its way
            if host.started < self._began:
                self._leave(host)
                return
            self._to_replace.pop(0)
            if not self._to_replace:
                took = (time.monotonic() - self._began) * 1000
                _log.info("reloaded the script in %.0f ms", took)
                self._done("")

    def _done(self, why: str) -> None:
        for asker in self._asked:
            control.say(asker, "reloaded", why)
        asked, self._asked_again = self._asked_again, None
        if asked is not None:
            self._asked = asked
            self._begin()
