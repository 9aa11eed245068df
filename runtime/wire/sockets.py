"""What processes tell each other of WebSockets: offers, packages, and the census.

An object's answer to an upgrade carries an `Offer`: whose pair it is. Whoever gets it may pass it
on in a Response of its own, or let it drop, which its host is told.

Sockets live in gateways, so a host that activates an object must learn which ones it has. Asking
the gateways costs a round trip, which most objects need not pay: the `Census`, a file in the run
directory that every process maps, counts the objects with sockets by a part of their ids. A gateway
writes its own file, before it says anything of the socket to a host; hosts read all of them.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from workers import WebSocket

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.wire.messages import Message, Target

BUCKETS = 1 << 16
"""Counters of a census: with so many objects that have sockets, one in two asks in vain."""


@dataclass(slots=True)
class Offer:
    """A pair whose client's end is on its way to the gateway."""

    host: int
    """The host that has the other end."""
    pair: int
    """Its number there."""
    target: Target | None
    """The object that has the other end; None for the worker's entrypoint."""
    package: Package | None
    """What the socket has from the start; None when its end does not outlive its activation."""
    _finalizer: weakref.finalize[..., Any] | None = field(default=None, compare=False)

    def dropped_by(self, finalizer: weakref.finalize[..., Any]) -> None:
        """Take what is called when nobody uses the offer."""
        self._finalizer = finalizer

    def use(self) -> tuple[int, int, Target | None, Package | None]:
        """Take the offer up, or pass it on: from here it is the receiver's."""
        if self._finalizer is not None:
            self._finalizer.detach()
        return self.host, self.pair, self.target, self.package


class Package(NamedTuple):
    """What is kept of an object's socket, beside the connection itself."""

    tags: tuple[str, ...]
    attachment: bytes | None
    """Pickled by the object; nobody else reads it."""
    protocol: str | None
    """The subprotocol."""
    auto: tuple[str, str] | None = None
    """What the object answers without being woken, at the time of the upgrade."""


class Kept(NamedTuple):
    """A socket of an object, as its gateway tells a host."""

    number: int
    tags: tuple[str, ...]
    attachment: bytes | None
    protocol: str | None
    stamp: float | None
    """When a message was last answered without the object, in ms since the epoch."""
    dropped: int
    """Messages that it has missed because its client reads too slowly."""
    closing: bool
    """Whether the object has closed it."""


class Void:
    """Waits for the answer of a call that interests nobody."""

    __slots__ = ("call", "link", "message")
    call: int
    link: Any
    message: Message

    def __init__(self, link: Any) -> None:
        self.link = link

    def done(self) -> bool:
        """Nobody has left."""
        return False

    def set_result(self, _result: object, /) -> None:
        """Take the result."""

    def set_exception(self, _exception: BaseException, /) -> None:
        """Take the error."""


def offered_websocket(offer: Offer) -> WebSocket:
    """Return the end of a pair that another process offers: to be returned in a Response."""
    ws = WebSocket()
    ws._offer = offer  # noqa: SLF001  (the engine's own field)
    return ws


class Census:
    """How many objects of each bucket have sockets in one gateway."""

    __slots__ = ("_counters", "_map")

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        self._counters = memoryview(mapped).cast("I")

    @classmethod
    def create(cls, path: Path) -> Census:
        """Make the census of a gateway that starts: empty, in the file of its predecessor."""
        if not path.exists():  # a host must never map half of it, so it appears whole
            new = path.with_name(f".{path.name}")
            descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(descriptor, BUCKETS * 4)
            os.close(descriptor)
            new.rename(path)
        descriptor = os.open(path, os.O_RDWR)
        try:
            mapped = mmap.mmap(descriptor, BUCKETS * 4)
        finally:
            os.close(descriptor)
        mapped[:] = bytes(BUCKETS * 4)
        return cls(mapped)

    @classmethod
    def open(cls, path: Path) -> Census:
        """Map the census of a gateway to read it."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return cls(mmap.mmap(descriptor, BUCKETS * 4, prot=mmap.PROT_READ))
        finally:
            os.close(descriptor)

    def count(self, raw: bytes) -> int:
        """Return how many objects of an id's bucket have sockets."""
        return self._counters[raw[8] << 8 | raw[9]]

    def add(self, raw: bytes, change: int) -> None:
        """Count an object: its first socket came (1), or its last one went (-1)."""
        self._counters[raw[8] << 8 | raw[9]] += change


def census_path(run: Path, gateway: int) -> Path:
    """Return the census file of a gateway."""
    return run / f"sockets-{gateway}"


def gateways_of(run: Path) -> Iterator[int]:
    """Yield the numbers of the gateways that have a census."""
    for path in run.glob("sockets-*"):
        yield int(path.name.removeprefix("sockets-"))


def gateway_number(identity: bytes) -> int | None:
    """Return the number of a gateway by the name of its connection, None for another process."""
    if identity[:1] != b"g":
        return None
    return int(identity[1:].partition(b"-")[0])
