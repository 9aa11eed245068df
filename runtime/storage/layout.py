"""Where a data directory keeps the files of its objects, and which files belong to one object.

    slots/00007.sqlite          what the objects of slot 7 share
    objects/00007/<id>.sqlite   an object's own file, beside it its log and its history

`stored_objects` is for a directory that no host uses.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from runtime.storage.slot_file import SlotFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.storage.slot_file import ObjectRecord

__all__ = [
    "own_file",
    "own_files",
    "slot_files",
    "slot_path",
    "stored_objects",
]

_SUFFIX = ".sqlite"


def slot_path(data: Path, slot: int) -> Path:
    """Return where the file of a slot is."""
    return data / "slots" / f"{slot:05}{_SUFFIX}"


def slot_files(data: Path) -> Iterator[tuple[int, Path]]:
    """Yield the slots that have a file, in order."""
    for path in sorted((data / "slots").glob(f"*{_SUFFIX}")):
        yield int(path.stem), path


def own_file(data: Path, slot: int, raw: bytes) -> Path:
    """Return where an object has its own file, if it has one."""
    return data / "objects" / f"{slot:05}" / f"{raw.hex()}{_SUFFIX}"


def own_files(data: Path, slot: int) -> Iterator[tuple[bytes, Path]]:
    """Yield the objects of a slot that have a file of their own, in the order of ids."""
    for path in sorted((data / "objects" / f"{slot:05}").glob(f"*{_SUFFIX}")):
        with suppress(ValueError):
            yield bytes.fromhex(path.stem), path


def stored_objects(data: Path, class_name: str | None) -> Iterator[ObjectRecord]:
    """Yield the objects that have storage, of a class or all.

    Makes no file that was not there. Raises StorageError.
    """
    for _, path in slot_files(data):
        with closing(SlotFile(path)) as file:
            yield from file.objects(class_name)
