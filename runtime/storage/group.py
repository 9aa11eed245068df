"""Group commit of one host: which objects commit together, and whose writes failed.

A round takes the changes of all marked objects, appends puts and deletes to the journal, commits all
others in one transaction a slot file and one in each object's own file, syncs each file once, and then
tells every storage how it ended. A file that fails to commit or to sync fails the objects that had
changes in it, and no others. An own file commits, and is synced, after the slot file: it must not have
what the slot file lacks. In a round in which the journal starts anew all changes are committed in the
slot files; it starts when these are synced. No loop and no thread in here: the host
calls `start_round` and `end_round` on its loop and `Round.sync` on its sync threads.

One round is under way at a time; marks gather for the next meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.storage.journal import Journal, Rows
    from runtime.storage.object_file import ObjectFile
    from runtime.storage.slot_file import SlotFile
    from runtime.storage.store import Store
    from runtime.storage.write_set import Change

__all__ = ["CommitGroup", "Round"]

RECORD_BYTES: Final = 4 << 20
"""Of a round's puts go to the journal, at most and about; the others are committed in their files."""


@dataclass(slots=True, eq=False)
class _Part:
    """What a round does to one file."""

    file: SlotFile | ObjectFile | Journal
    storages: list[Store] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """Theirs; of a journal they are rows."""
    error: Exception | None = None

    def commit(self, file: SlotFile | ObjectFile) -> None:
        """Make the file's transaction."""
        try:
            file.commit(self.changes)
        except Exception as error:
            self.error = error

    def append(self, journal: Journal, rows: dict[SlotFile, Rows]) -> None:
        """Write the journal's record."""
        try:
            for file in rows:
                if file.unsound or file.in_journal != journal.id:  # it does not say so, or no more
                    file.commit(())
                    file.sync()
            journal.append(rows)
        except Exception as error:
            self.error = error
        else:
            for file, its in rows.items():
                file.take_in(its)


class Round:
    """One group commit under way: its transactions are made, its files want their sync."""

    __slots__ = ("_failures", "_homes", "_journal", "_rows", "_slots", "_taken")

    def __init__(
        self,
        slots: list[_Part],
        homes: list[_Part],
        journal: list[_Part],
        rows: list[Store],
        taken: list[tuple[Store, Change]],
        failures: dict[int, Exception],
    ) -> None:
        self._slots = slots  # if the journal was appended to, it is one of them
        self._homes = homes
        self._journal = journal  # if it starts
        self._rows = rows  # the storages whose changes are rows of the journal
        self._taken = taken
        self._failures = failures  # of storages whose changes could not be taken, by their id()

    @property
    def _parts(self) -> list[_Part]:
        return [*self._slots, *self._homes, *self._journal]

    @property
    def files(self) -> list[SlotFile | ObjectFile | Journal]:
        """The files that have commits of this round."""
        return [part.file for part in self._parts if part.error is None]

    @property
    def storages(self) -> list[Store]:
        """The storages whose changes are in this round."""
        return [*self._rows, *(storage for storage, _ in self._taken)]

    @property
    def needs_sync(self) -> bool:
        """Whether `sync()` has anything to do."""
        return any(file.needs_sync for file in self.files)

    @property
    def stages(self) -> tuple[list[_Part], ...]:
        """What `sync()` takes, one stage after the other; the parts of one in any order, or at once."""
        return self._slots, self._homes, self._journal

    def sync(self, parts: Iterable[_Part] | None = None) -> None:
        """Make the round durable, or some parts of it; failures are kept for `end_round`. Blocks.

        The one method for sync threads.
        """
        for part in self._parts if parts is None else parts:
            if part.error is None:
                try:
                    if part in self._journal and any(its.error for its in self._slots):
                        continue  # a file has not caught up, not durably
                    part.file.sync()
                except Exception as error:
                    part.error = error


class CommitGroup:
    """See the module's text. Belongs to its host's loop."""

    __slots__ = ("_journal", "_marked", "_under_way")

    def __init__(self, journal: Journal | None = None) -> None:
        """`journal` is that of the slot files; without one, each round syncs all it has changed."""
        self._journal = journal
        self._marked: dict[Store, None] = {}
        self._under_way: Round | None = None

    def mark(self, storage: Store) -> None:
        """Take a storage that has written into the next round."""
        self._marked[storage] = None

    def start_round(self) -> Round:
        """Commit what all marked storages have written, and return the round to be synced.

        A storage that was reset since it was marked has lost writes: it fails in this round, so
        that nothing that was said after those writes gets out. RuntimeError while a round is under
        way: were its sync to fail, what the next one commits could be built upon nothing.
        """
        if self._under_way is not None:
            raise RuntimeError("the round before has not ended")
        marked, self._marked = self._marked, {}
        journal = self._journal
        takes = None if journal is None or not journal.takes() else journal.id
        parts: dict[SlotFile, _Part] = {}
        homes: list[_Part] = []
        late: list[Store] = []
        rows: dict[SlotFile, Rows] = {}
        taken: list[tuple[Store, Change]] = []
        failures: dict[int, Exception] = {}
        room = RECORD_BYTES
        for storage in marked:
            file = storage.file
            if (
                takes is not None
                and file.in_journal == takes
                and not file.unsound  # that it says so may not be on disk
                and room > 0
                and not storage.has_failed
            ):
                its = rows.get(file) or ([], [], [])
                size = storage.take_rows(its, file.clock)
                if size:
                    rows[file] = its
                    room -= size
                    late.append(storage)
                    continue
            change = _take(storage, failures)
            if change is None:
                continue
            taken.append((storage, change))
            part = parts.get(file)
            if part is None:
                part = parts[file] = _Part(file)
            part.storages.append(storage)
            part.changes.append(change)
            if change.home is not None:
                change.home.rounds += 1
                homes.append(_Part(change.home, [storage], [change]))
        appends: list[_Part] = []
        starts: list[_Part] = []
        if journal is not None and late:
            appends.append(_Part(journal, late))
            appends[0].append(journal, rows)
        if journal is not None and journal.starting and (taken or late):
            for file in journal.members:
                parts.setdefault(file, _Part(file))
            starts.append(_Part(journal))
        _commit(parts, homes)
        if any(part.error for part in parts.values()):
            starts.clear()  # a file has not caught up: the next round tries again
        self._under_way = Round([*appends, *parts.values()], homes, starts, late, taken, failures)
        return self._under_way

    def end_round(self, ended: Round, error: BaseException | None = None) -> dict[int, Exception]:
        """Tell the round's storages how it ended; return the causes of those that failed.

        By `id()` of the storage. `error` is what `Round.sync()` itself died of, if it did: then
        nothing of the round is known to be durable.
        """
        if ended is not self._under_way:
            raise RuntimeError("this round is not under way")
        self._under_way = None
        failures = ended._failures  # noqa: SLF001 - the round is this group's own
        for part in ended._parts:  # noqa: SLF001
            cause = part.error
            if cause is None and error is not None:
                cause = StorageError(
                    f"the sync of {part.file.KIND} {part.file.path} died: {error!r}"
                )
                cause.__cause__ = error
                part.file.unsound = True
            if cause is not None:
                for storage in part.storages:
                    failures.setdefault(id(storage), cause)
        for storage, change in ended._taken:  # noqa: SLF001
            if change.home is not None:
                change.home.rounds -= 1
            if failures and id(storage) in failures:
                storage.failed()
            else:
                storage.committed(change)
        for storage in ended._rows:  # noqa: SLF001
            if failures and id(storage) in failures:
                storage.failed()
            else:
                storage.committed(None)
        return failures


def _commit(parts: dict[SlotFile, _Part], homes: list[_Part]) -> None:
    for file, part in parts.items():
        part.commit(file)
    for part in homes:
        part.error = parts[part.storages[0].file].error
        home = part.changes[0].home
        if part.error is None and home is not None:
            part.commit(home)


def _take(storage: Store, failures: dict[int, Exception]) -> Change | None:
    """Take what a storage has written; its failure, if it has failed, is entered."""
    if storage.has_failed:
        failures[id(storage)] = storage.cause or StorageError(
            "the object was reset before its commit"
        )
        return None
    try:
        return storage.take_changes()
    except Exception as error:  # memory may run out, or an object's own disk
        storage.failed()
        failures[id(storage)] = error
        return None
