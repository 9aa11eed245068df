"""Moves slots from host to host, one at a time; who asks meanwhile waits for his turn.

The owner gives a slot up when nothing of it is under way and its files are closed; only then the slot
table names the other host, and everybody is told to look. An owner that cannot give the slot keeps it.
One that dies before it has said that it gave it has kept it too, so that a slot always has one owner.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from runtime import control
from runtime.supervisor.children import Child, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.roster import Roster

_log = logging.getLogger("roost")


class _Move(NamedTuple):
    slot: int
    host: int
    said: Callable[[str], None]


class Moves:
    """See the module's text. `host` is the present child of a number, `tell` has all look at the roster."""

    def __init__(
        self, roster: Roster, host: Callable[[int], Child | None], tell: Callable[[], None]
    ) -> None:
        self._roster = roster
        self._host = host
        self._tell = tell
        self._asked: deque[_Move] = deque()
        self._giver: Child | None = None
        """Who was told to give the slot of the first move; None when there is none."""

    @property
    def idle(self) -> bool:
        """Whether no slot moves."""
        return not self._asked

    def ask(self, slot: int, host: int, said: Callable[[str], None]) -> None:
        """Have a host own a slot; `said` is called with why it does not, or with "" when it does."""
        self._asked.append(_Move(slot, host, said))
        if len(self._asked) == 1:
            self._begin()

    def _begin(self) -> None:
        while self._asked:
            slot, host, _ = self._asked[0]
            owner = self._roster.owners[slot]
            giver = self._host(owner)
            why = ""
            if owner != host:
                up = [
                    child is not None and child.stage is Stage.UP
                    for child in (giver, self._host(host))
                ]
                if all(up):
                    assert giver is not None
                    self._giver = giver
                    control.say(giver.connection, "give", str(slot))
                    return
                absent = host if up[0] else owner
                why = f"slot {slot} stays at host {owner}: host {absent} is not up, ask again"
            self._asked.popleft().said(why)

    def gave(self, child: Child, slot: int) -> None:
        """Take note that a host has given up a slot."""
        host = self._asked[0].host if child is self._giver else child.number
        self._roster.set_owner(slot, host)
        control.say(child.connection, "moved", str(slot))
        self._tell()
        _log.info("slot %s moved from host %s to host %s", slot, child.number, host)
        self._ended(child, "")

    def kept(self, child: Child, text: str) -> None:
        """Take note that a host keeps a slot that it was told to give."""
        slot, _, why = text.partition(" ")
        self._ended(child, f"slot {slot} stays at host {child.number}: {why}")

    def ended(self, child: Child) -> None:
        """Take note that a host has ended: what it had not given it has kept."""
        if child is self._giver:
            slot = self._asked[0].slot
            self._ended(child, f"slot {slot} stays at host {child.number}, which ended: ask again")

    def _ended(self, child: Child, why: str) -> None:
        if child is not self._giver:
            return
        self._giver = None
        self._asked.popleft().said(why)
        self._begin()
