"""Any calls, on any keys, at any times, behave as on a sorted dict with a clock."""

import base64
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.kv import SyncKVNamespace, open_store
from runtime.kv.answers import last_key, list_keys
from runtime.kv.tiers import Listed

SOME = ["a", "a\0", "ab", "b", "é", "\u00ff", "\uffff", "😀", "Z", "/a/", "a" * 512, "\U0010ffff"]
names = st.one_of(
    st.sampled_from(SOME),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
        lambda name: name not in {".", ".."}
    ),
)
prefixes = st.one_of(st.just(""), st.sampled_from(["a", "\uffff", "\U0010ffff", "é"]), names)
values = st.binary(max_size=3)


class Model(RuleBasedStateMachine):
    """One namespace against a dict of key to (value, metadata, expiry)."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.shelf = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.now = 1000.25
        self.open()
        self.entries = {}

    def open(self):
        self.store = open_store(
            Path(self.directory.name) / "ns",
            clock=lambda: self.now,
            cache=lambda: Path(self.shelf.name),
            cache_bytes=1 << 20,
        )
        self.kv = SyncKVNamespace(self.store, min_ttl=1)

    def present(self):
        return {
            name: entry
            for name, entry in self.entries.items()
            if entry[2] is None or entry[2] > self.now
        }

    @rule(name=names, value=values, metadata=st.none() | st.integers())
    def put(self, name, value, metadata):
        self.kv.put(name, value, metadata=metadata)
        self.entries[name] = (value, metadata, None)

    @rule(name=names, value=values, ttl=st.integers(1, 5))
    def put_for_a_while(self, name, value, ttl):
        self.kv.put(name, value, expirationTtl=ttl)
        self.entries[name] = (value, None, self.now + ttl)

    @rule(name=names, value=values, ttl=st.integers(2, 5))
    def put_until(self, name, value, ttl):
        until = int(self.now) + ttl
        self.kv.put(name, value, expiration=until)
        self.entries[name] = (value, None, float(until))

    @rule(name=names)
    def delete(self, name):
        self.kv.delete(name)
        self.entries.pop(name, None)

    @rule(seconds=st.sampled_from([0.25, 0.75, 1, 3]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(name=names)
    def get(self, name):
        value, metadata, _ = self.present().get(name, (None, None, None))
        for _ in "twice":  # from the disk, and from the cache
            found = self.kv.get_with_metadata(name, "bytes")
            assert (found.value, found.metadata) == (value, metadata)
            assert self.kv.get(name) == (None if value is None else value.decode(errors="replace"))

    @rule(prefix=prefixes, limit=st.integers(1, 4), turns=st.lists(names, max_size=6))
    def walk(self, prefix, limit, turns):
        """Page by page, with a key written or deleted between the pages."""
        here = self.present()
        seen, touched, cursor = [], set(), None
        while True:
            page = self.kv.list(prefix=prefix, limit=limit, cursor=cursor)
            seen += [item.name for item in page["keys"]]
            if page.list_complete:
                assert "cursor" not in page
                break
            assert len(page["keys"]) == limit
            cursor = page.cursor
            if turns:
                name = turns.pop()
                touched.add(name)
                if name in self.present():
                    self.delete(name)
                else:
                    self.put(name, b"", None)
        assert seen == sorted(set(seen), key=str.encode)  # in order, none twice
        assert all(name.startswith(prefix) for name in seen)
        stayed = {name for name in here if name.startswith(prefix)} - touched
        assert stayed <= set(seen) <= stayed | touched

    @rule()
    def reopen(self):
        self.store.close()
        self.open()

    @rule()
    def tidy(self):
        self.store.tidy()

    @invariant()
    def everything_is_listed(self):
        listed = [
            (item.name, item.get("metadata"), item.get("expiration"))
            for item in self.kv.list()["keys"]
        ]
        assert listed == [
            (name, metadata, None if expires is None else int(expires))
            for name, (_, metadata, expires) in sorted(
                self.present().items(), key=lambda item: item[0].encode()
            )
        ]

    def teardown(self):
        self.store.close()
        self.directory.cleanup()
        self.shelf.cleanup()


Model.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestModel = Model.TestCase


@given(st.sets(names, max_size=30), prefixes, st.integers(-1, 12))
def test_pages_are_the_sorted_keys_of_the_prefix(keys, prefix, limit):
    ordered = sorted(name.encode() for name in keys)

    def scan(lower, upper, count):
        return [Listed(key, None, None) for key in ordered if lower <= key < upper][:count]

    seen, cursor = [], ""
    while True:
        page = list_keys(scan, {"prefix": prefix, "limit": limit, "cursor": cursor}, {})
        seen += [item.name.encode() for item in page["keys"]]
        if page.list_complete:
            break
        cursor = page.cursor
    assert seen == [key for key in ordered if key.startswith(prefix.encode())]


@given(st.one_of(st.text(max_size=30), st.integers(), st.binary(max_size=9)))
def test_any_cursor_is_read_somehow(cursor):
    assert isinstance(last_key(cursor), bytes)


@given(st.binary(max_size=600))
def test_a_cursor_names_its_key(key):
    assert last_key(base64.b64encode(key).decode()) == key
