"""Seeded steps of all that may befall objects and their place in the register, against a model.

Two hosts have three slots between them. Slots move, hosts are killed, the power fails, and so do syncs, writes
and commits. Each object must be then what was acknowledged, or what the round under way was to make of it.
"""

import os
import secrets
import shutil
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import NamedTuple

import apsw
import pytest

from runtime.config import Limits
from runtime.ids import NamespaceKey, ObjectId
from runtime.storage import (
    RECORDS,
    CommitGroup,
    Journal,
    ObjectStorage,
    SlotFile,
    ahead,
    journal,
)
from runtime.storage.copies import delete_object
from runtime.storage.layout import clear_journals, journal_path, slot_path
from workers.errors import StorageError

SEEDS = range(*map(int, os.environ.get("ROOST_TEST_SEEDS", "0 8").split()))
STEPS = 250
SLOTS = range(3)
LIMITS = Limits(value_bytes=1 << 20)
FAR = 4_000_000_000_000
"""A time to come, in milliseconds."""


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


OFTEN = {
    "put": 30,
    "delete": 10,
    "delete_all": 6,
    "set_alarm": 5,
    "note": 5,
    "put_much": 1,
    "start": 20,
    "end": 20,
    "evict": 10,
    "look": 8,
    "move": 5,
    "remove": 2,
    "copy": 2,
    "restart": 1,
    "kill": 3,
    "cut": 3,
    "fail": 2,
}
"""How often each step is made."""


class State(NamedTuple):
    """What an object has."""

    entries: tuple = ()
    alarm: int | None = None
    record: tuple | None = None
    """Its class, its name, and when it was made, if it is in the register."""


class Known:
    """An object, and what the model knows of it."""

    def __init__(self, number):
        self.name = "abcdef"[number]
        self.slot = number % len(SLOTS)
        self.class_name = "Den" if number > 3 else "Room"
        self.id = NamespaceKey(f"w-{self.class_name}").from_name(self.name)
        self.kept = State()
        self.were = {self.kept}  # what a power cut may leave without syncs
        self.leave_memory()

    def leave_memory(self):
        self.storage = self.flying = None
        self.registered = False
        self.entries, self.alarm = dict(self.kept.entries), self.kept.alarm
        self.forget_changes()

    def forget_changes(self):
        self.puts, self.wiped, self.alarm_set, self.noted = {}, False, False, False

    @property
    def dirty(self):
        return bool(self.puts) or self.wiped or self.alarm_set or self.noted

    @property
    def at_rest(self):
        return not self.dirty and self.flying is None

    def take(self, now):
        """A round takes what was written: `flying` is what the object will be."""
        if not self.dirty:
            return
        record = self.kept.record
        made = any(value is not None for value in self.puts.values())
        if made or (self.alarm_set and self.alarm is not None):
            if not self.registered:
                class_name, name, since = record or (self.class_name, None, now)
                record = class_name, name or self.storage._id.name, since
            self.registered = True
        elif self.wiped:
            record, self.registered = None, False
        self.flying = State(tuple(sorted(self.entries.items())), self.alarm, record)
        self.forget_changes()


class Host:
    def __init__(self, world, number):
        self.number = number
        self.journal = Journal(
            journal_path(world.data, number),
            durability=world.durability,
            fdatasync=lambda descriptor: world.sync(self.journal.path.name, descriptor),
            pwrite=world.pwrite,
        )
        self.group = CommitGroup(self.journal)
        self.round = None
        self.may_fail = False  # the round that is under way


class World:
    def __init__(self, seed, place, durability):
        self.random = Random(seed)
        self.place, self.durability = place, durability
        self.lives = self.now = 0
        self.fault = None
        self.trace = []
        self.objects = [Known(number) for number in range(6)]
        self.begin({})

    def begin(self, files):
        """Instances begin with what is on disk: the content of files."""
        self.data = self.place / str(self.lives)
        (self.data / "slots").mkdir(parents=True)
        for name, content in files.items():
            (self.data / "slots" / name).write_bytes(content)
        self.disk = dict(files)  # what a power cut leaves: of each file what was synced
        self.ends = {}  # without syncs: of each slot's files, and each journal, what there was since
        journal.forget()
        self.open()

    def open(self):
        self.hosts = [Host(self, number) for number in range(2)]
        self.owner = {slot: self.random.choice(self.hosts) for slot in SLOTS}
        self.files = {}

    def close(self):
        for file in self.files.values():
            with suppress(StorageError):
                file.close()
        for host in self.hosts:
            host.journal.close()

    def its(self, host):
        return [known for known in self.objects if self.owner[known.slot] is host]

    def of(self, slot):
        return [known for known in self.objects if known.slot == slot]

    # --- files -----------------------------------------------------------------------------------

    def file(self, slot):
        if slot in self.files:
            return self.files[slot]
        host = self.owner[slot]
        file = SlotFile(
            slot_path(self.data, slot),
            durability=self.durability,
            journal=host.journal,
            clock=lambda: self.now,
            fdatasync=lambda descriptor: self.sync(f"{slot:05}.sqlite-wal", descriptor),
        )
        mend = file._mend

        def mended():
            mend()
            self.brought_in(slot)

        file._mend = mended
        self.files[slot] = file
        self.brought_in(slot)
        owned = {slot for slot, owner in self.owner.items() if owner is host}
        if owned <= self.files.keys():
            clear_journals(self.data, host.number, owned, but=host.journal.path)
        return file

    def brought_in(self, slot):
        """SQLite has brought the log of a slot's file into the file, and synced that."""
        its = self.image(f"{slot:05}")
        self.disk[f"{slot:05}.sqlite"] = its[f"{slot:05}.sqlite"]
        self.disk.pop(f"{slot:05}.sqlite-wal", None)
        self.ends[f"{slot:05}"] = [its]

    def image(self, prefix=""):
        found = sorted((self.data / "slots").glob(f"{prefix}*"))
        return {path.name: path.read_bytes() for path in found if path.suffix != ".lock"}

    def sync(self, name, descriptor):
        if self.fault in ("sync", name):
            raise OSError(5, "Input/output error")
        self.disk[name] = os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def pwrite(self, descriptor, data, offset):
        more = len(data) + offset - os.fstat(descriptor).st_size
        if self.fault == "pwrite" and more > 0:
            os.pwrite(descriptor, data[: self.random.randrange(len(data))], offset)
            raise OSError(28, "No space left on device")
        return os.pwrite(descriptor, data, offset)

    def note_ends(self):
        if self.durability == "relaxed":
            for slot in self.files:
                self.ends[f"{slot:05}"].append(self.image(f"{slot:05}"))
            for name, content in self.image("?-").items():
                self.ends.setdefault(name, []).append({name: content})

    # --- steps -----------------------------------------------------------------------------------

    def step(self):
        (name,) = self.random.choices([*OFTEN], [*OFTEN.values()])
        self.trace.append(name)
        try:
            getattr(self, name)()
        except StorageError:
            assert self.fault is not None

    def any(self):
        known = self.random.choice(self.objects)
        self.trace.append(known.name)
        if known.storage is None:
            host, named = self.owner[known.slot], self.random.random() < 0.7
            storage = known.storage = ObjectStorage(
                self.file(known.slot),
                known.id if named else ObjectId(known.id.raw),
                known.class_name,
                lambda: host.group.mark(storage),
                lambda: None,
                LIMITS,
            )
        return known

    def put(self, value=None):
        known, key = self.any(), self.random.choice("xyz")
        value = self.random.randrange(100) if value is None else value
        run(known.storage.put(key, value))
        known.entries[key] = known.puts[key] = value

    def put_much(self):
        self.put("x" * 300_000)

    def delete(self):
        known, key = self.any(), self.random.choice("xyz")
        if self.random.random() < 0.3:
            run(known.storage.put(key, 1))
            known.entries[key] = known.puts[key] = 1
        found = run(known.storage.delete(key))
        assert found == (key in known.entries)
        if found:
            del known.entries[key]
            known.puts[key] = None

    def delete_all(self):
        known = self.any()
        run(known.storage.deleteAll())
        known.entries, known.puts, known.alarm = {}, {}, None
        known.alarm_set = known.wiped = True

    def set_alarm(self):
        known = self.any()
        if self.random.random() < 0.5:
            at = FAR + self.random.randrange(100)
            run(known.storage.setAlarm(at))
            known.alarm, known.alarm_set = at, True
        elif run(known.storage.getAlarm()) is not None:
            run(known.storage.deleteAlarm())
            known.alarm, known.alarm_set = None, True

    def note(self):
        known, value = self.any(), b"%d" % self.now
        known.storage.record(RECORDS + b"r", lambda: value)
        known.noted = True

    def start(self):
        for host in self.random.sample(self.hosts, self.random.randint(1, 2)):
            if host.round is None:
                self.now += 1
                host.may_fail = self.fault is not None
                for known in self.its(host):
                    known.take(self.now)
                host.round = host.group.start_round()
        self.note_ends()

    def end(self):
        for host in self.hosts:
            if host.round is None:
                continue
            ended, host.round = host.round, None
            ended.sync()
            causes = host.group.end_round(ended)  # also of storages that have failed before
            failed = [known for known in self.its(host) if id(known.storage) in causes]
            assert not failed or host.may_fail, causes
            if failed:
                self.mend()
            for known in self.its(host):
                if known in failed:
                    self.settle(known, {known.kept, known.flying or known.kept})
                elif known.flying is not None:
                    known.kept, known.flying = known.flying, None
                known.were.add(known.kept)
        self.note_ends()

    def evict(self):
        known = self.any()
        if known.at_rest:
            known.leave_memory()

    def look(self, slot=None):
        """Objects that have nothing under way are what they must be for all who look."""
        slot = self.random.choice(SLOTS) if slot is None else slot
        file = self.file(slot)
        look = self.random.randrange(4)
        if look == 1:
            listed = {record.id.raw for record in file.objects()}
        elif look == 2:
            counted = file.counts()
            listed = {record.id.raw for name in counted for record in file.objects(name)}
            assert sum(counted.values()) == len(listed)
        elif look == 3:
            owners = {*file.owners()}
        for known in self.of(slot):
            if known.flying is None:
                assert self.found(known) == known.kept
                if look in (1, 2):
                    assert (known.id.raw in listed) == (known.kept.record is not None)
                if look == 3 and known.kept.record is not None:
                    assert known.id.raw in owners

    def found(self, known):
        file = self.file(known.slot)
        storage = ObjectStorage(
            file, known.id, known.class_name, lambda: None, lambda: None, LIMITS
        )
        looks = {
            "entries": lambda: tuple(sorted(run(storage.list()).items())),
            "alarm": lambda: run(storage.getAlarm()),
            "record": lambda: file.record(known.id.raw),
        }
        seen = {name: looks[name]() for name in self.random.sample([*looks], len(looks))}
        record = seen.pop("record")
        return State(**seen, record=None if record is None else tuple(record[1:]))

    def settle(self, known, may):
        """An object begins anew with what it has, which must be one of the states that there may be."""
        found = self.found(known)
        assert found in may, f"{known.name} is {found}, and may be {may}"
        known.kept = found
        known.leave_memory()

    def move(self):
        """A slot goes to another host, or leaves one and comes back."""
        slot = self.random.choice(SLOTS)
        if not all(known.at_rest for known in self.of(slot)):
            return
        file = self.files.pop(slot, None)
        if file is not None:
            unsound = file.unsound
            with suppress(StorageError):
                file.close()
            if not unsound:
                self.brought_in(slot)
        self.mend()
        self.owner[slot] = self.random.choice(self.hosts)
        for known in self.of(slot):
            known.leave_memory()
        if self.random.random() < 0.7:
            self.look(slot)

    def remove(self):
        """`roost objects delete`."""
        known = self.any()
        if known.at_rest and self.fault is None:
            file = self.file(known.slot)
            delete_object(known.slot, file, SimpleNamespace(delete=lambda *_: None), known.id.raw)
            file.sync()
            known.kept = State()
            known.were.add(known.kept)
            known.leave_memory()
            self.note_ends()

    def copy(self):
        """`roost backup`."""
        slot = self.random.choice(SLOTS)
        its = self.of(slot)
        if any(known.flying for known in its):
            return
        target = self.place / "copy.sqlite"
        target.unlink(missing_ok=True)
        for _ in self.file(slot).copy_to(target):
            pass
        with closing(SlotFile(target)) as copy:
            for known in its:
                record = copy.record(known.id.raw)
                assert (None if record is None else tuple(record[1:])) == known.kept.record
                assert len([*copy.scan(known.id.raw)]) == len(known.kept.entries)

    def fail(self):
        """From now on something fails, until somebody has noticed."""
        slot = self.random.choice(SLOTS)
        for host in self.hosts:
            host.may_fail = True
        if self.fault is None:
            self.fault = self.random.choice(["sync", f"{slot:05}.sqlite-wal", "pwrite", "commit"])
        if self.fault == "commit" and slot in self.files:
            self.files[slot]._connection.set_commit_hook(lambda: True)

    def mend(self):
        self.fault = None
        for file in self.files.values():
            with suppress(apsw.ConnectionClosedError):  # it was closed to be opened anew
                file._connection.set_commit_hook(None)

    # --- the end of all hosts ----------------------------------------------------------------------

    def restart(self):
        self.mend()
        self.whole()
        self.close()
        self.begin_anew(self.image(), lambda known: {known.kept})

    def whole(self):
        for step in self.end, self.start, self.start, self.start, self.end:
            step()
        while any(known.dirty for known in self.objects):
            self.start()
            self.end()

    def kill(self):
        """What the kernel has of the files is there."""
        uncertain = {host for host in self.hosts if host.may_fail}

        def may(known):
            flying = known.flying or known.kept
            return {flying, known.kept} if self.owner[known.slot] in uncertain else {flying}

        self.begin_anew(self.image(), may)

    def cut(self):
        """What was synced is there; without syncs any end of each file, from one moment or another."""
        left = {}
        if self.durability == "strict":
            left = {
                name: content
                for name, content in self.disk.items()
                if (self.data / "slots" / name).exists() or self.random.random() < 0.5
            }
        else:
            for ends in self.ends.values():
                left |= self.random.choice(ends)

        def may(known):
            more = known.were if self.durability == "relaxed" else ()
            return {known.kept, known.flying or known.kept, *more}

        self.begin_anew(left, may)

    def begin_anew(self, left, may):
        may = {known: may(known) for known in self.objects}
        self.sync = lambda *_: None
        self.mend()
        self.close()
        del self.sync
        shutil.rmtree(self.data)
        self.lives += 1
        self.begin(left)
        if self.random.random() < 0.2:
            may = {known: self.renamed(known, its) for known, its in may.items()}
            for slot in SLOTS:
                if slot_path(self.data, slot).exists():
                    with closing(SlotFile(slot_path(self.data, slot))) as file:
                        for known in self.of(slot):
                            file.rename([known.id.raw], known.class_name)
                    self.brought_in(slot)
        for known in self.random.sample(self.objects, len(self.objects)):
            self.settle(known, may[known])
            known.were = {known.kept}
        self.note_ends()

    def renamed(self, known, its):
        """The class of an object has another name now."""
        known.class_name = known.class_name.swapcase()
        return {
            state._replace(record=state.record and (known.class_name, *state.record[1:]))
            for state in its
        }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_in_any_order_no_object_is_lost_nor_its_place_in_the_register(
    seed, durability, monkeypatch
):
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 1500)
    monkeypatch.setattr(ahead, "MOST_AHEAD", 3)
    names = Random(seed)  # so that a seed always makes the same steps
    monkeypatch.setattr(secrets, "randbits", names.getrandbits)
    monkeypatch.setattr(secrets, "token_hex", lambda size: names.randbytes(size).hex())
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        world = World(seed, Path(place), durability)
        try:
            for _ in range(STEPS):
                world.step()
            world.mend()
            world.whole()
            for slot in SLOTS:
                world.look(slot)
        except AssertionError as error:
            error.add_note(" ".join(world.trace[-100:]))
            raise
        finally:
            world.mend()
            world.close()
