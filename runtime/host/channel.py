"""One caller of this host: what it has sent and what it will be sent.

`batches` are the caller's messages that still wait for their turn; the host takes them in slices,
so that one flooding caller does not starve the others. `out` gathers what is said to the caller in
a tick and leaves as one batch: over the ROUTER, or straight into the host's own link when the
caller is this very host.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import zmq

from runtime.wire.codec import SOCKET, encode
from runtime.wire.numbers import Decoder
from runtime.wire.shelf import discard
from runtime.wire.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.wire.codec import Frame
    from runtime.wire.link import Link
    from runtime.wire.messages import Batch, Message
    from runtime.wire.shelf import Shelf, ShelfTo

_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)  # to put two flags together takes 0.5 µs


class Exit(Protocol):
    """The way out to a caller."""

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Send a batch. Raises LookupError when the caller is gone."""


class Flusher(Protocol):
    """Who sends what channels have gathered."""

    def flush_later(self, channel: Channel) -> None:
        """Flush a channel at the end of this tick."""


class Channel:
    """See the module's text. Belongs to the host's loop."""

    __slots__ = (
        "_exit",
        "_flusher",
        "_frames",
        "_out",
        "astray",
        "batches",
        "decode",
        "is_peer",
        "shelf",
        "streams",
        "under_way",
    )

    def __init__(
        self, flusher: Flusher, way_out: Exit, *, is_peer: bool, shelf: Shelf | ShelfTo = SOCKET
    ) -> None:
        self.is_peer = is_peer
        self.shelf = shelf
        """Where large buffers of results go."""
        self.batches: deque[tuple[Batch, Sequence[Frame], int, int]] = deque()
        self.decode = Decoder().decode
        """Reads the first frames of its batches."""
        self.astray: set[int] = set()
        """Slots of which calls were refused, up to the fence that says that no older one is on the way."""
        self.streams = Streams(self.post)
        self.under_way: dict[int, Callable[[], object]] = {}
        """For each call that waits, in its object's mailbox or in its code: how to cancel it."""
        self._flusher = flusher
        self._exit = way_out
        self._out: Batch = []
        self._frames: list[Frame] = []

    def post(self, message: Message, frames: Sequence[Frame] = ()) -> None:
        """Send a message at the end of this tick, its large buffers beside it."""
        out = self._out
        if not out:
            self._flusher.flush_later(self)
        out.append(message)
        if frames:
            self._frames.extend(frames)

    @property
    def last(self) -> Message | None:
        """The last message, while it has not left."""
        return self._out[-1] if self._out else None

    def flush(self) -> None:
        """Send what has gathered. Raises LookupError when the caller is gone."""
        out, frames = self._out, self._frames
        if out:
            self._out, self._frames = [], []
            try:
                self._exit.send(out, frames)
            except LookupError:
                discard(frames)
                raise


class RouterExit:
    """To a caller in another process."""

    __slots__ = ("_identity", "_router")

    def __init__(self, router: zmq.Socket[bytes], identity: bytes) -> None:
        self._router = router
        self._identity = identity

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Send a batch over the ROUTER."""
        try:
            if frames:
                parts = [self._identity, encode(batch), *frames]
                self._router.send_multipart(parts, zmq.DONTWAIT, copy=False)
            else:
                self._router.send(self._identity, _MORE)
                self._router.send(encode(batch), zmq.DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise LookupError("the caller is gone") from error
            raise


class LocalExit:
    """To this very host, without a socket."""

    __slots__ = ("link",)

    link: Link

    def send(self, batch: Batch, frames: list[Frame]) -> None:
        """Hand the batch to the link."""
        self.link.receive(batch, frames)
