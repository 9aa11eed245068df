"""What commands have done to objects: shown, copied, deleted, backed up, by the host that owns them.

Nothing here calls an object's code. An object is shown, copied and deleted between two of its
turns, when all that it has written is durable; its other events wait for that moment, as for a
transaction. Backups go on for long, a piece at a time, while events run.

| verb | arguments, after the slot | result |
|---|---|---|
| show | id | `Shown`, or None when nothing is stored |
| copy | id, path | copies the object into a file of its own; its `ObjectRecord`, or None |
| delete | id | whether there was something |
| backup | directory, whether with histories | whether the slot has a file, which was copied there |
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runtime.storage.copies import Facts, copy_object, copy_slot, delete_object, facts_of
from runtime.wire import messages as m
from runtime.wire.codec import pack, pack_error
from workers.errors import ObjectReset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from runtime.host.activation import Activation
    from runtime.host.channel import Channel
    from runtime.host.host import Host
    from runtime.host.slots import Slots
    from runtime.storage import ObjectRecord, SlotFile
    from runtime.wire.messages import Message

T = TypeVar("T")

__all__ = ["Shown", "Tending"]

LOOK_SECONDS: Final = 0.005
"""Between two looks at whether the gateways have told of an object's sockets."""

DELETED: Final = 1001, "the object was deleted"
"""Code and reason with which its WebSockets are closed."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An object, as its host sees it."""

    facts: Facts
    host: int | None
    """The host that owns it; None when no instance runs."""
    live: bool
    """Whether its instance is in memory."""
    sockets: int
    """WebSockets that it has accepted."""


class Tending:
    """See the module's text. Belongs to the host's loop."""

    def __init__(self, host: Host, slots: Slots) -> None:
        self._host = host
        self._slots = slots
        self._tasks: dict[asyncio.Task[None], int] = {}

    def handle(self, channel: Channel, message: Message) -> None:
        """Take a message."""
        host = self._host
        if host.closed or (host.leaving and not channel.is_peer):
            channel.post((m.REFUSED, message[1]))
            return
        slot = message[2]
        if not self._slots.owns(slot):
            host.handover.refuse(channel, message[1], slot)
            return
        task = host.loop.create_task(self._answer(channel, *message[1:]))
        self._tasks[task] = slot
        task.add_done_callback(self._ended)
        channel.under_way[message[1]] = task.cancel
        host.waiting += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._host.handover.look()

    def uses(self, slot: int) -> bool:
        """Whether something is being done to the objects of a slot."""
        return slot in self._tasks.values()

    async def _answer(
        self, channel: Channel, call: int, slot: int, verb: str, arguments: Any
    ) -> None:
        verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "show": self._show,
            "copy": self._copy,
            "delete": self._delete,
            "backup": self._backup,
        }
        try:
            result = await verbs[verb](slot, *arguments)
        except (Exception, asyncio.CancelledError) as error:
            channel.post((m.ERROR, call, pack_error(error, None, remote=False)))
        else:
            channel.post((m.RESULT_PACKED, call, pack(result)[0], 0))
        finally:
            self._host.waiting -= 1
            del channel.under_way[call]

    async def _show(self, slot: int, raw: bytes) -> Shown | None:
        file, files = self._slots.open(slot), self._slots.files
        before = self._host.catalog.get(raw)
        live = before is not None and before.instance is not None

        async def look(activation: Activation | None) -> Shown | None:
            facts = facts_of(slot, file, files, raw)
            sockets = None if activation is None else activation.sockets
            count = 0 if sockets is None else len(sockets.get(None))
            return None if facts is None else Shown(facts, self._host.number, live, count)

        return await self._between_turns(file, raw, look)

    async def _copy(self, slot: int, raw: bytes, path: str) -> ObjectRecord | None:
        file, files = self._slots.open(slot), self._slots.files
        record = file.record(raw)
        if record is None:
            return None

        async def copy(_: Activation | None) -> None:
            await _drive(copy_object(slot, file, files, raw, Path(path)))

        if files.find(slot, raw) is None:
            await self._between_turns(file, raw, copy)
            return record
        await copy(None)  # may take long, and finds its moment by itself
        activation = self._host.catalog.get(raw)
        if activation is not None:
            await _durable(activation)
        return record

    async def _delete(self, slot: int, raw: bytes) -> bool:
        file, files = self._slots.open(slot), self._slots.files
        deleted = False

        async def delete(activation: Activation | None) -> None:
            nonlocal deleted
            if file.record(raw) is None:
                return
            if activation is not None:
                if activation.sockets is not None:
                    activation.sockets.shut(*DELETED)
                activation.reset(
                    ObjectReset(f"{activation.class_name} {activation.id} was deleted")
                )
            delete_object(slot, file, files, raw)  # no await since: nobody has called it anew
            self._host.alarms.set(raw, None)
            deleted = True

        try:
            await self._between_turns(file, raw, delete)
        except asyncio.CancelledError:  # the reset ends also what runs in the object's name
            if not deleted:
                raise
        if deleted:
            await self._host.loop.run_in_executor(None, file.sync)
        return deleted

    async def _backup(self, slot: int, directory: str, history: bool) -> bool:
        if not self._slots.has_file(slot):
            return False
        file, files = self._slots.open(slot), self._slots.files
        target = Path(directory)
        await _drive(copy_slot(self._slots.data, slot, file, files, target, history=history))
        return True

    async def _between_turns(
        self, file: SlotFile, raw: bytes, body: Callable[[Activation | None], Awaitable[T]]
    ) -> T:
        """Do something while an object stands still and all that it has written is durable.

        Its activation is there, made if need be, unless its class is in the script no more.
        """
        host = self._host
        activation = host.catalog.get(raw)
        if activation is None:
            record = file.record(raw)
            if record is None or record.class_name not in host.script.objects:
                return await body(None)
            activation = host.catalog.activate((record.class_name, raw, record.name))
        while host.sockets.asks(activation):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(LOOK_SECONDS)

        async def section() -> T:
            await _durable(activation)
            return await body(activation)

        try:
            return await activation.alone(section)
        finally:
            if activation.instance is None and activation.idle:
                host.catalog.drop(activation)


async def _durable(activation: Activation) -> None:
    """Wait until all that an object has written is durable."""
    confirmation = activation.all_durable()
    if confirmation is not None:
        await confirmation


async def _drive(pieces: Generator[float, None, object]) -> None:
    """Do a long work piece by piece; the host's events have their turns in between."""
    with closing(pieces):
        for seconds in pieces:
            await asyncio.sleep(seconds)
