"""Two small children beside the hosts: one watches the script in `roost dev`, one tries it.

The watcher says `reload` when a Python file of the script's folder has changed. The trial loads the
changed script as a host would, so that a script with an error never replaces one that works.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runtime import control
from runtime.bindings import Bindings, Env
from runtime.host.process import FAILED_TO_START, die_with, ignore_terminal
from runtime.host.script import load_script
from workers.current import set_default_env
from workers.errors import RoostError, ScriptError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from runtime.boot import Worker
    from runtime.stubs import Calls


def run_watcher(folder: Path, since: float, connection: socket.socket, supervisor: int) -> None:
    """Say `reload` whenever Python files below a folder change. Called in a forked process.

    What changed after `since`, seconds since 1970, and before the watching began, is found by the
    files' times: hosts may have loaded what was there before.
    """
    die_with(supervisor)
    ignore_terminal()
    from watchfiles import PythonFilter, watch  # noqa: PLC0415  (only `roost dev` pays for it)

    looked = False
    try:
        # It tells of the first second's end, so that it is known to be watching.
        for changes in watch(
            folder,
            watch_filter=PythonFilter(),
            raise_interrupt=False,
            debounce=200,
            rust_timeout=1000,
            yield_on_timeout=True,
        ):
            if changes or not (looked or _unchanged(folder, since, PythonFilter.ignore_dirs)):
                control.say(connection, "reload")
            looked = True
    except Exception as error:  # such as the system's limit of watched files
        control.say(connection, "failed", str(error))
        os._exit(1)
    os._exit(0)


def _unchanged(folder: Path, since: float, ignored: Sequence[str]) -> bool:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ignored]
        for name in files:
            with suppress(FileNotFoundError):  # gone meanwhile, or a link to nothing
                if name.endswith(".py") and Path(place, name).stat().st_mtime > since:
                    return False
    return True


class _NoCalls:
    """A script on trial is not connected to anything."""

    def call(self, *_: object) -> object:
        raise RoostError("objects cannot be called while the script is being imported")

    submit = fetch = call

    def way_to(self, _target: object) -> Self:
        return self


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
