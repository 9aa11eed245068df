"""Group commit of one host: which objects commit together, and whose writes failed.

A round takes the changes of all marked objects, commits them in one transaction a slot file and one
in each object's own file, syncs each file once, and then tells every storage how it ended. A file
that fails to commit or to sync fails the objects that had changes in it, and no others. An own file
commits, and is synced, after the slot file: it must not have what the slot file lacks. No loop and no thread in here: the host
calls `start_round` and `end_round` on its loop and `Round.sync` on its sync threads.

One round is under way at a time; marks gather for the next meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.storage.object_file import ObjectFile
    from runtime.storage.slot_file import SlotFile
    from runtime.storage.store import Store
    from runtime.storage.write_set import Change, Puts

__all__ = ["CommitGroup", "Round"]


@dataclass(slots=True)
class _Part:
    """What a round does to one file."""

    file: SlotFile | ObjectFile
    taken: list[tuple[Store, Change | Puts]] = field(default_factory=list)
    error: Exception | None = None

    def commit(self) -> None:
        """Make the file's transaction."""
        try:
            self.file.commit([change for _, change in self.taken])
        except Exception as error:
            self.error = error


class Round:
    """One group commit under way: its transactions are made, its files want their sync."""

    __slots__ = ("_failures", "_homes", "_slots", "_taken")

    def __init__(
        self,
        slots: list[_Part],
        homes: list[_Part],
        taken: list[tuple[Store, Change | Puts]],
        failures: dict[int, Exception],
    ) -> None:
        self._slots = slots
        self._homes = homes
        self._taken = taken
        self._failures = failures  # of storages whose changes could not be taken, by their id()

    @property
    def _parts(self) -> list[_Part]:
        return [*self._slots, *self._homes]

    @property
    def files(self) -> list[SlotFile | ObjectFile]:
        """The files that have commits of this round."""
        return [part.file for part in self._parts if part.error is None]

    @property
    def storages(self) -> list[Store]:
        """The storages whose changes are in this round."""
        return [storage for storage, _ in self._taken]

    @property
    def needs_sync(self) -> bool:
        """Whether `sync()` has anything to do."""
        return any(file.needs_sync for file in self.files)

    @property
    def stages(self) -> tuple[list[_Part], list[_Part]]:
        """What `sync()` takes, one stage after the other; the parts of one in any order, or at once."""
        return self._slots, self._homes

    def sync(self, parts: Iterable[_Part] | None = None) -> None:
        """Make the round durable, or some parts of it; failures are kept for `end_round`. Blocks.

        The one method for sync threads.
        """
        for part in self._parts if parts is None else parts:
            if part.error is None:
                try:
                    part.file.sync()
                except Exception as error:
                    part.error = error


class CommitGroup:
    """See the module's text. Belongs to its host's loop."""

    __slots__ = ("_marked", "_under_way")

    def __init__(self) -> None:
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
        parts: dict[SlotFile, _Part] = {}
        homes: list[_Part] = []
        taken: list[tuple[Store, Change | Puts]] = []
        failures: dict[int, Exception] = {}
        for storage in marked:
            if storage.has_failed:
                failures[id(storage)] = storage.cause or StorageError(
                    "the object was reset before its commit"
                )
                continue
            try:
                change = storage.take_changes()
            except Exception as error:  # memory may run out, or an object's own disk
                storage.failed()
                failures[id(storage)] = error
                continue
            if change is not None:
                entry = storage, change
                taken.append(entry)
                part = parts.get(storage.file)
                if part is None:
                    part = parts[storage.file] = _Part(storage.file)
                part.taken.append(entry)
                if change.home is not None:
                    change.home.rounds += 1
                    homes.append(_Part(change.home, [entry]))
        for part in parts.values():
            part.commit()
        for part in homes:
            part.error = parts[part.taken[0][0].file].error
            if part.error is None:
                part.commit()
        self._under_way = Round([*parts.values()], homes, taken, failures)
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
            if cause is not None:
                for storage, _ in part.taken:
                    failures.setdefault(id(storage), cause)
        for storage, change in ended._taken:  # noqa: SLF001
            if change.home is not None:
                change.home.rounds -= 1
            if failures and id(storage) in failures:
                storage.failed()
            else:
                storage.committed(change)
        return failures
