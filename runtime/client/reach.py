"""Objects from outside, for commands: a running instance's hosts are asked, a stopped one's files read.

Both ways have the same methods. What a stopped instance has is kept from starting meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from runtime.client.sync_runtime import Runtime, connect
from runtime.config import Limits
from runtime.directories import kept_free, kept_slots
from runtime.host.tending import Shown
from runtime.ids import slot_of
from runtime.storage import ObjectFiles, ObjectRecord, SlotFile
from runtime.storage.copies import copy_object, copy_slot, delete_object, facts_of
from runtime.storage.layout import slot_files, slot_path, stored_objects
from workers.errors import RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from runtime.config import Config

__all__ = ["Objects", "reach"]


class RunningObjects:
    """The objects of a running instance."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        connection = runtime._connection  # noqa: SLF001  (this package's own)
        self._caller = connection.caller
        self._hosts = connection.roster.hosts
        self.config: Config | None = connection.bindings.config
        """The worker's; None when no instance runs to tell."""

    def objects(self, class_name: str | None, limit: int) -> list[ObjectRecord]:
        """Return objects that have stored something, at most `limit`."""
        return self._runtime.objects(class_name, limit=limit)

    def show(self, raw: bytes) -> Shown | None:
        """Return what an object has stored and how it fares; None when it has stored nothing."""
        shown: Shown | None = self._ask(raw, "show", raw)
        return shown

    def copy(self, raw: bytes, target: Path) -> ObjectRecord | None:
        """Copy an object into a file like an object's own; None when it has stored nothing."""
        record: ObjectRecord | None = self._ask(raw, "copy", raw, str(target.absolute()))
        return record

    def delete(self, raw: bytes) -> bool:
        """Delete all that an object has stored; whether there was something."""
        return bool(self._ask(raw, "delete", raw))

    def backup(self, target: Path, *, history: bool) -> None:
        """Copy all objects, with their histories or without, into a directory laid out like a data directory."""
        where = str(target.absolute())
        slots = iter(range(self._caller.slots))

        async def some() -> None:
            for slot in slots:  # whichever comes next: one at a time for each host
                await self._caller.tend(slot, "backup", where, history)

        async def all_of_them() -> None:
            await asyncio.gather(*(some() for _ in range(self._hosts)))

        self._wait(all_of_them())

    def _ask(self, raw: bytes, verb: str, *arguments: Any) -> Any:
        async def ask() -> Any:
            return await self._caller.tend(slot_of(raw, self._caller.slots), verb, *arguments)

        return self._wait(ask())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runtime._calls.wait(work)  # noqa: SLF001


class StoredObjects:
    """The objects of a data directory that no instance uses."""

    def __init__(self, data: Path) -> None:
        self.config: Config | None = None
        self._data = data
        self._slots = kept_slots(data)
        # The worker's `history_days` are not known here, so nothing is too old.
        self._files = ObjectFiles(data / "objects", "strict", Limits(history_days=1 << 20))

    def objects(self, class_name: str | None, limit: int) -> list[ObjectRecord]:
        """See `RunningObjects`, as for all methods."""
        return list(islice(stored_objects(self._data, class_name), limit))

    def show(self, raw: bytes) -> Shown | None:
        """Return what an object has stored."""
        with self._file(raw) as (slot, file):
            facts = None if file is None else facts_of(slot, file, self._files, raw)
        return None if facts is None else Shown(facts, None, live=False, sockets=0)

    def copy(self, raw: bytes, target: Path) -> ObjectRecord | None:
        """Copy an object."""
        with self._file(raw) as (slot, file):
            record = None if file is None else file.record(raw)
            if file is not None and record is not None:
                for _ in copy_object(slot, file, self._files, raw, target):
                    pass
        return record

    def delete(self, raw: bytes) -> bool:
        """Delete an object."""
        with self._file(raw) as (slot, file):
            if file is None or file.record(raw) is None:
                return False
            delete_object(slot, file, self._files, raw)
        return True

    def backup(self, target: Path, *, history: bool) -> None:
        """Copy all objects."""
        for slot, path in slot_files(self._data):
            with closing(SlotFile(path)) as file:
                for _ in copy_slot(self._data, slot, file, self._files, target, history=history):
                    pass

    @contextmanager
    def _file(self, raw: bytes) -> Iterator[tuple[int, SlotFile | None]]:
        slot = slot_of(raw, self._slots or 1)
        path = slot_path(self._data, slot)
        if self._slots is None or not path.exists():
            yield slot, None
        else:
            with closing(SlotFile(path)) as file:
                yield slot, file

    def close(self) -> None:
        """Close all files."""
        self._files.close()


Objects: TypeAlias = RunningObjects | StoredObjects


@contextmanager
def reach(data: Path) -> Iterator[Objects]:
    """Reach the objects of a data directory, whether an instance runs or not.

    Raises DataDirInUse while one starts or stops, FileNotFoundError when none ever ran.
    """
    try:
        runtime = connect(data)
    except RuntimeClosed:
        with kept_free(data), closing(StoredObjects(data)) as stored:
            yield stored
    else:
        with closing(runtime):
            yield RunningObjects(runtime)
