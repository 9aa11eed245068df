"""What a read answers: from the entries found to what the caller gets, for both faces alike.

The functions are given the reads to make (`read` of a key, `open_` of one that may be large, `scan`
of a range), so they neither know where values are kept nor whether their caller blocks. Texts and shapes are Cloudflare's; parsed JSON
comes as `Record`s, as in its Python SDK.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from runtime.kv.record import Record
from runtime.kv.validation import (
    BULK_BYTES,
    bulk_keys,
    check_cache_ttl,
    key_bytes,
    list_limit,
    prefix_bytes,
    read_options,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.kv.tiers import Entry, Large, Listed

    Read = Callable[[bytes], Entry | None]
    Scan = Callable[[bytes, bytes, int], list[Listed]]
    Open = Callable[[bytes], Entry | Large | None]
    Stream = Callable[[Entry | Large], object]

CHUNK_BYTES = 64 * 1024
"""The pieces of a value read as a stream."""

_PAST_ALL_KEYS = b"\xff"  # no UTF-8 begins with it
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def get(
    read: Read,
    open_: Open,
    stream: Stream,
    key: object,
    options: object,
    keywords: Mapping[str, Any],
    *,
    with_metadata: bool,
) -> Any:
    """Answer `get` and `getWithMetadata`, of one key or of a list of keys.

    Raises TypeError for a bad key, and for an unknown type of a key that exists; KVError for what
    Cloudflare's server refuses; json.JSONDecodeError when the value is not the JSON asked for.
    """
    given = read_options(options, keywords)
    form = given.get("type", "text")
    if isinstance(key, (list, tuple)):
        return _get_bulk(read, key, form, given, with_metadata=with_metadata)
    raw = key_bytes(key, "GET")
    if given:
        check_cache_ttl(given, "GET")
    found: Entry | Large | None
    if form == "stream":
        found = open_(raw)
        value = None if found is None else stream(found)
    else:
        found = entry = read(raw)
        value = None if entry is None else _shaped(entry.value, form)
    if not with_metadata:
        return value
    return _described(value, None if found is None else found.metadata)


def _get_bulk(
    read: Read,
    keys: list[Any] | tuple[Any, ...],
    form: object,
    given: Mapping[str, Any],
    *,
    with_metadata: bool,
) -> dict[Any, Any]:
    raw_keys = bulk_keys(keys, "GET_BULK")
    check_cache_ttl(given, "GET_BULK")
    if form not in {"text", "json"}:
        raise refused("GET_BULK", 400, f'"{form}" is not a valid type. Use "json" or "text"')
    found: dict[Any, Any] = {}
    total = 0
    for key, raw in zip(keys, raw_keys, strict=True):
        entry = read(raw)
        if entry is None:
            found[key] = None
            continue
        total += len(entry.value)
        if total > BULK_BYTES and len(keys) > 1:
            raise refused("GET_BULK", 413, "Total size of request exceeds the limit of 25MB.")
        try:
            value = _shaped(entry.value, form)
        except json.JSONDecodeError as cause:
            raise refused(
                "GET_BULK",
                400,
                "At least one of the requested keys corresponds to a non-json value",
            ) from cause
        found[key] = (
            Record(value=value, metadata=parsed(entry.metadata)) if with_metadata else value
        )
    return found


def _described(value: object, metadata: str | None) -> Record:
    return Record(value=value, metadata=parsed(metadata), cacheStatus=None)


def _shaped(value: bytes, form: object) -> Any:
    if form == "text":
        return value.decode("utf-8", "replace")
    if form == "json":
        return parsed(value.decode("utf-8", "replace"))
    if form == "arrayBuffer":
        return memoryview(value)
    if form == "bytes":
        return value
    error = TypeError(
        'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".'
    )
    error.add_note(f'It is {form!r}. Roost has "bytes" too.')
    raise error


def parsed(text: str | None) -> Any:
    """Return what a JSON text says; None for no text."""
    return None if text is None else json.loads(text, object_pairs_hook=Record)


def list_keys(scan: Scan, options: object, keywords: Mapping[str, Any]) -> Record:
    """Answer `list`: one page of keys in UTF-8 byte order, with a cursor when there are more.

    The page is the keys after the cursor at the moment of the call. Raises KVError for a limit over
    1,000 and for a prefix of more than 512 bytes.
    """
    given = read_options(options, keywords)
    prefix = prefix_bytes(given.get("prefix", ""))
    limit = list_limit(given)
    lower, upper = prefix, _PAST_ALL_KEYS
    if prefix:
        upper = prefix[:-1] + bytes([prefix[-1] + 1])  # never overflows: no UTF-8 ends in 0xff
    cursor = given.get("cursor", "")
    if cursor != "":
        lower = max(lower, last_key(cursor) + b"\x00")  # the smallest key after it
    found = scan(lower, upper, limit + 1)
    page = Record(keys=[_listed(item) for item in found[:limit]], list_complete=True)
    if len(found) > limit:
        page["list_complete"] = False
        page["cursor"] = base64.b64encode(found[limit - 1].key).decode()
    page["cacheStatus"] = None
    return page


def _listed(item: Listed) -> Record:
    told = Record(name=item.key.decode("utf-8", "replace"))
    if item.expires is not None:
        told["expiration"] = int(item.expires)
    if item.metadata is not None:
        told["metadata"] = parsed(item.metadata)
    return told


def last_key(cursor: object) -> bytes:
    """Return the key that a cursor names; reads any text somehow, as lenient as Cloudflare's."""
    text = str(cursor).encode().replace(b"+", b"-").replace(b"/", b"_").partition(b"=")[0]
    digits = bytes(digit for digit in text if digit in _BASE64)
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return base64.urlsafe_b64decode(digits + b"=" * (-len(digits) % 4))
