"""The files of the objects of one host that use SQL: found, made, and a bounded number open.

Each slot has a folder, `objects/<slot>/<id>.sqlite`, and who owns the slot file owns the folder.
When one file more than the bound would be open, the one that was used longest ago is closed, unless
it has work under way. Closing makes a checkpoint, which waits for the disk, so a thread does it; an
opening of the same file waits for it.
"""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from runtime.directories import sync_directory
from runtime.storage.object_file import ObjectFile
from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from runtime.config import Durability, Limits

__all__ = ["ObjectFiles"]

MOST_OPEN: Final = 512
"""How many object files a host keeps open. Each takes three descriptors and about 200 KiB."""

_LOOK: Final = 16
"""Among how many of the files that were used longest ago one to close is looked for."""


class ObjectFiles:
    """See the module's text. Belongs to its host's loop."""

    __slots__ = ("_closer", "_closing", "_directory", "_folders", "_limit", "_make", "_open")

    def __init__(
        self,
        directory: Path,
        durability: Durability,
        limits: Limits,
        *,
        limit: int = MOST_OPEN,
        fdatasync: Callable[[int], None] = os.fdatasync,
        vfs: str | None = None,
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            # Files with work under way stay open, so that a busy tick may pass the bound.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._directory = directory
        self._folders: dict[int, bool] = {}
        self._limit = limit
        self._make = partial(
            ObjectFile, durability=durability, limits=limits, fdatasync=fdatasync, vfs=vfs
        )
        self._open: OrderedDict[tuple[int, bytes], ObjectFile] = OrderedDict()
        self._closing: dict[tuple[int, bytes], Future[None]] = {}
        self._closer: ThreadPoolExecutor | None = None

    def path(self, slot: int, raw: bytes) -> str:
        """Return where the file of an object is, if it has one."""
        return f"{self._directory}/{slot:05}/{raw.hex()}.sqlite"

    def find(self, slot: int, raw: bytes) -> ObjectFile | None:
        """Return the file of an object; None when it has none, or one that is no home."""
        key = slot, raw
        file = self._open.get(key)
        if file is not None:
            self._open.move_to_end(key)
            return file if file.is_home else None
        if not self._has_folder(slot):
            return None
        if key not in self._closing and not os.path.exists(self.path(slot, raw)):  # noqa: PTH110
            return None
        file = self.make(slot, raw)
        return file if file.is_home else None

    def _has_folder(self, slot: int) -> bool:
        """Whether objects of a slot may have files. The disk is asked once: nobody else makes it."""
        found = self._folders.get(slot)
        if found is None:
            found = self._folders[slot] = (self._directory / f"{slot:05}").exists()
        return found

    def peek(self, slot: int, raw: bytes) -> ObjectFile | None:
        """Return the file of an object if it is open."""
        return self._open.get((slot, raw))

    def make(self, slot: int, raw: bytes) -> ObjectFile:
        """Return the file of an object, made if there is none. Raises StorageError."""
        key = slot, raw
        file = self._open.get(key)
        if file is None:
            closing = self._closing.pop(key, None)
            if closing is not None:
                closing.result()
            folder = self._directory / f"{slot:05}"
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folders[slot] = True
            except OSError as cause:
                raise StorageError(f"{folder} cannot be made: {cause}") from cause
            self._make_room()
            file = self._open[key] = self._make(folder / f"{raw.hex()}.sqlite")
        else:
            self._open.move_to_end(key)
        return file

    def _make_room(self) -> None:
        """Close what was used longest ago, so that one more may be open."""
        if len(self._open) < self._limit:
            return
        for key, file in list(islice(self._open.items(), _LOOK)):
            if file.resting:
                del self._open[key]
                if self._closer is None:
                    self._closer = ThreadPoolExecutor(1, thread_name_prefix="roost-close")
                self._closing[key] = closing = self._closer.submit(_close, file)
                if closing.done():
                    del self._closing[key]
                if len(self._open) < self._limit:
                    break
        for key in [key for key, closing in self._closing.items() if closing.done()]:
            del self._closing[key]

    def remove(self, slot: int, raw: bytes) -> None:
        """Delete the file of an object."""
        file = self._open.pop((slot, raw), None)
        if file is not None:
            file.remove()

    def delete(self, slot: int, raw: bytes) -> None:
        """Delete the file of an object, if there is one, durably. Waits for the disk."""
        path = self.path(slot, raw)
        if (slot, raw) in self._open or (slot, raw) in self._closing or os.path.exists(path):  # noqa: PTH110
            folder = self.make(slot, raw).path.parent
            self.remove(slot, raw)
            sync_directory(folder)

    def release(self, slot: int) -> None:
        """Close the files of a slot, and forget what is known of it: another process may have it next."""
        for key in [key for key in self._open if key[0] == slot]:
            self._open.pop(key).close()
        for key in [key for key in self._closing if key[0] == slot]:
            self._closing.pop(key).result()
        self._folders.pop(slot, None)

    def close(self) -> None:
        """Close all files."""
        if self._closer is not None:
            self._closer.shutdown()
        for file in self._open.values():
            file.close()
        self._open.clear()


def _close(file: ObjectFile) -> None:
    with suppress(StorageError):  # the next opening makes the checkpoint, or tells why it cannot
        file.close()
