"""What KV accepts: keys, values, metadata, expiry and options, and the words of each refusal.

Pure functions from what a user gave to what is stored. Limits, texts and the conversions of
JavaScript's primitives (5 is "5", None is "null") are Cloudflare's, as its local runtime has them:
what it refuses by type is a TypeError, what its server would refuse a KVError. Python's names for
JavaScript's types are in a note of the error, so that the text stays the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from workers.errors import KVError

KEY_BYTES = 512
VALUE_BYTES = 25 * 1024 * 1024
METADATA_BYTES = 1024
MIN_TTL = 60
"""Seconds; the default of a setting."""
MIN_CACHE_TTL = 30
LIST_KEYS = 1000
BULK_KEYS = 100
BULK_BYTES = 25 * 1024 * 1024

_TWINS = {"expiration_ttl": "expirationTtl", "cache_ttl": "cacheTtl"}
_LARGEST = 2**53


class _Missing:
    """An argument that was not given: JavaScript's undefined."""

    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


def refused(operation: str, status: int, why: str) -> KVError:
    """Return the error of a request that the server refuses."""
    return KVError(f"KV {operation} failed: {status} {why}")


def read_options(options: object, keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Merge a trailing dict with keywords (which win), in camelCase; None is not given.

    A trailing str is the `type`. Unknown options are ignored, as by Cloudflare.
    """
    if options is None:
        if not keywords:
            return keywords
        given: Mapping[Any, Any] = {}
    elif isinstance(options, str):
        given = {"type": options}
    elif isinstance(options, Mapping):
        given = options
    else:
        raise TypeError(f"options must be a dict, not {type(options).__name__}")
    return {
        _TWINS.get(name, name): value
        for name, value in (*given.items(), *keywords.items())
        if value is not None
    }


def key_bytes(key: object, operation: str) -> bytes:
    """Return a key as it is stored: UTF-8.

    Raises TypeError for what is no name, KVError for a key of more than 512 bytes.
    """
    name = key if isinstance(key, str) else primitive_text(key)
    if name is None:
        raise TypeError(f"Key name must be a str, not {type(key).__name__}.")
    if not name:
        raise TypeError("Key name cannot be empty.")
    if name in {".", ".."}:
        raise TypeError(f'"{name}" is not allowed as a key name.')
    return _short_enough(name, operation)


def prefix_bytes(prefix: object) -> bytes:
    """Return a listing's prefix as it is stored; it may be empty."""
    name = prefix if isinstance(prefix, str) else primitive_text(prefix)
    if name is None:
        raise TypeError(f"prefix must be a str, not {type(prefix).__name__}.")
    return _short_enough(name, "GET")


def _short_enough(name: str, operation: str) -> bytes:
    raw = name.encode()
    if len(raw) > KEY_BYTES:
        raise refused(
            operation,
            414,
            f"UTF-8 encoded length of {len(raw)} exceeds key length limit of {KEY_BYTES}.",
        )
    return raw


def bulk_keys(keys: list[Any] | tuple[Any, ...], operation: str) -> list[bytes]:
    """Return the keys of a bulk read or delete: 1 to 100."""
    if not isinstance(keys, (list, tuple)):
        raise TypeError(f"keys must be a list, not {type(keys).__name__}")
    if not keys:
        raise refused(operation, 400, "You must request a minimum of 1 key")
    if len(keys) > BULK_KEYS:
        raise refused(operation, 400, f"You can request a maximum of {BULK_KEYS} keys")
    return [key_bytes(key, operation) for key in keys]


def check_cache_ttl(options: Mapping[str, Any], operation: str) -> None:
    """Refuse a cacheTtl under 30 s. Beyond that it means nothing here: reads are never stale."""
    ttl = options.get("cacheTtl")
    if ttl is not None and integer(ttl) < MIN_CACHE_TTL:
        raise refused(
            operation,
            400,
            f"Invalid cache_ttl of {integer(ttl)}. Cache TTL must be at least {MIN_CACHE_TTL}.",
        )


def list_limit(options: Mapping[str, Any]) -> int:
    """Return how many keys a listing may have. 0 and less, and what is no number, mean 1,000."""
    limit = integer(options.get("limit", 0))
    if limit > LIST_KEYS:
        raise refused(
            "GET",
            400,
            f"Invalid key_count_limit of {limit}. Please specify an integer less than {LIST_KEYS}.",
        )
    return limit if limit > 0 else LIST_KEYS


def expiry(options: Mapping[str, Any], now: float, min_ttl: int) -> float | None:
    """Return when a value expires, in seconds since the epoch. expirationTtl wins over expiration.

    A key with a TTL lives for that long to the fraction of a second; listings round down.
    """
    given = options.get("expirationTtl")
    if given is not None:
        ttl = integer(given)
        if ttl <= 0:
            raise refused(
                "PUT",
                400,
                f"Invalid expiration_ttl of {ttl}. Please specify integer greater than 0.",
            )
        if ttl < min_ttl:
            raise refused(
                "PUT",
                400,
                f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {min_ttl}.",
            )
        return now + ttl
    given = options.get("expiration")
    if given is None:
        return None
    moment = integer(given)
    if moment <= now:
        raise refused(
            "PUT",
            400,
            f"Invalid expiration of {moment}. Please specify integer greater than the current "
            "number of seconds since the UNIX epoch.",
        )
    if moment < int(now) + min_ttl:
        raise refused(
            "PUT",
            400,
            f"Invalid expiration of {moment}. Expiration times must be at least {min_ttl} seconds "
            "in the future.",
        )
    return float(moment)


def metadata_text(options: Mapping[str, Any]) -> str | None:
    """Return a value's metadata as JSON. Raises TypeError or ValueError for what is not JSON."""
    metadata = options.get("metadata")
    if metadata is None:
        return None
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    length = len(text.encode())
    if length > METADATA_BYTES:
        raise refused("PUT", 413, f"Metadata length of {length} exceeds limit of {METADATA_BYTES}.")
    return text


def value_bytes(value: object) -> bytes:
    """Return a value as it is stored.

    Takes str, everything with a buffer (bytes, bytearray, memoryview, arrays), and JavaScript's
    primitives. Raises TypeError for others (dicts: use json.dumps), KVError past 25 MiB.
    """
    raw: bytes | None
    if type(value) is bytes:
        raw = value
    elif isinstance(value, str):
        raw = value.encode()
    elif value is MISSING:
        raise _noted(
            "Failed to execute 'put' on 'KvNamespace': parameter 2 is not of type "
            "'string or JsObject'.",
            "put() takes a key and a value.",
        )
    else:
        text = primitive_text(value)
        raw = _buffer(value) if text is None else text.encode()
    if raw is None:
        raise _wrong_value(value)
    if len(raw) > VALUE_BYTES:
        raise too_long(len(raw))
    return raw


def piece_bytes(piece: object) -> bytes:
    """Return a stream's piece, str or bytes, as it is stored. Raises TypeError for others."""
    raw = piece.encode() if isinstance(piece, str) else _buffer(piece)
    if raw is None:
        raise _wrong_value(piece)
    return raw


def _buffer(value: Any) -> bytes | None:
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        return None


def _wrong_value(value: object) -> TypeError:
    return _noted(
        "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as "
        "values.",
        "In Python: str, bytes, bytearray, memoryview, a file, or an iterator of bytes, not "
        f"{type(value).__name__}. For dicts and lists use json.dumps().",
    )


def too_long(length: int) -> KVError:
    """Return the error of a value that is this long, or longer."""
    return refused("PUT", 413, f"Value length of {length} exceeds limit of {VALUE_BYTES}.")


def _noted(text: str, note: str) -> TypeError:
    error = TypeError(text)
    error.add_note(note)
    return error


def integer(value: object) -> int:
    """Return a number as JavaScript makes an integer of it; what is no number is 0."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, float):
        if not math.isfinite(value):
            return 0
        value = int(value)
    if isinstance(value, int):
        return max(-_LARGEST, min(int(value), _LARGEST))
    return 0


def primitive_text(value: object) -> str | None:
    """Return a number, bool or None as JavaScript prints it; None for anything else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _float_text(value)
    return None


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e-6 <= abs(value) < 1e-4:  # where Python has an exponent and JavaScript has none
        return format(Decimal(repr(value)), "f")
    text = float.__repr__(value)
    return text.replace("e-0", "e-")
