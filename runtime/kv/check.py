"""Compares all that is kept of a KV namespace: the database, the files of large values, the cache.

What can be put right without losing a value that is still there, `repair` puts right: files that a
crash left, entries whose value is lost, figures of diskcache's, a cache that disagrees. A database that
SQLite finds broken, and rows that Roost did not write, are only reported.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from runtime.kv.bytes_disk import BINARY, RAW
from runtime.kv.durable import DiskTier
from runtime.kv.value_file import FOLDER, NAME, no_new_files, remove_orphan
from runtime.kv.write_lock import write_lock
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runtime.kv.store import Store

_ROWS = (
    "SELECT rowid, key, raw, tag, size, mode, filename, typeof(value), typeof(key)"
    " FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT 1000"
)
_IS_NAMED = "SELECT 1 FROM Cache WHERE filename = ?"
_IS_THERE = "SELECT 1 FROM Cache WHERE rowid = ? AND filename = ?"
_SET_FIGURE = "UPDATE Settings SET value = ? WHERE key = ?"
_FIGURES = {
    "count": "SELECT count(*) FROM Cache",
    "size": "SELECT coalesce(sum(size), 0) FROM Cache",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    text: str
    repaired: bool


@dataclass(slots=True)
class Checked:
    """What was found in a namespace."""

    keys: int
    files: int
    problems: list[Problem]


def check(store: Store, *, repair: bool = False) -> Checked:
    """Check a namespace, also while it is in use. Raises KVError when it cannot be read at all."""
    found = Checked(0, 0, [])
    tier = DiskTier(store.directory, store.clock)
    try:
        with closing(tier._connect()) as database:  # noqa: SLF001  (this package's own)
            _Check(store, database, found, repair=repair).run()
    except sqlite3.DatabaseError as error:
        found.problems.append(Problem(f"the database is broken: {error}", repaired=False))
    except OSError as cause:
        raise KVError(f"the KV namespace {store.directory} cannot be checked: {cause}") from cause
    return found


class _Check:
    def __init__(
        self, store: Store, database: sqlite3.Connection, found: Checked, *, repair: bool
    ) -> None:
        self._store = store
        self._directory: Path = store.directory
        self._database = database
        self._found = found
        self._repair = repair
        self._lost: set[bytes] = set()

    def run(self) -> None:
        broken = [text for (text,) in self._select("PRAGMA integrity_check") if text != "ok"]
        for text in broken:
            self._say(f"the database is broken: {text}")
        if broken:
            return  # what is read from it says nothing, and writing makes it worse
        for row in self._rows():
            self._row(*row)
        self._orphans()
        self._figures()
        for key in self._store.disagreeing():
            if key not in self._lost:
                self._say(f"the cache has another value of {_shown(key)}", self._store.distrust)

    def _select(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        return self._database.execute(statement, values).fetchall()

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        last = -1
        while rows := self._select(_ROWS, (last,)):
            yield from rows
            last = rows[-1][0]

    def _say(self, text: str, repair: Callable[[], object] | None = None) -> None:
        repaired = self._repair and repair is not None
        if repaired:
            assert repair is not None
            repair()
        self._found.problems.append(Problem(text, repaired))

    def _row(
        self,
        rowid: int,
        key: Any,
        raw: int,
        tag: str | None,
        size: int,
        mode: int,
        filename: str | None,
        kind: str,
        kind_of_key: str,
    ) -> None:
        self._found.keys += 1
        if kind_of_key != "blob" or not raw:
            self._say(f"row {rowid} has a key that Roost did not write")
            return
        name = _shown(key)
        try:
            json.loads(tag or "null")
        except ValueError:
            self._say(f"the metadata of {name} is not JSON")
        if mode == RAW and kind == "blob" and filename is None:
            return
        if mode != BINARY or filename is None or not NAME.fullmatch(filename):
            self._say(f"the value of {name} was not written by Roost")
            return
        self._found.files += 1
        why = None
        try:
            has = (self._directory / filename).stat().st_size
        except FileNotFoundError:
            why = f"the value of {name} is lost: its file {filename} is gone"
        else:
            if has != size:
                why = f"the value of {name} is lost: {filename} has {has:,} bytes of {size:,}"
        # Unless it was replaced after the row was read.
        if why is not None and self._select(_IS_THERE, (rowid, filename)):
            self._lost.add(key)
            self._say(why, partial(self._store.remove, key))

    def _orphans(self) -> None:
        names = [f"{FOLDER}/{file.name}" for file in (self._directory / FOLDER).iterdir()]
        suspects = [name for name in names if self._is_orphan(name, keep=True)]
        if not suspects:
            return
        # A commit was perhaps about to remove it, or its writer to lock it.
        with write_lock(self._directory / "write.lock"), no_new_files(self._directory):
            for name in suspects:
                if self._is_orphan(name, keep=not self._repair):
                    text = f"{name} is left of a write that was interrupted"
                    self._found.problems.append(Problem(text, self._repair))

    def _is_orphan(self, name: str, *, keep: bool) -> bool:
        return remove_orphan(self._directory, name, self._is_named, keep=keep)

    def _is_named(self, name: str) -> bool:
        return bool(self._select(_IS_NAMED, (name,)))

    def _figures(self) -> None:
        with write_lock(self._directory / "write.lock"):  # they change with every commit
            for key, counted in _FIGURES.items():
                ((kept,),) = self._select("SELECT value FROM Settings WHERE key = ?", (key,))
                ((right,),) = self._select(counted)
                if kept != right:
                    self._say(
                        f"diskcache's {key} says {kept:,} instead of {right:,}",
                        partial(self._select, _SET_FIGURE, (right, key)),
                    )


def _shown(key: bytes) -> str:
    return repr(key.decode("utf-8", "replace"))
