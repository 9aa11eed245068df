"""Any calls of an object that uses SQL behave as on plain dicts, whatever ends it.

Entries, a table and the alarm; transactions that nest and fail; rounds under way; evictions, resets
and kills; a bound of one open file, so that files are closed and opened all the time.
"""

import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import (
    CommitGroup,
    Journal,
    ObjectFiles,
    ObjectStorage,
    SlotFile,
    journal,
    large,
)

MEMORY = Path("/dev/shm")
KEYS = ["", "10", "9", "a", "a\0", "é"]
NAMESPACE = NamespaceKey("w-Room")
LIMITS = Limits(value_bytes=1 << 20)

keys = st.sampled_from(KEYS)
numbers = st.integers(0, 99)
operations = st.one_of(
    st.tuples(st.just("put"), keys, numbers | st.just("apart" * 9)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("insert"), keys, numbers),
    st.tuples(st.just("remove"), keys),
    st.tuples(st.just("set_alarm"), numbers),
    st.tuples(st.just("delete_alarm")),
)
plans = st.recursive(
    operations,
    lambda inner: st.tuples(st.just("transaction"), st.lists(inner, max_size=4), st.booleans()),
    max_leaves=8,
)


class FailedError(Exception):
    pass


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


@dataclass
class State:
    """What an object must see."""

    entries: dict = field(default_factory=dict)
    table: dict = field(default_factory=dict)
    alarm: int | None = None


class Model(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.lives = self.opened = 0
        self.journal_bytes, journal.JOURNAL_BYTES = journal.JOURNAL_BYTES, 300
        self.large_bytes, large.LARGE_BYTES = large.LARGE_BYTES, 40
        self.now, self.kept = State(), State()
        self.open()
        neighbour = self.storage_of("neighbour")
        run(neighbour.put("k", "neighbour's"))
        neighbour.sql.exec("CREATE TABLE t(k PRIMARY KEY, v); INSERT INTO t VALUES ('k', 7)")
        self.whole_round()

    def open(self):
        folder = self.directory / str(self.lives)
        folder.mkdir(exist_ok=True)
        self.opened += 1
        self.journal = Journal(folder / f"{self.opened}.journal")
        self.file = SlotFile(folder / "0.sqlite", journal=self.journal)
        self.files = ObjectFiles(folder / "objects", "strict", LIMITS, limit=1)
        self.group, self.round = CommitGroup(self.journal), None
        self.activate()

    def activate(self):
        self.storage = self.storage_of("object")

    def storage_of(self, name):
        storage = ObjectStorage(
            self.file,
            NAMESPACE.from_name(name),
            "Room",
            lambda: self.group.mark(storage),
            lambda: None,
            LIMITS,
            files=self.files,
            alone=lambda body: body(),
            clock=lambda: 0.0,
        )
        return storage

    # --- calls -----------------------------------------------------------------------------------

    def perform(self, plan, state):
        storage = self.storage
        match plan:
            case "put", key, value:
                run(storage.put(key, value))
                state.entries[key] = value
            case "delete", key:
                assert run(storage.delete(key)) == (key in state.entries)
                state.entries.pop(key, None)
            case "insert", key, value:
                storage.sql.exec("CREATE TABLE IF NOT EXISTS t(k PRIMARY KEY, v)")
                storage.sql.exec("INSERT OR REPLACE INTO t VALUES (?, ?)", key, value)
                state.table[key] = value
            case "remove", key:
                storage.sql.exec("CREATE TABLE IF NOT EXISTS t(k PRIMARY KEY, v)")
                written = storage.sql.exec("DELETE FROM t WHERE k = ?", key).rowsWritten
                assert written == (key in state.table)
                state.table.pop(key, None)
            case "set_alarm", number:
                run(storage.setAlarm(number + 1))
                state.alarm = number + 1
            case ("delete_alarm",):
                run(storage.deleteAlarm())
                state.alarm = None
            case "transaction", plans, fails:
                before = deepcopy(state)

                def body():
                    for inner in plans:
                        self.perform(inner, state)
                    if fails:
                        raise FailedError

                try:
                    storage.transactionSync(body)
                except FailedError:
                    state.__dict__.update(before.__dict__)

    @rule(plan=plans)
    def do(self, plan):
        self.perform(plan, self.now)

    @rule(plans=st.lists(plans, max_size=4), fails=st.booleans())
    def transaction(self, plans, fails):
        self.whole_round()
        after = deepcopy(self.now)

        async def body(txn):
            for plan in plans:
                self.perform(plan, after)
            assert await txn.list() == after.entries
            if fails:
                raise FailedError

        try:
            run(self.storage.transaction(body))
        except FailedError:
            assert fails
        else:
            self.now = after

    @rule()
    def look(self):
        storage, state = self.storage, self.now
        assert list(run(storage.list()).items()) == sorted(state.entries.items())
        assert list(storage.kv.list(reverse=True)) == sorted(state.entries.items())[::-1]
        assert run(storage.getAlarm()) == state.alarm
        storage.sql.exec("CREATE TABLE IF NOT EXISTS t(k PRIMARY KEY, v)")
        assert {row.k: row.v for row in storage.sql.exec("SELECT * FROM t")} == state.table

    @rule(key=keys)
    def get(self, key):
        assert run(self.storage.get(key)) == self.now.entries.get(key)

    @rule()
    def delete_all(self):
        run(self.storage.deleteAll())
        self.now = State()

    # --- the engine ------------------------------------------------------------------------------

    @precondition(lambda self: self.round is None)
    @rule()
    def start_round(self):
        self.round = self.group.start_round()
        self.kept = deepcopy(self.now)

    @precondition(lambda self: self.round is not None)
    @rule()
    def end_round(self):
        self.round.sync()
        assert self.group.end_round(self.round) == {}
        self.round = None

    def whole_round(self):
        if self.round is not None:
            self.end_round()
        while self.group._marked:
            self.start_round()
            self.end_round()

    @rule()
    def evict(self):
        self.whole_round()
        self.activate()

    @rule()
    def reset(self):
        if self.round is not None:
            self.end_round()
        self.storage.failed()
        self.group._marked.clear()
        self.now = deepcopy(self.kept)
        self.activate()

    @rule()
    def kill(self):
        """The host dies: what its files have in the kernel's memory is there, and nothing else."""
        before, old = self.directory / str(self.lives), (self.file, self.files, self.journal)
        self.lives += 1
        if self.files._closer is not None:
            self.files._closer.shutdown()
        shutil.copytree(before, self.directory / str(self.lives))
        self.now = deepcopy(self.kept)
        self.open()
        for part in old:
            part.close()
        shutil.rmtree(before)

    @rule()
    def restart(self):
        self.whole_round()
        self.close()
        self.open()

    def close(self):
        self.file.close()
        self.files.close()
        self.journal.close()
        assert not self.journal.path.exists()

    def teardown(self):
        self.whole_round()
        neighbour = self.storage_of("neighbour")
        assert run(neighbour.list()) == {"k": "neighbour's"}
        assert list(neighbour.sql.exec("SELECT * FROM t").raw()) == [["k", 7]]
        assert self.file._connection.execute("PRAGMA integrity_check").get == "ok"
        row = self.file.alarm(NAMESPACE.from_name("object").raw)
        assert run(self.storage.getAlarm()) == self.now.alarm
        # After a kill the slot file's may be too early, or one too many; never too late, or missing.
        assert self.now.alarm is None or row.due <= self.now.alarm
        self.close()
        journal.JOURNAL_BYTES, large.LARGE_BYTES = self.journal_bytes, self.large_bytes
        shutil.rmtree(self.directory)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
