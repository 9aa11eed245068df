"""An object that goes back to bookmarks, and forth again, is what it was then, whatever else happens."""

import shutil
from copy import deepcopy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from runtime.storage.copies import copy_slot
from runtime.storage.layout import slot_path
from runtime.storage.object_file import ObjectFile
from tests.storage.test_sqlite_model import Model, State, plans, run

numbers = st.integers(0, 1 << 30)


class PastModel(Model):
    delete_all = None  # it ends the history

    def __init__(self):
        self.pages, ObjectFile.CHECKPOINT_PAGES = ObjectFile.CHECKPOINT_PAGES, 12
        self.marks, self.undos = [], []
        super().__init__()

    @rule(size=st.integers(1, 60_000), key=st.sampled_from("xyz"))
    def grow(self, size, key):
        self.storage.sql.exec("CREATE TABLE IF NOT EXISTS t(k PRIMARY KEY, v)")
        self.storage.sql.exec(
            "INSERT OR REPLACE INTO t VALUES (?, ?)", key, bytes([size % 251]) * size
        )
        self.now.table[key] = bytes([size % 251]) * size

    @rule(create=st.booleans(), name=st.sampled_from("ab"))
    def define(self, create, name):
        verb = "CREATE TABLE IF NOT EXISTS" if create else "DROP TABLE IF EXISTS"
        self.storage.sql.exec(f"{verb} extra_{name}" + ("(x, UNIQUE(x))" if create else ""))

    @rule()
    def mark(self):
        run(self.storage.getCurrentBookmark())  # gives the object its own file
        self.whole_round()
        self.marks.append((run(self.storage.getCurrentBookmark()), deepcopy(self.now)))
        texts = [text for text, _ in self.marks]
        assert texts == sorted(texts)

    @precondition(lambda self: self.marks)
    @rule(
        number=numbers,
        then=st.lists(plans, max_size=2),
        ends=st.sampled_from(["activate", "kill", "restart", "come_from_a_backup"]),
        undo=st.booleans(),
    )
    def go_back(self, number, then, ends, undo):
        known = self.undos if undo and self.undos else self.marks
        text, state = known[number % len(known)]
        self.mark()
        undo = run(self.storage.onNextSessionRestoreBookmark(text))
        for plan in then:  # undone as well, and brought back by the undo
            self.perform(plan, self.now)
        self.whole_round()
        self.undos.append((undo, deepcopy(self.now)))
        self.now = State(deepcopy(state.entries), deepcopy(state.table), self.now.alarm)
        self.kept = deepcopy(self.now)
        getattr(self, ends)()
        if number % 2:
            self.look()

    @rule()
    def come_from_a_backup(self):
        self.whole_round()
        before, old = self.directory / str(self.lives), (self.file, self.files)
        self.lives += 1
        after = self.directory / str(self.lives)
        for _ in copy_slot(before, 0, *old, after):
            pass
        slot_path(after, 0).rename(after / "0.sqlite")
        for part in old:
            part.close()
        shutil.rmtree(before)
        self.open()

    def teardown(self):
        own = self.files.find(0, self.storage._id.raw)
        if own is not None:
            assert own._connection.execute("PRAGMA integrity_check").get == "ok"
        super().teardown()
        ObjectFile.CHECKPOINT_PAGES = self.pages


TestPastModel = PastModel.TestCase
TestPastModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
