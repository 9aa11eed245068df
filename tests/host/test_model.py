"""One object under any order of calls, commits, failures, resets and evictions, against a model.

What a caller was told stays true: what it saw acknowledged is in storage for good, what it saw at all
is never taken back, answers come in order, and every call ends.
"""

import asyncio
import tempfile
import threading
from functools import partial
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.host import slots
from runtime.storage import Journal, SlotFile
from tests.host.conftest import Disk, House
from tests.stepping import settle, until
from workers import DurableObject
from workers.errors import ObjectReset, StorageError


class Diary(DurableObject):
    """A list in storage, and how often this instance was called."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.calls = 0
        self.gate = asyncio.Event()

    async def append(self, number):
        self.calls += 1
        entries = await self.ctx.storage.get("entries") or []
        await self.ctx.storage.put("entries", [*entries, number])
        return [*entries, number]

    async def append_late(self, number):
        await self.gate.wait()
        return await self.append(number)

    async def append_and_fail(self, number):
        raise LookupError(await self.append(number))

    async def append_in_section(self, number):
        return await self.ctx.blockConcurrencyWhile(lambda: self.append(number))

    async def read(self):
        self.gate.set()
        return await self.ctx.storage.get("entries") or []

    async def read_in_section(self):
        return await self.ctx.blockConcurrencyWhile(self.read)

    def stop(self):
        self.ctx.abort("stopped")


METHODS = [name for name in vars(Diary) if not name.startswith("_")] + ["append", "read"] * 3
turns = st.integers(0, 20)


class SlowDisk(Disk):
    """No sync ends before it is let."""

    def __init__(self, loop):
        super().__init__(loop)
        self.permits = threading.Semaphore(0)
        self.slow = True
        self.waiting = 0

    def sync(self, descriptor):
        if self.slow and threading.current_thread() is not threading.main_thread():
            self.waiting += 1
            self.permits.acquire()
            self.waiting -= 1
        super().sync(descriptor)

    def release_one(self):
        self.permits.release()

    def release(self):
        self.slow = False
        self.permits.release()


class Life(RuleBasedStateMachine):
    """See the module's text."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.run(self.open())
        self.now = 0.0
        self.number = 0
        self.calls = []  # (number or None for a read, the reply)
        self.seen = []  # every list that a caller was shown, in the order of the calls
        self.told = 0

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def open(self):
        self.disk = SlowDisk(self.loop)
        self.patch = mock.patch.multiple(
            slots,
            SlotFile=partial(SlotFile, fdatasync=self.disk.sync),
            Journal=partial(Journal, fdatasync=self.disk.sync),
        )
        self.patch.start()
        self.house = House(Path(self.directory.name), self.loop, disk=self.disk, DIARIES=Diary)
        self.stub = self.house.env.DIARIES.getByName("a")

    @rule(methods=st.lists(st.sampled_from(METHODS), min_size=1, max_size=5), turns=turns)
    def calls_of_one_tick(self, methods, turns):
        self.run(self.start(methods))
        self.run(settle(turns))

    async def start(self, methods):
        for method in methods:
            number = None
            if method.startswith("append"):
                self.number = number = self.number + 1
            args = () if number is None else (number,)
            self.calls.append((number, getattr(self.stub, method)(*args)))

    @rule(turns=turns)
    def turn(self, turns):
        self.run(settle(turns))

    @rule(works=st.sampled_from([True, True, True, False]))
    def one_sync_ends(self, works):
        commits = self.house.host.commits
        flying = commits._flying
        if flying:
            self.disk.error = None if works else OSError(5, "Input/output error")
            syncs = self.disk.syncs
            self.disk.release_one()
            # It may be followed by another of its round, or by the making of the journal's name.
            self.run(
                until(
                    lambda: (
                        self.disk.syncs > syncs
                        and (self.disk.waiting or commits._flying is not flying)
                    )
                )
            )
            self.run(settle())

    @rule(fail=st.sampled_from([True, False, False, False]))
    def commits_fail(self, fail):
        if fail:
            self.house.break_commits(self.stub)
        else:
            self.house.mend_commits(self.stub)

    @rule()
    def time_passes(self):
        self.now += 11  # an object may be idle for 10 s
        self.house.host.catalog.tick(self.now)

    @rule(which=st.integers(0, 9))
    def cancel(self, which):
        pending = [reply for _, reply in self.calls if not reply.done()]
        if pending:
            pending[which % len(pending)].cancel()

    @invariant()
    def note_what_callers_are_told(self):
        while self.told < len(self.calls) and self.calls[self.told][1].done():
            number, reply = self.calls[self.told]
            self.told += 1
            if reply.cancelled():
                continue
            error = reply.exception()
            # Nothing is read while the disk fails, if it might not be durable.
            if isinstance(error, ObjectReset | StorageError):
                continue
            shown = error.args[0] if error is not None else reply.result()
            self.seen.append(shown)
            if number is not None:
                assert shown[-1] == number

    def teardown(self):
        self.disk.error = None
        self.house.mend_commits(self.stub)
        self.disk.release()
        for _ in range(2):  # the first may be lost with the instance that it meets
            self.run(self.start(["read"]))
            self.run(until(lambda: all(reply.done() for _, reply in self.calls)))
        self.run(until(lambda: self.house.host.commits.idle))
        self.note_what_callers_are_told()
        assert self.told == len(self.calls)
        kept = self.calls[-1][1].result()
        assert len(kept) == len(set(kept))
        for shown in self.seen:
            assert shown == kept[: len(shown)]  # what was shown is never taken back
        assert self.house.host.waiting == 0
        assert self.house.host.idle
        assert self.house.caller.links[0].unanswered == {}
        self.run(self.house.close())
        self.patch.stop()
        self.run(settle())
        assert asyncio.all_tasks(self.loop) == set()
        self.loop.close()
        self.directory.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
