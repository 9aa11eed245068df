"""The slot files that this host owns, opened when an object of theirs is first activated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.ids import slot_of
from runtime.storage import ObjectStorage, SlotFile

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.config import Durability, Limits
    from runtime.host.activation import Activation


class Slots:
    """Open files by slot."""

    def __init__(self, data: Path, slots: int, durability: Durability) -> None:
        self._directory = data / "slots"
        self._slots = slots
        self._durability = durability
        self._files: dict[int, SlotFile] = {}

    def storage_for(self, activation: Activation, limits: Limits) -> ObjectStorage:
        """Return the storage of an activation. Raises StorageError when its file cannot be used."""
        slot = slot_of(activation.id.raw, self._slots)
        file = self._files.get(slot)
        if file is None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path = self._directory / f"{slot:05}.sqlite"
            file = self._files[slot] = SlotFile(path, durability=self._durability)
        return ObjectStorage(
            file,
            activation.id,
            activation.class_name,
            on_write=activation.wrote,
            confirm=activation.confirm,
            limits=limits,
        )

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
