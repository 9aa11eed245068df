"""Slots move between two hosts with a journal each, over kills and power cuts: no row is lost or comes back."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import CommitGroup, Journal, ObjectStorage, SlotFile, ahead, journal
from runtime.storage.layout import clear_journals, journal_path, slot_path

NAMESPACE = NamespaceKey("w-Room")
LIMITS = Limits(value_bytes=1 << 20)
SLOTS = 2

names = st.sampled_from("abcd")
slots = st.integers(0, SLOTS - 1)
hosts = st.integers(0, 1)


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


def slot_of(name):
    return ord(name) % SLOTS


class Disk:
    """What a power cut leaves of a data directory: of each file what was synced, by whoever did."""

    def __init__(self, data):
        self.data = data
        self.files = {}
        self.history = []
        """All that it has been since it was last asked."""

    def synced(self, name):
        """Sync a file whose name was durable before, or is so with its first sync."""

        def sync(descriptor):
            self.files[name()] = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            self.history.append(dict(self.files))

        return sync

    def look(self, path):
        """Take note of what SQLite has synced of a file, when it was opened or closed."""
        # By somebody else: were this process to close the file, SQLite would lose its locks.
        content = subprocess.run(["cat", path], check=True, capture_output=True).stdout
        if self.files.get(path.name) != content:
            self.files[path.name] = content
            self.files.pop(f"{path.name}-wal", None)  # a checkpoint made that void, and is synced
            self.history.append(dict(self.files))

    def restore(self, files, target):
        """Make a data directory of what there was."""
        folder = target / "slots"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)


class Host:
    """What a host has: a journal, and the rounds that it commits."""

    def __init__(self, disk, number):
        self.number = number
        self.journal = Journal(
            journal_path(disk.data, number), fdatasync=disk.synced(lambda: self.journal.path.name)
        )
        self.group = CommitGroup(self.journal)
        self.cleared = False
        self.under_way = None
        self.taken = {}
        """What its round under way commits, by name."""


class Model(RuleBasedStateMachine):
    """Objects in slots that move, against dicts."""

    def __init__(self):
        super().__init__()
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.lengths = journal.JOURNAL_BYTES, ahead.MOST_AHEAD
        journal.JOURNAL_BYTES, ahead.MOST_AHEAD = 700, 3
        self.lives = 0
        self.owners = [0, 1]
        self.acknowledged = {name: {} for name in "abcd"}
        (self.directory / "0" / "slots").mkdir(parents=True)
        self.start()

    @property
    def data(self):
        return self.directory / str(self.lives)

    def start(self):
        self.disk = Disk(self.data)
        for path in (self.data / "slots").iterdir():
            if path.suffix != ".lock":
                self.disk.files[path.name] = path.read_bytes()
        self.hosts = [Host(self.disk, number) for number in range(2)]
        self.files = {}
        self.objects = {}
        self.now = {name: dict(its) for name, its in self.acknowledged.items()}

    def file(self, slot):
        """The file of a slot, opened by its owner when it is first needed."""
        if slot not in self.files:
            path = slot_path(self.data, slot)
            self.files[slot] = SlotFile(
                path,
                journal=self.hosts[self.owners[slot]].journal,
                fdatasync=self.disk.synced(lambda: f"{path.name}-wal"),
            )
            self.disk.look(path)
        return self.files[slot]

    def object(self, name):
        if name not in self.objects:
            group = self.hosts[self.owners[slot_of(name)]].group
            file = self.file(slot_of(name))
            storage = ObjectStorage(
                file,
                NAMESPACE.from_name(name),
                "Room",
                lambda: group.mark(storage),
                lambda: None,
                LIMITS,
            )
            self.objects[name] = storage
        return self.objects[name]

    @rule(name=names, key=st.sampled_from("xyz"), value=st.integers(0, 99))
    def put(self, name, key, value):
        run(self.object(name).put(key, value))
        self.now[name][key] = value

    @rule(name=names, key=st.sampled_from("xyz"))
    def delete(self, name, key):
        assert run(self.object(name).delete(key)) == (key in self.now[name])
        self.now[name].pop(key, None)

    @rule(some=st.lists(names, unique=True), key=st.sampled_from("xyz"), value=st.integers(0, 99))
    def commit(self, some, key, value):
        """Have a round of each host, with puts of some objects."""
        for name in some:
            self.put(name, key, value)
        for number in range(2):
            self.whole_round(number)

    @rule(name=names)
    def delete_all(self, name):
        run(self.object(name).deleteAll())
        self.now[name].clear()

    @rule(name=names)
    def look(self, name):
        assert run(self.object(name).list()) == dict(sorted(self.now[name].items()))

    # --- rounds ----------------------------------------------------------------------------------

    @rule(number=hosts)
    def start_round(self, number):
        host = self.hosts[number]
        if host.under_way is None:
            host.under_way = host.group.start_round()
            host.taken = {
                name: dict(its)
                for name, its in self.now.items()
                if self.owners[slot_of(name)] == number
            }

    @rule(number=hosts)
    def end_round(self, number):
        host = self.hosts[number]
        if host.under_way is not None:
            host.under_way.sync()
            assert host.group.end_round(host.under_way) == {}
            host.under_way = None
            self.acknowledged.update(host.taken)

    def whole_round(self, number):
        self.end_round(number)
        self.start_round(number)
        self.end_round(number)

    # --- moves -----------------------------------------------------------------------------------

    @rule(slot=slots, fails=st.booleans(), cut=st.none() | st.integers(0, 9))
    def move(self, slot, fails, cut):
        """Give a slot to the other host; the disk may fail, or the power be cut meanwhile."""
        self.whole_round(self.owners[slot])
        for name in [name for name in self.objects if slot_of(name) == slot]:
            del self.objects[name]
        self.disk.history = [dict(self.disk.files)]
        file = self.files.pop(slot, None)
        if file is not None:
            if fails:
                file._connection.set_commit_hook(lambda: True)  # makes every COMMIT fail
            file.close()
            self.disk.look(file.path)
        self.owners[slot] = 1 - self.owners[slot]
        if cut is None:
            return
        self.file(slot)  # by its new owner
        history = self.disk.history
        self.end(history[cut % len(history)])

    @rule(number=hosts)
    def tick(self, number):
        """Look whether the journals of the host's predecessors may go, as `host.slots` does."""
        host = self.hosts[number]
        own = [slot for slot in range(SLOTS) if self.owners[slot] == number]
        own = [slot for slot in own if slot in self.files or slot_path(self.data, slot).exists()]
        for slot in own:
            self.file(slot)
        if not host.cleared:
            host.cleared = True
            before = {*(self.data / "slots").glob("*.journal")}
            clear_journals(self.data, number, {*own}, but=host.journal.path)
            for path in before - {*(self.data / "slots").glob("*.journal")}:
                self.disk.files.pop(path.name, None)

    # --- ends ------------------------------------------------------------------------------------

    @rule()
    def kill(self):
        """All rounds that have begun are there: the kernel has them."""
        for host in self.hosts:
            if host.under_way is not None:
                self.acknowledged.update(host.taken)
        self.end(None)

    @rule()
    def cut(self):
        """All rounds that have ended are there."""
        self.end(dict(self.disk.files))

    def end(self, files):
        target = self.directory / str(self.lives + 1)
        if files is None:
            shutil.copytree(self.data, target)
        else:
            self.disk.restore(files, target)
        self.disk.files = {}
        self.close()
        self.lives += 1
        self.start()

    def close(self):
        for file in self.files.values():
            file.close()
        for host in self.hosts:
            host.journal.close()

    @precondition(lambda self: all(host.under_way is None for host in self.hosts))
    @rule()
    def start_anew(self):
        """What the supervisor does before there are hosts, who own what they do by default."""
        for number in range(2):
            self.whole_round(number)
        self.close()
        clear_journals(self.data)
        assert not [*(self.data / "slots").glob("*.journal")]
        self.owners = [0, 1]
        self.start()
        for name in "abcd":
            self.look(name)

    def teardown(self):
        self.start_anew()
        for file in self.files.values():
            assert file._connection.execute("PRAGMA integrity_check").get == "ok"
        self.close()
        journal.JOURNAL_BYTES, ahead.MOST_AHEAD = self.lengths
        shutil.rmtree(self.directory)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


@pytest.fixture
def model():
    model = Model()
    yield model
    model.teardown()


def test_a_dead_host_s_journal_stays_while_a_slot_that_moved_on_unopened_needs_it(model):
    model.owners = [0, 0]
    for value in (1, 2):
        model.commit("ab", "x", value)
    model.kill()
    model.move(slot_of("a"), fails=False, cut=None)
    model.tick(0)
    model.look("a")


def test_a_host_that_goes_on_leaves_its_journal_to_a_slot_that_could_not_take_all_along(model):
    model.owners = [0, 0]
    for value in (1, 2):
        model.commit("ab", "x", value)
    model.move(slot_of("a"), fails=True, cut=None)
    for value in range(20):  # so many that the journal starts anew
        model.commit("b", "xyz" * 20, value)
    model.look("a")
