"""A namespace in the shared cache: where reads look first, and what a commit keeps true.

Reads need no lock and no system call; a miss reads the disk and fills the cache if `coherence` allows
it. Nothing raises: whatever is wrong with the cache, reads go to disk, and a writer that cannot take
its keys out of the cache has everybody stop trusting it (`trust`) before it commits. A cache that was
lost is looked for again, at most once a second.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from runtime.kv import coherence
from runtime.kv.packed import MARK, pack, unpack
from runtime.kv.shared import Shared, open_shared
from runtime.kv.tiers import Entry
from runtime.kv.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from runtime.kv.tiers import Staged
    from runtime.kv.trust import Trust

    FindCache = Callable[[], Path | None]

T = TypeVar("T")

AGAIN_SECONDS = 1.0

_LONGEST = 480
"""Bytes of a key that is kept under its own name; LMDB has at most 511, and ours go up to 512."""

_CHECKED_AT_ONCE = 64
"""Keys that are compared while writers wait."""

UNKNOWN: Any = object()
"""What `text` returns where it says nothing."""

_NO_TOKEN = -1  # is in no page

_log = logging.getLogger("roost.kv")
_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the shared cache did for one namespace in this process, and the cache as a whole."""

    hits: int
    misses: int
    refused: int
    """Misses that were not filled in: a commit to the key, or near it, was under way."""
    generations: int
    """How many full generations the whole cache has dropped, since the instance started."""


class SharedTier:
    """See the module's text and `ReadTier`."""

    def __init__(
        self,
        namespace: Path,
        trust: Trust,
        find: FindCache | None,
        size: int,
        first_to_say: Callable[[], bool] | None,
    ) -> None:
        """Open nothing yet: the cache is found at the first use.

        Without `find` this process has no cache, and sees to it that its writes end the trust
        of others in theirs. `first_to_say` keeps a warning from being given more than once.
        """
        self._first_to_say = first_to_say or _first_here
        self._said = False
        self.hits = self.misses = self.refused = 0
        self._lock = namespace / "write.lock"
        self._find = find
        self._size = size
        self._trust = trust
        self._words = self._trust.words
        self._token = _NO_TOKEN
        self._prefix = b""
        self._shared: Shared | None = None
        self._begin: Any = None
        self._first: Any = None
        self._second: Any = None
        self._again = 0.0
        self._holding = False
        self._names: list[bytes] = []

    # --- reading ---------------------------------------------------------------------------------

    def text(self, key: str) -> Any:  # str, None or UNKNOWN
        """Return a value as text, None when the key is absent; `UNKNOWN`: `read` has to say.

        This is what a hot get is made of, and so one function that calls little.
        """
        if self._words[0] != self._token:
            return UNKNOWN
        try:
            # Positional, and a view into the map instead of a copy: 64 KiB cost 4.7 µs, not 5.9.
            txn = self._begin(self._first, None, False, True)
            record = txn.get(self._prefix + key.encode())
            if record is None:
                return UNKNOWN
            if record[0] != MARK:
                text = str(record, "utf-8", "replace")
            elif len(record) == 1:  # packed.ABSENT
                text = None
            else:
                return UNKNOWN
            txn.abort()
        except lmdb.Error:
            return UNKNOWN
        self.hits += 1
        return text

    def read(self, key: bytes, load: Callable[[bytes], Entry | T | None]) -> Entry | T | None:
        """Return a key's entry, expired or not; `load` reads the disk and may raise."""
        if self._words[0] != self._token and not self._look_again():
            return load(key)
        name = self._name(key)
        old: bytes | None = None
        noted: int | None = None
        try:
            with self._begin() as txn:
                record = txn.get(name, db=self._first)
                if record is None:
                    record = old = txn.get(name, db=self._second)
                if record is None:
                    noted = coherence.note(txn, self._tables, name)
        except lmdb.Error as error:
            self._say(error)
            return load(key)
        if record is not None:
            self.hits += 1
            if old is not None:
                self._promote(name)
            return unpack(record)
        self.misses += 1
        entry = load(key)
        if not self._fill(name, noted, self._record(entry)):
            self.refused += 1
        return entry

    def _fill(self, name: bytes, noted: int | None, record: bytes | None) -> bool:
        if noted is None or record is None:
            return record is None
        try:
            with self._open.write_soon() as txn:
                return txn is not None and coherence.fill(txn, self._tables, name, noted, record)
        except lmdb.Error:  # full, for as long as somebody reads what was dropped
            return False

    def _promote(self, name: bytes) -> None:
        tables = self._tables
        with contextlib.suppress(lmdb.Error), self._open.write_soon() as txn:
            if txn is not None:
                coherence.promote(txn, tables, name)
                young = tables.young(txn)
                self._first = tables.generations[young]
                self._second = tables.generations[1 - young]

    # --- writing: under the namespace's lock -----------------------------------------------------

    def hold(self, keys: Collection[bytes]) -> None:
        """Let nobody find these keys from now on, nor fill them, until they are settled."""
        self._holding = False
        try:
            if self._is_found(locked=True):
                prefix = self._prefix
                self._names = [
                    prefix + key if len(key) <= _LONGEST else self._name(key) for key in keys
                ]
                self._hold(self._names)
                self._holding = True
        except Exception as error:
            self._say(error)
        if not self._holding:
            self._trust.clear()

    def _hold(self, names: list[bytes]) -> None:
        try:
            with self._open.write() as txn:
                coherence.hold(txn, self._tables, self._prefix, names)
        except lmdb.MapFullError:
            self._open.environment.reader_check()  # who died reading keeps pages
            with self._open.write() as txn:
                coherence.hold(txn, self._tables, self._prefix, names)

    def settle(self, writes: Collection[Staged]) -> None:
        """Take the committed values. Keys that stay held for want of room are read from disk."""
        if not self._holding:
            return
        records = list(zip(self._names, map(self._settled, writes), strict=True))
        try:
            with self._open.write() as txn:
                coherence.settle(txn, self._tables, self._prefix, records)
        except lmdb.Error as error:
            self._say(error)

    # --- checking --------------------------------------------------------------------------------

    def disagreeing(self, load: Callable[[bytes], Entry | None]) -> list[bytes]:
        """Return the keys whose entry here is not what `load` reads from disk.

        Keys with more than 480 bytes are not looked at: they are here under another name.
        """
        found: list[bytes] = []
        if not self._is_found(locked=False):
            return found
        keys = self._keys()
        for at in range(0, len(keys), _CHECKED_AT_ONCE):
            with write_lock(self._lock):  # no commit is half done
                if self._words[0] != self._token:
                    return []
                for key in keys[at : at + _CHECKED_AT_ONCE]:
                    record = self._peek(key)
                    with contextlib.suppress(FileNotFoundError):  # its value is lost
                        if record is not None and record != pack(load(key)):
                            found.append(key)
        return found

    def _keys(self) -> list[bytes]:
        found = []
        with self._begin() as txn:
            for generation in self._tables.generations:
                cursor = txn.cursor(db=generation)
                there = cursor.set_range(self._prefix)
                while there and cursor.key().startswith(self._prefix):
                    found.append(cursor.key()[len(self._prefix) :])
                    there = cursor.next()
        return [key for key in found if key[0] != MARK]

    def _peek(self, key: bytes) -> bytes | None:
        with self._begin() as txn:
            for generation in self._tables.generations:
                record: bytes | None = txn.get(self._name(key), db=generation)
                if record is not None:
                    return record
        return None

    def distrust(self) -> None:
        """Let nobody use what is here any more. Waits for the writers' lock."""
        with write_lock(self._lock):
            self._trust.clear()

    # --- finding the cache -----------------------------------------------------------------------

    def attach(self) -> None:
        """Find the cache and have it trusted, if there is one; waits for the writers' lock."""
        self._is_found(locked=False)

    def _look_again(self) -> bool:
        now = time.monotonic()
        if now < self._again:
            return False
        self._again = now + AGAIN_SECONDS
        return self._is_found(locked=False, wait=False)

    def _is_found(self, *, locked: bool, wait: bool = True) -> bool:
        """Whether the cache is there and trusted; sees to it where that is possible."""
        if self._words[0] == self._token:
            return True
        self._token = _NO_TOKEN
        directory = self._find() if self._find is not None else None
        if directory is None:
            return False
        try:
            shared = open_shared(directory, self._size)
            if shared is None:
                return False
            if not self._trust.names(shared.id):
                if not locked:
                    return self._trust_it(shared, wait=wait)
                self._trust.set(shared.id)
        except (OSError, lmdb.Error) as error:
            self._say(error)
            return False
        self._adopt(shared)
        return True

    def _trust_it(self, shared: Shared, *, wait: bool) -> bool:
        try:
            with write_lock(self._lock, wait=wait):
                if not self._trust.names(shared.id):
                    self._trust.set(shared.id)
                self._adopt(shared)
                return True
        except BlockingIOError:
            return False

    def _adopt(self, shared: Shared) -> None:
        token = self._trust.token
        self._shared = shared
        self._begin = shared.environment.begin
        self._first, self._second = shared.tables.generations
        self._prefix = token.to_bytes(8, "big")
        self._token = token

    @property
    def _open(self) -> Shared:
        assert self._shared is not None
        return self._shared

    @property
    def _tables(self) -> coherence.Tables:
        return self._open.tables

    def _name(self, key: bytes) -> bytes:
        if len(key) > _LONGEST:
            key = b"\xff" + blake2b(key, digest_size=32).digest()
        return self._prefix + key

    def _settled(self, staged: Staged) -> bytes | None:
        """Return what the cache is to hold of a write; None where that is too large."""
        entry, file = staged.entry, staged.file
        size = 0 if entry is None else len(entry.value) if file is None else file.size
        return pack(entry) if size <= self._open.largest else None

    def _record(self, entry: object) -> bytes | None:
        """Return what the cache is to hold; None where that is too large."""
        if entry is None:
            return pack(None)
        if not isinstance(entry, Entry) or len(entry.value) > self._open.largest:
            return None
        return pack(entry)

    def statistics(self) -> Statistics:
        """Return what the cache did so far."""
        generations = 0
        if self._shared is not None:
            with contextlib.suppress(lmdb.Error):
                generations = self._shared.rotations()
        return Statistics(self.hits, self.misses, self.refused, generations)

    def _say(self, error: Exception) -> None:
        """Say what is wrong, unless it was said."""
        if not self._said:
            self._said = True
            if self._first_to_say():
                _log.warning(
                    "KV goes on without its shared cache, from disk: %s. Reads are slower, not stale.",
                    error,
                )


def _first_here() -> bool:
    """Whether nobody has said it in this process."""
    first = not _said
    _said.add("said")
    return first
