"""The slot files that this host owns, opened when an object of theirs is first asked for.

Also the journal before them, and the files that objects of a SQLite class have beside them, once they
use SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.host.context import section_depth
from runtime.ids import slot_of
from runtime.storage import Journal, ObjectFiles, ObjectStorage, SlotFile
from runtime.storage.layout import clear_journals, journal_path, slot_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.config import Config
    from runtime.host.activation import Activation
    from runtime.roster import Roster
    from runtime.storage import ObjectRecord


class Slots:
    """Open files by slot."""

    def __init__(self, data: Path, roster: Roster, host: int, config: Config) -> None:
        self.data = data
        self.journal = Journal(journal_path(data, host), durability=config.durability)
        self._roster = roster
        self._changes = -1
        self._owners: list[int] = []
        self._host = host
        self._cleared = False
        self._limits = config.limits
        self._durability = config.durability
        self._sqlite_classes = config.sqlite_classes
        self._files: dict[int, SlotFile] = {}
        self.leaving: set[int] = set()
        """Slots that the table still gives to this host, which has given them away, or is about to."""
        self.files = ObjectFiles(data / "objects", config.durability, config.limits)
        self.look()

    def open(self, slot: int) -> SlotFile:
        """Return the file of a slot. Raises StorageError when it cannot be used."""
        file = self._files.get(slot)
        if file is None:
            path = slot_path(self.data, slot)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = self._files[slot] = SlotFile(
                path, durability=self._durability, journal=self.journal
            )
        return file

    def slot(self, raw: bytes) -> int:
        """Return the slot of an object."""
        return slot_of(raw, self._roster.slots)

    def look(self) -> bool:
        """Follow the slot table; returns whether it has changed.

        Only between two slices of work. Were a slot this host's in the middle of a batch, of which
        calls of it were refused, those after them would overtake these.
        """
        changes = self._roster.changes
        if changes == self._changes:
            return False
        self._changes, self._owners = changes, self._roster.owners.tolist()
        return True

    def owns(self, slot: int) -> bool:
        """Whether this host owns a slot, so that it may begin events of its objects."""
        return self._owners[slot] == self._host and slot not in self.leaving

    def has_file(self, slot: int) -> bool:
        """Whether a slot has a file."""
        return slot in self._files or slot_path(self.data, slot).exists()

    def owned(self) -> Iterator[int]:
        """Yield the slots of this host that have a file."""
        for slot in range(self._roster.slots):
            if self.owns(slot) and self.has_file(slot):
                yield slot

    def clear(self) -> None:
        """Remove the journals of this host's predecessors, once all its slots have what they have."""
        if self._cleared:
            return
        if all(slot in self._files for slot in self.owned()):
            self._cleared = True
            clear_journals(self.data, self._host, self._files, but=self.journal.path)

    def storage_for(self, activation: Activation) -> ObjectStorage:
        """Return the storage of an activation. Raises StorageError when its file cannot be used."""
        slot = self.slot(activation.id.raw)
        sqlite = activation.class_name in self._sqlite_classes
        return ObjectStorage(
            self.open(slot),
            activation.id,
            activation.class_name,
            on_write=activation.wrote,
            on_unconfirmed=activation.wrote_unconfirmed,
            confirm=activation.all_durable,
            limits=self._limits,
            files=self.files if sqlite else None,
            slot=slot,
            alone=activation.alone,
            depth=section_depth,
            can_alarm=activation.can_alarm,
            on_alarm=activation.alarm_set,
        )

    def objects(self, slot: int, class_name: str | None) -> Iterator[ObjectRecord]:
        """Yield the objects of a slot that have storage. Raises StorageError."""
        if self.has_file(slot):
            yield from self.open(slot).objects(class_name)

    def release(self, slot: int) -> None:
        """Close the files of a slot and its objects, which have nothing under way: it is given away."""
        self.files.release(slot)
        file = self._files.pop(slot, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self.files.close()
        self.journal.close()
