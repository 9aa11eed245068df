"""What a host's time goes to: how much each slot takes, and which objects take most of it.

Sampled, so that a call costs nothing: whatever is handled when a portion of work has used up its time
is charged with that portion, and a call picked at random with what many short ones took together. What
goes on in Tasks, after an event has waited, is charged to the last that did, and what the entrypoint
takes to the object that it calls: near enough to choose a slot by.

Slots are counted in the roster, on and on. Of objects a few are known, with what they took lately;
those that take most stand in the roster too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from runtime.roster import HOT_OBJECTS, HotObject
from runtime.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.roster import Roster
    from runtime.wire.messages import Batch, Message, Target

KNOWN: Final = 256
"""Objects that are counted at most; when there are more, the half with least is forgotten."""

FADES: Final = 0.9
"""What of an object's time counts after a second: all that is told is of the last ten or so."""

LEAST: Final = 0.005
"""Part of a core below which an object is not worth a word."""


class Busy:
    """See the module's text. Belongs to its host's loop."""

    def __init__(self, roster: Roster, host: int, slot_of: Callable[[bytes], int]) -> None:
        self._roster = roster
        self._host = host
        self._slot_of = slot_of
        self._objects: dict[bytes, tuple[float, Target]] = {}
        self._used = time.thread_time_ns()
        self._charged = 0
        self.worked = 0
        """Nanoseconds spent handling messages since the last sample."""
        self.nested: Batch = []
        """The last calls that were run within an event which waits for them."""
        self.nested_at = 0
        """When they began."""

    def ran(self, message: Message, since: int, now: int) -> None:
        """Charge what a message is for, and what was called within, with a portion that it ended."""
        self._charged += now - since
        target, nested = _target(message), self._last_nested()
        if nested is None:
            self._charge(target, now - since)
        elif target is None or self.nested_at < since:  # the entrypoint's part is not told apart
            self._charge(nested, now - since)
        else:
            self._charge(target, self.nested_at - since)
            self._charge(nested, now - self.nested_at)

    def _last_nested(self) -> Target | None:
        nested, self.nested = self.nested, []
        return _target(nested[-1]) if nested else None

    def sample(self, batch: Batch, now: int, resumed: Target | None) -> None:
        """Charge the rest since the last sample: a message of a batch, and an event that has gone on."""
        used = time.thread_time_ns()
        rest = used - self._used - self._charged
        short = min(max(0, self.worked - self._charged), rest)
        self._used, self._charged, self.worked = used, 0, 0
        nested = self._last_nested()
        target = _target(batch[now % len(batch)]) if batch else None
        self._charge(target or nested, rest if resumed is None else short)
        self._charge(resumed, rest - short)

    def _charge(self, target: Target | None, ns: int) -> None:
        if target is None or ns <= 0:
            return
        raw = target[1]
        self._roster.busy[self._slot_of(raw)] += ns
        objects = self._objects
        known = objects.get(raw)
        if known is None and len(objects) >= KNOWN:
            # Half of them at once: to look for one among all takes 25 µs, each time.
            most = sorted(objects.items(), key=_time, reverse=True)[: KNOWN // 2]
            objects = self._objects = dict(most)
        objects[raw] = (ns if known is None else known[0] + ns, target)

    def tick(self) -> None:
        """Tell of the busiest objects, and let what was fade; once a second."""
        shares = [(ns * (1 - FADES) / 1e9, target) for ns, target in self._objects.values()]
        shares.sort(key=lambda each: each[0], reverse=True)
        hot = [
            HotObject(c, raw.hex(), name, share) for share, (c, raw, name) in shares[:HOT_OBJECTS]
        ]
        self._roster.set_hot(self._host, [each for each in hot if each.busy >= LEAST])
        self._objects = {
            target[1]: (ns * FADES, target)
            for ns, target in self._objects.values()
            if ns * (1 - FADES) / 1e9 >= LEAST / 10
        }


_OF_OBJECTS: Final = frozenset({m.CALL, m.CALL_PACKED, m.FETCH, m.RUN, m.TIMED, m.SAID})


def _time(known: tuple[bytes, tuple[float, Target]]) -> float:
    return known[1][0]


def _target(message: Message) -> Any:
    """Return the object that a message is for; None for another."""
    return message[2] if message[0] in _OF_OBJECTS else None
