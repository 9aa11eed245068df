"""A host of its own in the test's loop: real objects, real slot files, no sockets, a disk by hand."""

import asyncio
import os
import threading
from functools import partial

import pytest

from runtime.bindings import Bindings, Env
from runtime.config import from_keywords
from runtime.host import slots
from runtime.host.host import Host
from runtime.host.script import Script
from runtime.ids import slot_of
from runtime.roster import Roster
from runtime.storage import Journal, SlotFile
from runtime.wire.caller import Caller
from tests.stepping import settle, soon
from workers import Request
from workers.current import current_event, set_default_env


class Disk:
    """The syncs of the slot files and the journal: counted, held back or failed as the test says."""

    def __init__(self, loop):
        self._loop = loop
        self._open = threading.Event()
        self._open.set()
        self._begun = asyncio.Event()
        self._counting = threading.Lock()
        self.begun = 0
        self.syncs = 0
        self.error = None

    def sync(self, _descriptor):
        """Stand in for fdatasync, on a sync thread; on the loop's, after a failure, nothing is held."""
        self._loop.call_soon_threadsafe(self._begin)
        if threading.current_thread() is not threading.main_thread():
            self._open.wait()
        with self._counting:
            self.syncs += 1
        if self.error is not None:
            raise self.error

    def _begin(self):
        self.begun += 1
        self._begun.set()

    def hold(self):
        """Let no sync end from now on."""
        self._begun.clear()
        self._open.clear()
        self.begun = 0

    async def held(self, syncs=1):
        """Wait until so many syncs have begun, and everything else has gone as far as it can."""
        while self.begun < syncs:
            self._begun.clear()
            await soon(self._begun.wait())
        await settle()

    def release(self):
        """Let the sync end, and all after it."""
        self._open.set()


class House:
    """One host, and a caller's view of its objects."""

    def __init__(self, tmp_path, loop, *, entrypoint=None, disk, kv=(), **classes_and_settings):
        classes = {k: v for k, v in classes_and_settings.items() if isinstance(v, type)}
        settings = {k: v for k, v in classes_and_settings.items() if k not in classes}
        config = from_keywords(objects=classes, kv=kv, name="w", **settings)
        self.disk = disk
        self.roster = Roster.create(tmp_path / "roster", 1, 4)
        self.bindings = Bindings(config, tmp_path)
        self.caller = Caller(loop, self.roster, tmp_path, None, b"h0", own_host=0)
        script = Script({cls.__name__: cls for cls in classes.values()}, entrypoint)
        self.host = Host(loop, 0, None, self.roster, self.caller, self.bindings, script, tmp_path)
        self.env = Env(self.bindings, self.caller)
        set_default_env(self.env)

    def activation(self, stub):
        """The live activation of an object, if there is one."""
        return self.host.catalog.get(stub.id.raw)

    async def fetch(self, url="http://x/", **init):
        """Send a request to the entrypoint."""
        return await self.caller.fetch(None, Request(url, **init))

    async def durable(self, stub):
        """Wait until everything that an object has written is durable."""
        waiting = self.activation(stub).all_durable()
        if waiting is not None:
            await soon(waiting)

    def file(self, stub):
        """The slot file of an object."""
        return self.host._slots.open(slot_of(stub.id.raw, 4))

    def break_commits(self, stub):
        """Make every COMMIT of the slot file of an object, and the journal, fail from now on."""

        def fail(*_):
            raise OSError(28, "No space left on device")

        self.file(stub)._connection.set_commit_hook(lambda: True)
        self.host._slots.journal._pwrite = fail

    def mend_commits(self, stub):
        """Let them succeed again."""
        self.file(stub)._connection.set_commit_hook(None)
        self.host._slots.journal._pwrite = os.pwrite

    async def close(self):
        self.disk.release()
        await self.host.close()
        self.caller.close()
        self.roster.close()


@pytest.fixture
async def disk(monkeypatch):
    disk = Disk(asyncio.get_running_loop())
    monkeypatch.setattr(slots, "SlotFile", partial(SlotFile, fdatasync=disk.sync))
    monkeypatch.setattr(slots, "Journal", partial(Journal, fdatasync=disk.sync))
    return disk


@pytest.fixture
async def house(tmp_path, disk):
    """Open a host that runs these classes, by binding name; settings are those of Runtime."""
    houses = []

    async def house_(**classes_and_settings):
        directory = tmp_path / str(len(houses))
        directory.mkdir()
        loop = asyncio.get_running_loop()
        opened = House(directory, loop, disk=disk, **classes_and_settings)
        houses.append(opened)
        return opened

    yield house_
    for opened in houses:
        await opened.close()
    set_default_env(None)
    assert current_event.get() is None
