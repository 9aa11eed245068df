"""Two small children beside the hosts: one watches the script in `roost dev`, one tries it.

The watcher says `reload` when a Python file of the script's folder has changed. The trial loads the
changed script as a host would, so that a script with an error never replaces one that works.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from runtime import control
from runtime.bindings import Bindings, Env
from runtime.host.process import FAILED_TO_START, die_with, ignore_terminal
from runtime.host.script import load_script
from workers.current import set_default_env
from workers.errors import RoostError, ScriptError

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from runtime.host.process import Worker
    from runtime.stubs import Calls


def run_watcher(folder: Path, connection: socket.socket, supervisor: int) -> None:
    """Say `reload` whenever Python files below a folder change. Called in a forked process."""
    die_with(supervisor)
    ignore_terminal()
    from watchfiles import PythonFilter, watch  # noqa: PLC0415  (only `roost dev` pays for it)

    try:
        for _ in watch(folder, watch_filter=PythonFilter(), raise_interrupt=False, debounce=200):
            control.say(connection, "reload")
    except Exception as error:  # such as the system's limit of watched files
        control.say(connection, "failed", str(error))
        os._exit(1)
    os._exit(0)


class _NoCalls:
    """A script on trial is not connected to anything."""

    def call(self, *_: object) -> object:
        raise RoostError("objects cannot be called while the script is being imported")

    submit = fetch = call


def run_trial(worker: Worker, data: Path, connection: socket.socket, supervisor: int) -> None:
    """Load the script; the exit code says whether it can be used. Called in a forked process."""
    die_with(supervisor)
    ignore_terminal()
    calls: Calls = _NoCalls()
    set_default_env(Env(Bindings(worker.config, data), calls))
    try:
        load_script(worker.config, worker.classes)
    except ScriptError as error:
        control.say(connection, "failed", str(error))
        os._exit(FAILED_TO_START)
    sys.stdout.flush()
    os._exit(0)
