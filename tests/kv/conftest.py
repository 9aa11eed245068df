"""Namespaces in a temporary directory, and processes that use them and are killed."""

import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import pytest

import runtime.kv
from runtime.kv import KVNamespace, SyncKVNamespace, open_store

CODE = str(Path(runtime.kv.__file__).parent)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now = 1_000_000.5

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "settings"


@pytest.fixture
def fast_directory(tmp_path):
    """A directory in memory: what only a killed process must survive needs no disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path / "settings"
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory) / "settings"


@pytest.fixture
def shelf():
    """The directory in shared memory of an instance."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture(params=["disk", "cache"])
def cache(request):
    """What promises hold with the shared cache and without it: what finds it, or None."""
    if request.param == "disk":
        return None
    shelf = request.getfixturevalue("shelf")
    return lambda: shelf


@pytest.fixture
def open_(directory, cache):
    """Open the store of a namespace; all are closed at the end."""
    stores = []

    def open_store_(path=directory, cache=cache, cache_bytes=1 << 24, **options):
        store = open_store(path, cache=cache, cache_bytes=cache_bytes, **options)
        stores.append(store)
        return store

    yield open_store_
    for store in stores:
        store.close()


@pytest.fixture
def store(open_, clock):
    return open_(clock=clock)


@pytest.fixture
def kv(store):
    return KVNamespace(store)


@pytest.fixture
def sync_kv(store):
    return SyncKVNamespace(store)


class Child:
    """A forked process that runs a function, given a `say`; what it says is read line by line."""

    def __init__(self, function, *arguments):
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(reader)
                function(*arguments, lambda line: os.write(writer, f"{line}\n".encode()))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        self.said = os.fdopen(reader, "r")
        self.status = None

    def kill(self):
        """Kill it at once; returns what it had still said."""
        os.kill(self.pid, signal.SIGKILL)
        return self.end()

    def end(self):
        """Wait for its end; returns what it had still said."""
        rest = self.said.read().splitlines()
        self.said.close()
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return rest


@pytest.fixture
def start():
    """Start processes; what still runs at the end is killed."""
    children = []

    def start_(function, *arguments):
        child = Child(function, *arguments)
        children.append(child)
        return child

    yield start_
    for child in children:
        if child.status is None:
            child.kill()


def die_at_line(number, *, this_thread=False):
    """Have this process kill itself before the line of runtime/kv that is executed as this one.

    Counts the lines of threads that start from now on.
    """
    left = number

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    if this_thread:
        sys.settrace(trace)
