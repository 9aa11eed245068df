"""Stored values: what the object put, as it was when it was put.

A stored value is a pickle (protocol 5). In memory a value is *held*: an immutable scalar as itself,
so that a counter written 1,000 times in a tick is pickled once, at its commit; anything else as
`Packed` bytes made at the put, so that what the script does to its list afterwards never reaches
storage, and every get gives a copy of its own. Classes of `__main__` go by value (cloudpickle),
because the process that reads them back has another `__main__`.

Pure functions; nothing is unpickled but what the object itself stored. A bare scalar can always be
pickled, so only a put can fail on its value, never a commit.
"""

from __future__ import annotations

import pickle
from struct import Struct
from typing import Any, Final

import cloudpickle

from workers.errors import StorageError

__all__ = ["Packed", "hold", "pack", "reveal", "unpack"]

_PROTOCOL: Final = 5
_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_FIXED: Final = frozenset({type(None), bool, float})
_SMALL_INT: Final = 1 << 63
_INT: Final = 1 << 31
_SHORT: Final = 0xFFFF
_BYTE: Final = 0xFF
_int_pickle, _short_pickle = Struct("<3sic").pack, Struct("<3sHc").pack
_BYTES: Final = [pickle.dumps(n, _PROTOCOL) for n in range(_BYTE + 1)]
_FRAMING: Final = 64
"""More than what pickle puts around a str or bytes."""
_BYTES_A_CHARACTER: Final = 4


class Packed:
    """A value that is held as its pickle."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def hold(key: str, value: Any, limit: int) -> Any:
    """Return the value as it is held: itself when an immutable scalar, else `Packed`.

    Raises TypeError when the value cannot be pickled, and ValueError when its pickle is larger than
    `limit` bytes; both name the key.
    """
    kind = type(value)
    if (
        kind in _FIXED
        or (kind is int and -_SMALL_INT <= value < _SMALL_INT)
        or ((kind is str or kind is bytes) and len(value) * _BYTES_A_CHARACTER + _FRAMING <= limit)
    ):
        return value
    data = _pickle(key, value)
    if len(data) > limit:
        raise ValueError(
            f"Values cannot be larger than {limit} bytes. A value of size {len(data)} was provided "
            f"for the key {_shown(key)}."
        )
    return Packed(data)


def pack(held: Any) -> bytes:
    """Return the bytes that are stored for a held value."""
    kind = type(held)
    if kind is Packed:
        data: bytes = held.data
        return data
    if kind is int and -_INT <= held < _INT:  # in a third of the time, without a frame
        if held < 0 or held > _SHORT:
            return _int_pickle(b"\x80\x05J", held, b".")
        return _short_pickle(b"\x80\x05M", held, b".") if held > _BYTE else _BYTES[held]
    return pickle.dumps(held, _PROTOCOL)


def reveal(key: str, held: Any) -> Any:
    """Return a held value as the script sees it: mutable ones as a fresh copy."""
    if type(held) is Packed:
        return _unpickle(key, held.data)
    return held


def unpack(key: str, data: bytes) -> tuple[Any, Any]:
    """Return (value, held) of stored bytes. Raises StorageError when they cannot be unpickled."""
    value = _unpickle(key, data)
    return value, value if type(value) in _SCALARS else Packed(data)


def _pickle(key: str, value: Any) -> bytes:
    data: bytes
    try:
        try:
            data = pickle.dumps(value, _PROTOCOL)
        except Exception as cause:
            # A class of `__main__` that came here by value cannot be found by its name, and a memoryview,
            # which the original takes for bytes, has no pickle: cloudpickle makes it bytes.
            if not any(name in str(cause) for name in ("__main__", "memoryview")):
                raise
            data = cloudpickle.dumps(value, _PROTOCOL)
        else:
            if b"__main__" in data:
                data = cloudpickle.dumps(value, _PROTOCOL)
    except MemoryError:
        raise
    except Exception as cause:
        raise TypeError(
            f"put() cannot store the value of the key {_shown(key)}: "
            f"{type(value).__name__} cannot be pickled: {cause}"
        ) from cause
    return data


def _unpickle(key: str, data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except MemoryError:
        raise
    except Exception as cause:  # its class may have been renamed since, or refuse its old state
        raise StorageError(
            f"the value of the key {_shown(key)} cannot be read back: "
            f"{type(cause).__name__}: {cause}"
        ) from cause


def _shown(key: str) -> str:
    return repr(key if len(key) <= 100 else key[:100] + "...")
