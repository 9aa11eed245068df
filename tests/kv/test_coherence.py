"""A cached value is never older than the last commit to its key, however the steps interleave."""

import itertools
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.kv import coherence
from runtime.kv.shared import open_shared

PREFIX, OTHER = b"namespac", b"neighbou"
KEYS = [PREFIX + bytes([65 + number]) for number in range(5)]
keys = st.sampled_from(KEYS)
ROOM = 4 * 4096


@pytest.fixture
def shared():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        shared = open_shared(Path(directory), 1 << 20)
        yield shared
        shared.environment.close()


def find(shared, key):
    with shared.environment.begin() as txn:
        return [txn.get(key, db=generation) for generation in shared.tables.generations]


def test_a_reader_slower_than_a_writer_puts_back_nothing(shared):
    key, tables = KEYS[0], shared.tables
    for _ in range(3):
        with shared.write() as txn:
            noted = coherence.note(txn, tables, key)
        with shared.write() as txn:
            coherence.hold(txn, tables, PREFIX, [key])
            assert not coherence.fill(txn, tables, key, noted, b"old")
        with shared.write() as txn:
            coherence.settle(txn, tables, PREFIX, [(key, None)])
            assert not coherence.fill(txn, tables, key, noted, b"old")
        assert find(shared, key) == [None, None]


def test_a_reader_slower_than_a_writer_and_a_generation_puts_back_nothing(shared):
    key, tables = KEYS[0], shared.tables
    for _ in range(3):  # before the first commit, and then after journals were dropped
        with shared.write() as txn:
            noted = coherence.note(txn, tables, key)
        with shared.write() as txn:
            coherence.hold(txn, tables, PREFIX, [key])
        with shared.write() as txn:
            coherence.settle(txn, tables, PREFIX, [(key, None)])
        gone = shared.rotations() + 2
        for number in range(99):
            if shared.rotations() == gone:
                break
            with shared.write() as txn:
                coherence.settle(txn, tables, OTHER, [(OTHER + b"%d" % number, b"x" * 30_000)])
        with shared.write() as txn:
            assert not coherence.fill(txn, tables, key, noted, b"old")


def test_of_two_readers_that_fill_one_key_only_the_first_does(shared):
    key, tables = KEYS[0], shared.tables
    with shared.write() as txn:
        noted = coherence.note(txn, tables, key)
        assert coherence.fill(txn, tables, key, noted, b"value")
    for number in range(99):  # until it is in the old generation
        if find(shared, key)[1 - shared.tables.young(shared.environment.begin())]:
            break
        with shared.write() as txn:
            filler = [(PREFIX + b"%d" % number, b"x" * 30_000)]
            coherence.settle(txn, tables, PREFIX, filler)
    with shared.write() as txn:
        assert not coherence.fill(txn, tables, key, noted, b"value")
    assert sorted(find(shared, key), key=str) == [None, b"value"]


def test_what_is_read_stays_while_generations_go_by_and_what_is_not_read_goes(shared):
    tables = shared.tables
    hot, cold, filler = PREFIX + b"hot", PREFIX + b"cold", b"x" * 30_000
    with shared.write() as txn:
        coherence.settle(txn, tables, PREFIX, [(hot, b"1"), (cold, b"2")])
    for number in range(60):
        with shared.write() as txn:
            coherence.settle(txn, tables, PREFIX, [(PREFIX + b"%d" % number, filler)])
            coherence.promote(txn, tables, hot)
    assert shared.rotations() >= 3
    assert sorted(find(shared, hot), key=str) == [None, b"1"]
    assert find(shared, cold) == [None, None]
    used = shared.environment.info()["last_pgno"] * 4096
    assert used <= 1 << 20


def test_no_transaction_takes_more_than_the_memory_there_is(shared):
    big = [(PREFIX + b"%d" % number, b"x" * 50_000) for number in range(100)]
    for _ in range(10):
        with shared.write() as txn:
            coherence.hold(txn, shared.tables, PREFIX, [name for name, _ in big])
        with shared.write() as txn:
            coherence.settle(txn, shared.tables, PREFIX, big)
    assert any(find(shared, big[0][0]))


class Steps(RuleBasedStateMachine):
    """Readers stop between any two of their steps, a writer too, and writers die."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        Path(self.directory.name).chmod(0o700)
        self.shared = open_shared(Path(self.directory.name), 1 << 20)
        tables = self.shared.tables
        self.tables = coherence.Tables(tables.meta, tables.generations, tables.journals, ROOM)
        self.disk = {}
        self.versions = itertools.count()
        self.writing = None  # (values by key, whether committed)
        self.readers = []  # [key, what was noted, what was read from disk or None]
        with self.shared.write() as txn:
            coherence.hold(txn, self.tables, OTHER, [OTHER + b"held"])
            coherence.hold(txn, self.tables, PREFIX, KEYS)
            coherence.settle(txn, self.tables, PREFIX, ())

    def record(self, key):
        return self.disk.get(key, b"absent")

    # --- readers ---------------------------------------------------------------------------------

    @rule(key=keys)
    def look(self, key):
        with self.shared.environment.begin() as txn:
            found = [txn.get(key, db=generation) for generation in self.tables.generations]
            if not any(found):
                self.readers.append([key, coherence.note(txn, self.tables, key), None])
                return
        with self.shared.write() as txn:
            coherence.promote(txn, self.tables, key)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def read_disk(self, data):
        reader = data.draw(st.sampled_from(self.readers))
        reader[2] = self.record(reader[0])

    @precondition(lambda self: any(reader[2] for reader in self.readers))
    @rule(data=st.data())
    def fill(self, data):
        reader = data.draw(st.sampled_from([reader for reader in self.readers if reader[2]]))
        self.readers.remove(reader)
        key, noted, record = reader
        if noted is not None:
            with self.shared.write() as txn:
                coherence.fill(txn, self.tables, key, noted, record)

    # --- the writer that has the lock ------------------------------------------------------------

    @precondition(lambda self: self.writing is None)
    @rule(written=st.sets(keys, min_size=1, max_size=3), length=st.sampled_from([9, 900, 3000]))
    def hold(self, written, length):
        values = {key: b"%d " % next(self.versions) + b"x" * length for key in written}
        with self.shared.write() as txn:
            coherence.hold(txn, self.tables, PREFIX, list(values))
        self.writing = values, False

    @precondition(lambda self: self.writing and not self.writing[1])
    @rule()
    def commit(self):
        values, _ = self.writing
        self.disk.update(values)
        self.writing = values, True

    @precondition(lambda self: self.writing and self.writing[1])
    @rule()
    def settle(self):
        with self.shared.write() as txn:
            coherence.settle(txn, self.tables, PREFIX, self.writing[0].items())
        self.writing = None

    @precondition(lambda self: self.writing)
    @rule()
    def die(self):
        self.writing = None

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def nothing_stale_is_found(self):
        with self.shared.environment.begin() as txn:
            for key in KEYS:
                found = [txn.get(key, db=generation) for generation in self.tables.generations]
                held = coherence.note(txn, self.tables, key) is None
                assert set(found) <= {None, self.record(key)}
                assert held + sum(record is not None for record in found) <= 1
            assert coherence.note(txn, self.tables, OTHER + b"held") is None
            sizes = [txn.stat(generation) for generation in self.tables.generations]
            for size in sizes:
                pages = size["branch_pages"] + size["leaf_pages"] + size["overflow_pages"]
                assert pages * 4096 <= ROOM + 4096

    @invariant()
    def only_keys_being_written_stay_held_after_a_settle(self):
        if self.writing is None:
            return
        with self.shared.environment.begin() as txn:
            for key in self.writing[0]:
                assert coherence.note(txn, self.tables, key) is None

    def teardown(self):
        self.shared.environment.close()
        self.directory.cleanup()


Steps.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=list(hypothesis.HealthCheck),
)
TestSteps = Steps.TestCase
