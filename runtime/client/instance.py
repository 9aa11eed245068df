"""Starts an instance for the program that embeds it, or finds a running one.

The instance is a fresh child process, never a fork of the user's: that one may have threads and
anything else open. Classes of the program travel to the hosts as a pickle; those of `__main__`, of
notebooks, and of modules that a fresh process could not import travel by value.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
from cloudpickle import list_registry_pickle_by_value

from runtime import control
from runtime.boot import Boot, Worker
from runtime.directories import check_private, run_directory
from runtime.wire.codec import dumps_values
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runtime.config import Config
    from workers import DurableObject, WorkerEntrypoint

_registering = threading.RLock()
"""Held while modules are registered with cloudpickle, which has one register for all threads."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from runtime.supervisor.embedded import main; main(int(sys.argv[1]))"
)


@dataclass(slots=True)
class Instance:
    """An instance that this process is connected to."""

    connection: socket.socket
    data: Path
    process: subprocess.Popen[bytes] | None
    """The supervisor, when this program started it."""

    def hang_up(self) -> None:
        """End the connection, also for forks of this program that have a copy of it."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def wait(self, seconds: float) -> None:
        """Wait until the instance has ended, if this program started it; then end it."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    config: Config,
    data: Path,
    hosts: int,
    objects: Mapping[str, type[DurableObject]] | None,
    entrypoint: type[WorkerEntrypoint] | None,
    log_level: str,
) -> Instance:
    """Start an instance; it is ready when it says `welcome` on the connection."""
    path = [str(Path(entry or ".").resolve()) for entry in sys.path]
    classes = None
    if config.main is None:
        by_name = {cls.__name__: cls for cls in (objects or {}).values()}
        classes = _pickle(by_name, entrypoint)
    ours, theirs = control.pair()
    boot = Boot(Worker(config, classes, tuple(path)), data, hosts, log_level)
    process = subprocess.Popen(  # noqa: S603  (this interpreter, and our own words)
        [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), json.dumps(path)],
        stdin=subprocess.PIPE,
        pass_fds=[theirs.fileno()],
        start_new_session=True,  # Ctrl-C is this program's; it tells the instance what to do
    )
    theirs.close()
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(pickle.dumps(boot))
    return Instance(ours, data, process)


def find(data: Path) -> Instance:
    """Connect to the instance that runs on a data directory.

    Raises RuntimeClosed if none does, PermissionError if others can write to the directory: who
    can, could name a run directory of theirs.
    """
    try:
        run = run_directory(data)
        check_private(data)
        check_private(run)
        connection = control.connect(str(run / "control"))
    except PermissionError:
        raise
    except (OSError, ValueError) as cause:
        raise RuntimeClosed(
            f"no Roost runs on {data}: start one with `roost serve --data-dir {data}`"
        ) from cause
    return Instance(connection, data, None)


def config_of(data: Path) -> Config:
    """Return the configuration of the instance that runs on a data directory."""
    config: Config = pickle.loads((run_directory(data) / "worker").read_bytes())
    return config


def _pickle(
    objects: dict[str, type[DurableObject]], entrypoint: type[WorkerEntrypoint] | None
) -> bytes:
    classes = (*objects.values(), entrypoint)
    with by_value({cls.__module__ for cls in classes if cls is not None}):
        try:
            pickled = dumps_values((objects, entrypoint))
        except Exception as cause:
            raise TypeError(
                f"the classes given to Runtime() cannot be sent to the hosts: {cause}"
            ) from cause
    return pickled


@contextlib.contextmanager
def by_value(names: Iterable[str]) -> Iterator[None]:
    """Let what is in these modules travel by value, as far as a host could not import them."""
    strange = [name for name in names if name != "__main__" and not importable(name)]
    if not strange:
        yield
        return
    with _registering:
        registered = list_registry_pickle_by_value()
        modules = [
            sys.modules[name] for name in strange if name in sys.modules and name not in registered
        ]
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)


@cache
def importable(name: str) -> bool:
    """Whether a fresh process with this one's path could import a module."""
    path = None
    parts = name.split(".")
    for index in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: index + 1]), path)
        if spec is None:
            return parts[0] in sys.builtin_module_names
        path = spec.submodule_search_locations
    return True
