"""Batches to frames and back; values and errors to bytes and back.

Plain immutable values ride in the batch as they are. Everything else is pickled at once, when
the call is made or its result is returned, so that a later change of a list by its owner is never
seen on the other side: arguments and results are values. Buffers of 64 KiB and more (NumPy
arrays, pickle protocol 5) travel as frames of their own.

Pickles are only ever exchanged between processes of one user over the run directory's sockets.
"""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any, TypeAlias

import cloudpickle

from runtime.wire.messages import CALL, CALL_PACKED
from workers.errors import RemoteError, RoostError, WireError, attach_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.wire.messages import Batch

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Immutable types that need no copy of their own."""

OUT_OF_BAND = 64 * 1024
"""Buffers of so many bytes travel beside the batch, not in it."""

Frame: TypeAlias = bytes | pickle.PickleBuffer
Parcel: TypeAlias = "tuple[int, Any, Any, Sequence[Frame]]"


def encode(batch: Batch) -> bytes:
    """Return the first frame of a batch; the large buffers of its values follow it."""
    return pickle.dumps(batch, 5)


def decode(frame: bytes) -> Batch:
    """Return the batch of a first frame. Raises WireError when it is not one."""
    try:
        batch: Batch = pickle.loads(frame)
    except Exception as cause:
        raise WireError(f"a peer sent a batch that cannot be read: {cause}") from cause
    return batch


def pack(value: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Pickle any value, large buffers apart. Raises TypeError, naming the type, if it cannot."""
    buffers: list[pickle.PickleBuffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            large = buffer.raw().nbytes >= OUT_OF_BAND
        except BufferError:  # not contiguous: pickle copies it
            return True
        if large:
            buffers.append(buffer)
        return not large

    try:
        return cloudpickle.dumps(value, 5, buffer_callback=in_band), buffers
    except Exception as cause:
        raise TypeError(
            f"{type(value).__name__} cannot be sent to another process: {cause}"
        ) from cause


def pack_still(value: object) -> tuple[bytes, list[Frame]]:
    """Pickle like `pack`, with large buffers copied: their owner may change them before they leave."""
    data, buffers = pack(value)
    return data, [bytes(buffer.raw()) for buffer in buffers]


def parcel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
    """Make the arguments of a call ready to be sent, as they are now.

    Returns the message's kind, its last two fields, and its large buffers. Raises TypeError when
    an argument cannot be sent.
    """
    if PLAIN.issuperset(map(type, args)) and (
        not kwargs or PLAIN.issuperset(map(type, kwargs.values()))
    ):
        return CALL, args, kwargs or None, ()
    data, frames = pack_still((args, kwargs))
    return CALL_PACKED, data, len(frames), frames


def unpack(data: bytes, buffers: Sequence[Frame]) -> Any:
    """Return a packed value. Arrays over received buffers are read-only."""
    return pickle.loads(data, buffers=buffers)


def pack_error(error: BaseException, object_id: bytes | None, *, remote: bool = True) -> bytes:
    """Pickle an exception with its traceback.

    `remote` says that the object's own code raised it, not the engine on the object's behalf.
    """
    trace = "".join(traceback.format_exception(error)) if remote else ""
    carried: bytes | None
    try:
        carried = cloudpickle.dumps(error, 5)
    except Exception:  # an exception may hold a socket, a lock, anything
        carried = None
    facts = {
        name: getattr(error, name, False)
        for name in ("retryable", "overloaded", "durable_object_reset")
    }
    hexadecimal = object_id.hex() if object_id is not None else None
    return pickle.dumps(
        (carried, type(error).__qualname__, str(error), trace, facts, hexadecimal, remote), 5
    )


def unpack_error(data: bytes) -> BaseException:
    """Return the exception of `pack_error`, as a RemoteError where its type cannot be had here."""
    carried, type_name, text, trace, facts, object_id, remote = pickle.loads(data)
    error: BaseException | None = None
    if carried is not None:
        try:
            error = pickle.loads(carried)
        except Exception:  # the type is not importable here, or its constructor wants more
            error = None
    if not isinstance(error, BaseException):
        error = RemoteError(f"{type_name}: {text}", type_name=type_name, **facts)
    if remote:
        attach_remote(error, trace, object_id)
    elif isinstance(error, RoostError) and error.durable_object_id is None:
        error.durable_object_id = object_id
    return error
