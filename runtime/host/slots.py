"""The slot files that this host owns, opened when an object of theirs is first asked for."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from runtime.ids import host_of, slot_of
from runtime.storage import ObjectRecord, ObjectStorage, SlotFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.config import Durability, Limits
    from runtime.host.activation import Activation


class Slots:
    """Open files by slot."""

    def __init__(self, data: Path, slots: int, hosts: int, durability: Durability) -> None:
        self._directory = data / "slots"
        self._slots = slots
        self._hosts = hosts
        self._durability = durability
        self._files: dict[int, SlotFile] = {}

    def _open(self, slot: int) -> SlotFile:
        file = self._files.get(slot)
        if file is None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path = slot_path(self._directory, slot)
            file = self._files[slot] = SlotFile(path, durability=self._durability)
        return file

    def storage_for(self, activation: Activation, limits: Limits) -> ObjectStorage:
        """Return the storage of an activation. Raises StorageError when its file cannot be used."""
        return ObjectStorage(
            self._open(slot_of(activation.id.raw, self._slots)),
            activation.id,
            activation.class_name,
            on_write=activation.wrote,
            confirm=activation.confirm,
            limits=limits,
        )

    def objects(self, host: int, class_name: str | None) -> Iterator[ObjectRecord]:
        """Yield the objects of a host's slots that have storage. Raises StorageError."""
        for slot in range(self._slots):
            owned = host_of(slot, self._hosts) == host
            if owned and slot_path(self._directory, slot).exists():
                yield from self._open(slot).objects(class_name)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def stored_objects(data: Path, class_name: str | None) -> Iterator[ObjectRecord]:
    """Yield the objects that have storage in a data directory while no host uses it.

    Makes no file that was not there. Raises StorageError.
    """
    for path in sorted((data / "slots").glob("*.sqlite")):
        with closing(SlotFile(path)) as file:
            yield from file.objects(class_name)


def slot_path(directory: Path, slot: int) -> Path:
    """Return the file of a slot."""
    return directory / f"{slot:05}.sqlite"
