"""The calls of one connection, on which an object and a method are named once and have numbers then.

To pickle an id, unpickle and hash it takes as long as the rest of a common call, once there are many
objects. So now and then a batch is looked through for objects and methods that have no number, and names
them to the host. Both sides keep them as pickle keeps what it meets twice: in the memo, here of one pickler
and one unpickler for the connection's life. The memo's number is only ever in what is pickled; whoever
makes, keeps, sends again or takes a message sees its target.

What has no number goes whole, which is as right. Numbers go by identity, so that the calls of a stub find
them for nothing. A connection begins with none. Batches are counted, so that one that is lost or comes twice
ends the connection's understanding, and never takes one object for another.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Final

from runtime.wire import messages as m
from runtime.wire.codec import decode, encode
from workers.errors import WireError

if TYPE_CHECKING:
    from runtime.wire.messages import Batch

FEW: Final = 16
"""Calls of a batch from which on numbers save more than they cost; smaller ones are plain pickles."""

LOOK: Final = 16
"""Batches of which one is looked through, which takes 0.1 µs a call: what is called often is in it soon."""

NUMBERED: Final = 16_384
"""Objects and methods that have a number, of some 400 bytes on each side; with more it begins anew."""

LARGE: Final = 512
"""Bytes a call that say that values are large. They go without numbers, since a memo that does not grow
sends a value that several calls share with each of them."""

LARGE_BATCHES: Final = 64
"""Batches that go so, until values are taken to be small again."""

_SAME, _MORE, _ANEW = (
    b"\x01",
    b"\x02",
    b"\x03",
)  # how frames with numbers begin; plain pickles with 0x80
_KINDS = frozenset({_SAME, _MORE, _ANEW})
_HEAD = 5  # bytes before the pickles: that, and how many such batches were before


def goes_on(frame: bytes) -> bool:
    """Whether a first frame can only be read by who has read those before it."""
    return frame[:1] in _KINDS


class Encoder:
    """Makes the first frames of a connection. Each has to be sent, in order."""

    __slots__ = ("_batches", "_file", "_known", "_large", "_pickler")

    def __init__(self) -> None:
        self._batches = 0
        self._large = 0
        self._begin()

    def _begin(self) -> None:
        self._file = io.BytesIO()
        self._pickler = pickle.Pickler(self._file, 5)
        self._known: set[object] = set()

    def encode(self, batch: Batch) -> bytes:
        """Return the first frame of a batch."""
        if len(batch) < FEW or batch[0][0] != m.CALL:
            return encode(batch)
        if self._large:
            self._large -= 1
            return encode(batch)
        number = self._batches
        self._batches = number + 1  # if this fails, nothing that follows is understood
        kind, new = (_SAME, None) if number % LOOK else self._look(batch)
        file, pickler = self._file, self._pickler
        file.seek(0)
        file.truncate()
        file.write(kind + number.to_bytes(_HEAD - 1, "little"))
        if new is not None:
            pickler.fast = False
            pickler.dump(new)
        pickler.fast = True  # finds what is in the memo, and puts nothing into it
        pickler.dump(batch)
        frame = file.getvalue()
        if len(frame) > LARGE * len(batch):
            self._large = LARGE_BATCHES
            if new is None:
                self._batches = number
                return encode(batch)
        return frame

    def _look(self, batch: Batch) -> tuple[bytes, list[object] | None]:
        """Give numbers to what a batch names: how its frame begins, and what has a new one."""
        kind = _MORE if self._known else _ANEW
        if len(self._known) > NUMBERED:
            self._begin()
            kind = _ANEW
        known = self._known
        new: list[object] = []
        for message in batch:
            if message[0] == m.CALL or message[0] in m.PACKED:
                for named in message[2:4]:
                    if named is not None and named not in known:
                        known.add(named)
                        new.append(named)
        return (kind, new) if new else (_SAME, None)


class Decoder:
    """Reads the first frames of a connection. Each has to be read, in order."""

    __slots__ = ("_batches", "_file", "_unpickler")

    def __init__(self) -> None:
        self._batches = 0
        self._begin()

    def _begin(self) -> None:
        self._file = io.BytesIO()
        self._unpickler = pickle.Unpickler(self._file)

    def decode(self, frame: bytes) -> Batch:
        """Return the batch of a first frame. Raises WireError when it is not one, or not the next."""
        kind = frame[:1]
        if kind not in _KINDS:
            return decode(frame)
        if int.from_bytes(frame[1:_HEAD], "little") != self._batches:
            raise WireError("a peer sent a batch that does not follow the one before")
        self._batches += 1
        if kind == _ANEW:
            self._begin()
        file, unpickler = self._file, self._unpickler
        file.seek(0)
        file.truncate()
        file.write(frame)
        file.seek(_HEAD)
        try:
            if kind != _SAME:
                unpickler.load()
            batch: Batch = unpickler.load()
        except Exception as cause:
            raise WireError(f"a peer sent a batch that cannot be read: {cause}") from cause
        return batch
