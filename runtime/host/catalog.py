"""The activations of one host: at most one an object.

A call of an object that is not there activates it. One that has had nothing to do for `idle_s`
seconds is evicted within as many again, which costs nothing but memory's return: its state is in
storage. Those of a slot that is given away stand aside: no call finds them there. Evictions are looked for in the order of activation, each activation once per `idle_s`, never
by a scan of all.
"""

from __future__ import annotations

import gc
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from runtime.host.activation import Activation
from runtime.ids import ObjectId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.host.host import Host
    from runtime.wire.messages import Target


class Catalog:
    """See the module's text. `now` is a coarse clock in seconds, advanced by `tick`."""

    __slots__ = (
        "_evicted",
        "_host",
        "_idle",
        "_idle_s",
        "_kind",
        "_leaving",
        "aside",
        "live",
        "now",
    )

    def __init__(self, host: Host, idle_s: float) -> None:
        self._host = host
        self._idle_s = idle_s
        self.now = 0.0
        self._evicted = 0  # since memory was given back
        self.live: dict[bytes, Activation] = {}
        self.aside: dict[bytes, Activation] = {}
        """Those of the slot that is being given away."""
        self._leaving = -1  # that slot
        self._kind: type[Activation] = Activation  # of what kind those are
        self._idle: deque[tuple[float, Activation]] = deque()

    def __len__(self) -> int:
        return len(self.live) + len(self.aside)

    def __iter__(self) -> Iterator[Activation]:
        return chain(self.live.values(), self.aside.values())

    def find(self, raw: bytes) -> Activation | None:
        """Return the activation of an id, if it is in memory."""
        return self.live.get(raw) or self.aside.get(raw)

    def get(self, raw: bytes) -> Activation | None:
        """Return the activation of an id, if it is in memory, as one that is used."""
        activation = self.find(raw)
        if activation is not None:
            activation.touched = self.now
        return activation

    def activate(self, target: Target) -> Activation:
        """Make the activation of an object. Its instance is made by its first event."""
        class_name, raw, name = target
        leaving = self._leaving >= 0 and self._host.slot_of(raw) == self._leaving
        kind = self._kind if leaving else Activation
        activation = kind(self._host, class_name, ObjectId(raw, name))
        activation.touched = self.now
        (self.aside if leaving else self.live)[raw] = activation
        self._idle.append((self.now + self._idle_s, activation))
        self._host.sockets.waking(activation)
        return activation

    def drop(self, activation: Activation) -> None:
        """Forget an activation."""
        for place in (self.live, self.aside):
            if place.get(activation.id.raw) is activation:
                del place[activation.id.raw]

    def set_aside(self, slot: int, kind: type[Activation]) -> None:
        """Have the activations of a slot, and those that are yet made, be of a kind, and aside."""
        self._leaving, self._kind = slot, kind
        for raw in [raw for raw in self.live if self._host.slot_of(raw) == slot]:
            activation = self.aside[raw] = self.live.pop(raw)
            activation.__class__ = kind

    def take_back(self) -> None:
        """Take back what stands aside."""
        for activation in self.aside.values():
            activation.__class__ = Activation
            self._idle.append((self.now + self._idle_s, activation))
        self.live |= self.aside
        self.forget_aside()

    def forget_aside(self) -> None:
        """Forget what stands aside: another host has it."""
        self._leaving = -1
        self.aside = {}

    def replace(self, reset: Activation) -> None:
        """Forget an activation that was reset; events that came since go to a new one.

        One of these may reset the new one too: each goes to the one that is live when its turn comes.
        """
        self.drop(reset)
        target = (reset.class_name, reset.id.raw, reset.id.name)
        for event in reset.take_mailbox():
            self._host.deliver_again(target, event)

    def tick(self, now: float) -> None:
        """Advance the clock and evict what has been idle for long enough."""
        self.now = now
        idle = self._idle
        for _ in range(len(idle)):  # each once, also when idle_s is 0
            if idle[0][0] > now:
                break
            _, activation = idle.popleft()
            if self.find(activation.id.raw) is not activation:
                continue
            if not activation.idle:
                activation.touched = now
            elif activation.touched + self._idle_s <= now:
                self.drop(activation)
                activation.storage.retire()  # its Tasks may go on, and another instance be there
                self._evicted += 1
                continue
            idle.append((now + self._idle_s, activation))
        # An activation and what belongs to it name each other. To look for such cycles takes as long as
        # there are objects, so not while events wait, nor before most of the objects are gone.
        if self._evicted > len(self.live) and not self._host.waiting:
            self._evicted = 0
            gc.collect()
