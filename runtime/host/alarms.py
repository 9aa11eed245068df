"""Rings the alarms of this host's objects, also of those that are not in memory.

At least once: an alarm's row leaves its file only with the commit that follows a call of `alarm()`
that succeeded, or the last that failed. So an alarm that was ringing when its host died rings again.
One that fails is retried after 2 s, and then each time after twice as long, six times. None rings
before its time, and no object's twice at once.

Alarms call their objects like any caller, through a channel of their own: the answer comes when
what `alarm()` wrote is durable.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.host.alarm_heap import AlarmHeap
from runtime.host.channel import Channel
from runtime.storage import AlarmInfo, retry
from runtime.wire import messages as m
from runtime.wire.codec import unpack_error
from workers.errors import RoostError, StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from runtime.host.activation import Activation
    from runtime.host.host import Host
    from runtime.host.slots import Slots
    from runtime.storage import Alarm
    from runtime.wire.codec import Frame
    from runtime.wire.messages import Batch

__all__ = ["Alarms"]

_log = logging.getLogger("roost.alarms")

MOST_RINGING: Final = 1000
"""How many objects of a host run their alarm() at once; the others wait for one of them to end."""

LOOK_AGAIN_MS: Final = 60_000
"""When an alarm that rang is looked at again, in case that what followed could not be committed."""


class _Ringing(NamedTuple):
    """A call of alarm() under way."""

    slot: int
    class_name: str
    name: str | None
    object_id: bytes
    alarm: Alarm


class Alarms:
    """See the module's text. Belongs to its host's loop; `clock` is in seconds since 1970."""

    def __init__(
        self,
        host: Host,
        slots: Slots,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._slots = slots
        self._clock = clock
        self._chance = chance
        self._heaps: dict[int, AlarmHeap] = {}
        self._channel = Channel(host, self, is_peer=True)
        self._calls: dict[int, _Ringing] = {}
        self._busy: set[bytes] = set()
        self._missed: set[bytes] = set()
        """Of those whose alarm() runs, the ones whose next alarm was due meanwhile."""
        self._given_up: set[bytes] = set()
        """Of those whose alarm() runs, the ones that want it not called again."""
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0

    def tick(self) -> None:
        """Look at slots that were not looked at, and at the clock; once a second."""
        for slot in self._slots.owned():
            if slot not in self._heaps:
                self._heap(slot)
        self._host.loop.call_soon(self.wake)  # not within the Task that ticks: it runs events

    def set(self, object_id: bytes, alarm: Alarm | None) -> None:
        """Take note that an object's alarm is durably set, or deleted."""
        heap = self._heap(self._slots.slot(object_id))
        if heap is not None:
            heap.set(object_id, None if alarm is None else alarm.due)
            if alarm is not None:
                self._arm(alarm.due)

    def _heap(self, slot: int) -> AlarmHeap | None:
        """Return the alarms of a slot; None while its file cannot be opened, or is another host's."""
        heap = self._heaps.get(slot)
        if heap is None and self._slots.owns(slot):
            try:
                file = self._slots.open(slot)
            except StorageError as error:  # the host before this one may still have it
                _log.debug("the alarms of slot %d wait: %s", slot, error)
                return None
            heap = self._heaps[slot] = AlarmHeap(file.next_alarms)
        return heap

    def drop(self, slot: int) -> None:
        """Ring no more of a slot's alarms."""
        self._heaps.pop(slot, None)

    def give_up(self, object_id: bytes) -> None:
        """Call an object's alarm() that runs now not again, however it ends."""
        if object_id in self._busy:
            self._given_up.add(object_id)

    def rings(self, slot: int) -> bool:
        """Whether an alarm of a slot is ringing."""
        return any(ringing.slot == slot for ringing in self._calls.values())

    # --- ringing ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Ring what is due, and sleep until the next."""
        now = self._now()
        for slot, heap in list(self._heaps.items()):
            try:
                while self._may_ring and (object_id := heap.pop(now)) is not None:
                    heap.set(object_id, now + LOOK_AGAIN_MS, anyway=True)
                    if object_id in self._busy:
                        self._missed.add(object_id)
                    else:
                        self._ring(slot, object_id, now)
            except StorageError as error:
                _log.error("the alarms of slot %d cannot be read: %s", slot, error)
        if self._may_ring:  # otherwise the next that ends wakes it
            self._arm(min(self._firsts(), default=None))

    @property
    def _may_ring(self) -> bool:
        host = self._host
        return len(self._calls) < MOST_RINGING and not (host.leaving or host.closed)

    def _firsts(self) -> Iterable[int]:
        for heap in self._heaps.values():
            try:
                first = heap.first()
            except StorageError:
                continue
            if first is not None:
                yield first

    def _ring(self, slot: int, object_id: bytes, now: int) -> None:
        found = self._slots.open(slot).due_alarm(object_id)
        if found is None or found.alarm.due > now:
            self._heaps[slot].set(object_id, None if found is None else found.alarm.due)
            return
        class_name, name, alarm = found
        if class_name not in self._host.script.objects:
            return  # it rings when the class is back
        ringing = _Ringing(slot, class_name, name, object_id, alarm)
        activation = self._activation(ringing)
        if activation.storage.has_failed or not activation.storage.ring(alarm):
            return
        self._number += 1
        self._calls[self._number] = ringing
        self._busy.add(object_id)
        activation.deliver(
            (self._channel, self._number, None),
            "alarm",
            (AlarmInfo(alarm.retries, alarm.scheduled),),
            None,
        )

    def _activation(self, ringing: _Ringing) -> Activation:
        catalog = self._host.catalog
        live = catalog.get(ringing.object_id)
        target = ringing.class_name, ringing.object_id, ringing.name
        return live if live is not None else catalog.activate(target)

    def send(self, batch: Batch, _frames: list[Frame]) -> None:
        """Take the answers of alarm(): the way out of the channel."""
        for message in batch:
            ringing = self._calls.pop(message[1])
            self._busy.discard(ringing.object_id)
            error = unpack_error(message[2]) if message[0] == m.ERROR else None
            try:
                self._ended(ringing, error)
            except RoostError as failure:  # it is looked at again in a while
                _log.error("the alarm of %s: %s", ringing.object_id.hex(), failure)
            if ringing.object_id in self._missed:
                self._missed.discard(ringing.object_id)
                heap = self._heaps.get(ringing.slot)
                if heap is not None:
                    heap.set(ringing.object_id, self._now(), anyway=True)
        if batch:
            self._host.loop.call_soon(self.wake)
            self._host.handover.look()

    def _ended(self, ringing: _Ringing, error: Exception | None) -> None:
        then = None
        if error is not None:
            counts = bool(getattr(error, "remote", False))
            if ringing.object_id not in self._given_up:
                then = retry(ringing.alarm, self._now(), self._chance, counts=counts)
            _log.error(
                "alarm() of %s %s failed, %s: %s",
                ringing.class_name,
                ringing.object_id.hex(),
                "for the last time" if then is None else "and will be called again",
                error,
            )
        self._given_up.discard(ringing.object_id)
        self._activation(ringing).storage.rang(ringing.alarm, then)

    # --- time ------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _arm(self, due: int | None) -> None:
        """Wake at a time, unless it is later than when this wakes anyway."""
        if self._timer is not None:
            if due is None or self._armed <= due:
                return
            self._timer.cancel()
        self._timer = None
        if due is not None:
            self._armed = due
            delay = max(0, due - self._now()) / 1000
            self._timer = self._host.loop.call_later(delay, self._wake_up)

    def _wake_up(self) -> None:
        self._timer = None
        self.wake()

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
