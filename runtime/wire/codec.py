"""Batches to frames and back; values and errors to bytes and back.

Plain immutable values ride in the batch as they are. Everything else is pickled at once, when
the call is made or its result is returned, so that a later change of a list by its owner is never
seen on the other side: arguments and results are values. Buffers of 64 KiB and more (NumPy
arrays, pickle protocol 5) travel as frames of their own, large ones through shared memory (`shelf`).

Exceptions travel by their state and not by their constructor, so that they keep type, attributes and
message whatever their constructor takes. One that cannot be had on the other side, or that would act
on the process there (SystemExit, CancelledError), arrives as a RemoteError.

cloudpickle asks Python code about every record, 2 µs each; pickle itself takes 0.3. So pickle goes first,
and what it refuses, or would send as a name of `__main__`, which is another module there, goes by value.

Pickles are only ever exchanged between processes of one user over the run directory's sockets.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections import ChainMap
from operator import methodcaller
from types import CodeType, MethodDescriptorType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cloudpickle
from cloudpickle import list_registry_pickle_by_value

from runtime.wire.messages import CALL, CALL_PACKED
from runtime.wire.shelf import OUT_OF_BAND, Shelf, ShelfTo, buffers_of
from workers.errors import HostLost, RemoteError, RoostError, WireError, attach_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.wire.messages import Batch

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Immutable types that need no copy of their own."""

_MAIN: Final = b"__main__"
_NAMES = frozenset({str})
_FACTS = ("retryable", "overloaded", "durable_object_reset")

SOCKET = Shelf(None, "")
"""For what stays within the process: large buffers are copied once, into frames."""

Frame: TypeAlias = bytes


class Ready(tuple[Any, ...]):
    """Arguments, or a result, pickled already: (kind, data, large buffers), where a value would stand.

    The buffers are still their owner's: to be sent at once, before it can change them.
    """

    __slots__ = ()


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


class _Reducers(dict[type, "Callable[[Any], Any]"]):
    """How values are reduced, by their type; found when a type is first met."""

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        if issubclass(cls, type):
            raise KeyError(cls)  # classes are no values: by their names
        reducer: Callable[[Any], Any] | None = cloudpickle.Pickler.dispatch_table.get(cls)
        if reducer is None:
            reducer = _reduce_error if _is_plain_error(cls) else _REDUCE
        if len(self) >= _TYPES:
            self.clear()  # some are of notebook cells that were run again and again
        self[cls] = reducer
        return reducer


_TYPES: Final = 4096
_REDUCE: Final = methodcaller("__reduce_ex__", 5)


class _NamePickler(pickle.Pickler):
    """Pickles classes and functions by their names, and refuses those that have none."""

    dispatch_table = _Reducers()


class _ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles classes and functions by value where the other side could not import them."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, BaseException) and _is_plain_error(type(value)):
            return _reduce_error(value)
        return super().reducer_override(value)


def _reduce_code(code: CodeType) -> Any:
    """Reduce code with the name of its file, which tracebacks show; cloudpickle leaves it out."""
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if a == "<dynamic-code>" else a for a in arguments)


_ValuePickler.dispatch_table = ChainMap(
    {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
)


def _is_plain_error(cls: type) -> bool:
    """Whether it is a class of exceptions that does not say how to pickle them."""
    return (
        issubclass(cls, BaseException)
        and type(cls.__reduce__) is MethodDescriptorType
        and cls.__reduce_ex__ is object.__reduce_ex__
    )


def _reduce_error(error: BaseException) -> Any:
    reduced: Any = error.__reduce__()
    attributes = reduced[2] if len(reduced) > 2 else None
    state = object.__getstate__(error)
    slots = state[1] if isinstance(state, tuple) else {}
    return _rebuild, (type(error), reduced[1], attributes, slots)


def _rebuild(
    cls: type[BaseException],
    args: tuple[Any, ...],
    attributes: dict[str, Any] | None,
    slots: dict[str, Any],
) -> BaseException:
    """Make an exception of its state, without a constructor that is written in Python."""
    base: Any = cls
    while base.__module__ != "builtins":
        base = base.__base__
    error: BaseException = base.__new__(cls, *args)
    base.__init__(error, *args)  # OSError and others keep attributes of their own in C
    for name, value in {**(attributes or {}), **slots}.items():
        object.__setattr__(error, name, value)
    return error


def pack(value: object, *, in_band: bool = False) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Pickle any value, large buffers apart unless `in_band`.

    Raises TypeError, naming the type, if it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        large = buffer.raw().nbytes >= OUT_OF_BAND
        if large:
            buffers.append(buffer)
        return not large

    callback = None if in_band else keep
    data = _dumps_names(value, callback)
    if data is None:
        buffers.clear()
        try:
            data = dumps_values(value, callback)
        except Exception as cause:
            raise TypeError(
                f"{type(value).__name__} cannot be sent to another process: {cause}"
            ) from cause
    return data, buffers


def pack_each(
    values: Sequence[object], *, in_band: bool = False
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Pickle like `pack`; the TypeError names the type of the one that cannot be pickled."""
    try:
        return pack(values, in_band=in_band)
    except TypeError:
        for value in values:
            pack(value, in_band=in_band)
        raise


def _dumps_names(
    value: object, in_band: Callable[[pickle.PickleBuffer], bool] | None
) -> bytes | None:
    """Pickle with names for all classes and functions; None if something must go by value."""
    if list_registry_pickle_by_value():
        return None
    with io.BytesIO() as file:
        try:
            _NamePickler(file, 5, buffer_callback=in_band).dump(value)
        except MemoryError:
            raise
        except Exception:  # a lambda, say; or its class refuses, and will again
            return None
        data = file.getvalue()
    return None if _MAIN in data else data


def dumps_values(
    value: object, in_band: Callable[[pickle.PickleBuffer], bool] | None = None
) -> bytes:
    """Pickle with whatever could not be imported on the other side in it."""
    with io.BytesIO() as file:
        _ValuePickler(file, 5, buffer_callback=in_band).dump(value)
        return file.getvalue()


def pack_still(value: object, shelf: Shelf | ShelfTo = SOCKET) -> tuple[bytes, list[Frame]]:
    """Pickle like `pack`, with large buffers copied: their owner may change them before they leave.

    What is packed already stays so.
    """
    data, buffers = value[1:] if type(value) is Ready else pack(value)
    return data, [shelf.frame(buffer.raw()) for buffer in buffers]


def parcel(args: tuple[Any, ...], kwargs: dict[str, Any], shelf: Shelf = SOCKET) -> Parcel:
    """Make the arguments of a call ready to be sent, as they are now.

    Returns the message's kind, its last two fields, and its large buffers. Raises TypeError when
    an argument cannot be sent.
    """
    if PLAIN.issuperset(map(type, args)) and (
        not kwargs
        or (PLAIN.issuperset(map(type, kwargs.values())) and _NAMES.issuperset(map(type, kwargs)))
    ):
        return CALL, args, kwargs or None, ()
    if type(args) is Ready:  # its list of buffers is never PLAIN, so only packed calls ask this
        kind, data, buffers = args
        return kind, data, len(buffers), [shelf.frame(buffer.raw()) for buffer in buffers]
    try:
        data, frames = pack_still((args, kwargs), shelf)
    except TypeError:
        pack_each((*args, *kwargs.values()))  # names the one that cannot be sent
        raise
    return CALL_PACKED, data, len(frames), frames


def unpack(data: bytes, frames: Sequence[Frame]) -> Any:
    """Return a packed value. Arrays over received buffers are read-only.

    Raises HostLost when its sender died, and its large buffers went with it, before it was read.
    """
    if not frames:
        return pickle.loads(data)
    try:
        buffers = buffers_of(frames)
    except FileNotFoundError as cause:
        raise HostLost("the host died before its large values were read; call again") from cause
    return pickle.loads(data, buffers=buffers)


def unpack_result(data: bytes, frames: Sequence[Frame]) -> Any:
    """Return the packed result of a call. Raises HostLost, and TypeError when it cannot be read here."""
    try:
        return unpack(data, frames)
    except (HostLost, KeyboardInterrupt):
        raise
    except BaseException as cause:  # its type may not be importable here
        raise TypeError(f"the result of the call cannot be read here: {cause}") from cause


def pack_error(error: BaseException, object_id: bytes | None, *, remote: bool = True) -> bytes:
    """Pickle an exception with its traceback. Never fails, whatever the exception does.

    `remote` says that the object's own code raised it, not the engine on the object's behalf. Without
    an object, as when the entrypoint passes it on, it stays the error of the one that it came from.
    """
    trace = _trace(error) if remote else ""
    carried: bytes | None
    try:
        carried, _ = pack(error, in_band=True)
    except Exception:  # an exception may hold a socket, a lock, anything
        carried = None
    cls = type(error)
    name = cls.__qualname__
    if cls.__module__ not in {"builtins", "__main__"}:
        name = f"{cls.__module__}.{name}"
    facts = {fact: bool(_attribute(error, fact)) for fact in _FACTS}
    came_from = _attribute(error, "durable_object_id") if object_id is None else object_id.hex()
    hexadecimal = came_from if isinstance(came_from, str) else None
    return pickle.dumps((carried, name, _text(error), trace, facts, hexadecimal, remote), 5)


def unpack_error(data: bytes) -> Exception:
    """Return the exception of `pack_error`, as a RemoteError where its type cannot be had here.

    Also where it is no Exception, which would end the process or the task that awaits it here, or
    is a StopIteration, which no future takes.
    """
    carried, type_name, text, trace, facts, object_id, remote = pickle.loads(data)
    found: object = None
    if carried is not None:
        try:
            found = pickle.loads(carried)
            getattr(found, "__notes__", None)  # as everybody does who prints it
        except BaseException:  # its type is not importable here, or refuses its state or a look
            found = None
    if isinstance(found, Exception) and not isinstance(found, StopIteration):
        error = found
    else:
        message = f"{type_name}: {text}" if text else type_name
        error = RemoteError(message, type_name=type_name, **facts)
    if remote:
        attach_remote(error, trace, object_id)
    elif isinstance(error, RoostError) and error.durable_object_id is None:
        error.durable_object_id = object_id
    return error


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # its class may define __getattr__ in any way it likes
        return "".join(traceback.format_tb(error.__traceback__))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its class may define __str__ in any way it likes
        return "<its text cannot be had>"


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, False)
    except Exception:
        return False
