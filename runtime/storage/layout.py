"""Where a data directory keeps the files of its objects, and which files belong to one object.

    slots/00007.sqlite          what the objects of slot 7 share
    slots/0-5f3a9c21.journal    what host 0 has committed and these files may lack
    objects/00007/<id>.sqlite   an object's own file, beside it its log and its history

`stored_objects` is for a directory that no host uses.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from runtime.storage.journal import forget, members_of
from runtime.storage.slot_file import SlotFile
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

    from runtime.storage.slot_file import ObjectRecord

__all__ = [
    "clear_journals",
    "journal_path",
    "own_file",
    "own_files",
    "slot_files",
    "slot_path",
    "stored_objects",
]

_log = logging.getLogger("roost.storage")
_SUFFIX = ".sqlite"
_JOURNAL = ".journal"


def slot_path(data: Path, slot: int) -> Path:
    """Return where the file of a slot is."""
    return data / "slots" / f"{slot:05}{_SUFFIX}"


def slot_files(data: Path) -> Iterator[tuple[int, Path]]:
    """Yield the slots that have a file, in order."""
    for path in sorted((data / "slots").glob(f"*{_SUFFIX}")):
        yield int(path.stem), path


def journal_path(data: Path, host: int) -> Path:
    """Return where a new journal of a host may be."""
    return data / "slots" / f"{host}-{secrets.token_hex(4)}{_JOURNAL}"


def clear_journals(
    data: Path,
    host: int | None = None,
    opened: Container[int] | None = None,
    but: Path | None = None,
) -> None:
    """Remove journals that were left by hosts that were killed, once their files have what they have.

    Of all hosts, in a directory that no host uses; or those of one host before its own, `but`, if it has
    `opened` all slots of them, which has brought in their rows. One with a file that cannot be used stays.
    """
    for path in (data / "slots").glob(f"{'*' if host is None else host}-*{_JOURNAL}"):
        if path == but:
            continue
        try:
            slots = [int(label) for label in members_of(path)]
            if opened is None:
                for slot in slots:
                    SlotFile(slot_path(data, slot)).close()
            if opened is None or all(slot in opened for slot in slots):
                path.unlink(missing_ok=True)
        except (OSError, StorageError) as error:
            _log.warning("journal %s stays until the next start: %s", path, error)
    forget()


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
