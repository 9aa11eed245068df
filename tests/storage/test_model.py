"""Any calls, with any commits under way, behave as on a plain dict."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import ObjectStorage, SlotFile, large, write_set

KEYS = ["", "10", "9", "Z", "a", "a\0", "ab", "b", "é", "\uffff", "😀"]
keys = st.sampled_from(KEYS)
values = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
) | st.binary(min_size=300, max_size=301)


def run(awaitable):
    with pytest.raises(StopIteration) as stop:
        next(awaitable.__await__())
    return stop.value.value


class Model(RuleBasedStateMachine):
    """One object against a dict; a neighbour in the same file must not notice."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.cache_bytes, write_set.CACHE_BYTES = write_set.CACHE_BYTES, 1500
        self.large_bytes, large.LARGE_BYTES = large.LARGE_BYTES, 200
        self.namespace = NamespaceKey("w-Room")
        self.told = 0
        self.now = {}  # what the object must see
        self.in_file = {}
        self.flying = []  # (change, the dict after it, whether it is in the file)
        self.open()
        neighbour = self.storage_of("neighbour")
        run(neighbour.put(dict.fromkeys(KEYS, "neighbour")))
        self.file.commit([neighbour.take_changes()])
        self.told = 0

    def open(self):
        path = Path(self.directory.name) / "0.sqlite"
        self.file = SlotFile(path, durability="relaxed")
        self.storage = self.storage_of("object")

    def storage_of(self, name):
        return ObjectStorage(
            self.file,
            self.namespace.from_name(name),
            "Room",
            self.tell,
            lambda: None,
            Limits(value_bytes=1 << 20),
        )

    def tell(self):
        self.told += 1

    @rule(key=keys, value=values)
    def put(self, key, value):
        run(self.storage.put(key, value))
        self.now[key] = value

    @rule(entries=st.dictionaries(keys, values))
    def put_many(self, entries):
        run(self.storage.put(entries))
        self.now.update(entries)

    @rule(key=keys)
    def get(self, key):
        assert run(self.storage.get(key)) == self.now.get(key)

    @rule(some=st.lists(keys))
    def get_many(self, some):
        found = run(self.storage.get(some))
        assert list(found.items()) == [(k, self.now[k]) for k in sorted(set(some)) if k in self.now]

    @rule(key=keys)
    def delete(self, key):
        assert run(self.storage.delete(key)) == (key in self.now)
        self.now.pop(key, None)

    @rule(some=st.lists(keys))
    def delete_many(self, some):
        there = set(some) & set(self.now)
        assert run(self.storage.delete(some)) == len(there)
        for key in there:
            del self.now[key]

    @rule()
    def delete_all(self):
        run(self.storage.deleteAll())
        self.now = {}

    @rule(
        start=st.none() | keys,
        after=st.booleans(),
        end=st.none() | keys,
        prefix=st.none() | st.sampled_from(["", "a", "1", "é"]),
        reverse=st.booleans(),
        limit=st.none() | st.integers(1, 5),
    )
    def list(self, start, after, end, prefix, reverse, limit):
        options = {"end": end, "prefix": prefix, "reverse": reverse, "limit": limit}
        options["startAfter" if after else "start"] = start
        wanted = [
            key
            for key in sorted(self.now, reverse=reverse)
            if (start is None or (key > start if after else key >= start))
            and (end is None or key < end)
            and key.startswith(prefix or "")
        ][:limit]
        found = run(self.storage.list(options))
        assert [*found.items()] == [(key, self.now[key]) for key in wanted]

    @rule()
    def take(self):
        told, self.told = self.told, 0
        change = self.storage.take_changes()
        assert told == (change is not None)
        if change is not None:
            self.flying.append((change, dict(self.now), False))

    @precondition(lambda self: any(not there for _, _, there in self.flying))
    @rule()
    def commit_next(self):
        number = [there for _, _, there in self.flying].index(False)
        change, after, _ = self.flying[number]
        self.file.commit([change])
        self.in_file = after
        self.flying[number] = (change, after, True)

    @precondition(lambda self: self.flying and self.flying[0][2])
    @rule()
    def confirm_next(self):
        self.storage.committed(self.flying.pop(0)[0])

    @rule()
    def reopen(self):
        """The host dies: what is in the file is there, and nothing else."""
        self.file.close()
        self.flying = []
        self.told = 0
        self.now = dict(self.in_file)
        self.open()

    @invariant()
    def clean_keys_are_bounded(self):
        writes = self.storage._writes
        clean = writes.known.keys() - writes._pinned()
        assert sum(write_set._size(writes.known[key]) for key in clean) <= 1.5 * 1500 + 600

    def teardown(self):
        neighbour = self.storage_of("neighbour")
        assert run(neighbour.list()) == dict.fromkeys(KEYS, "neighbour")
        assert self.file._connection.execute("PRAGMA integrity_check").get == "ok"
        self.file.close()
        write_set.CACHE_BYTES, large.LARGE_BYTES = self.cache_bytes, self.large_bytes
        self.directory.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
