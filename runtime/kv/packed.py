"""Entries as the shared cache holds them: one string of bytes each.

A value without metadata or expiry, which most are, is its own record, so that reading one costs
neither a copy nor a parse. All others, and the absence of a key, begin with a byte that no UTF-8
begins with.
"""

from __future__ import annotations

import struct

from runtime.kv.tiers import Entry

MARK = 0xFF
"""First byte of a record that is more than a value."""

ABSENT = b"\xff"
"""Says that the key is absent."""

_HEADER = struct.Struct("<BdH")  # the mark, expiry, bytes of metadata
_NEVER = float("inf")
_NO_METADATA = 0xFFFF


def pack(entry: Entry | None) -> bytes:
    """Return the record of an entry; None for an absent key."""
    if entry is None:
        return ABSENT
    value = entry.value
    assert isinstance(value, bytes)
    if entry.metadata is None and entry.expires is None and value and value[0] != MARK:
        return value
    metadata = None if entry.metadata is None else entry.metadata.encode()
    header = _HEADER.pack(
        MARK,
        _NEVER if entry.expires is None else entry.expires,
        _NO_METADATA if metadata is None else len(metadata),
    )
    return header + (metadata or b"") + value


def unpack(record: bytes) -> Entry | None:
    """Return the entry of a record; None for an absent key."""
    if record[0] != MARK:
        return Entry(record, None, None)
    if len(record) == 1:
        return None
    _, expires, length = _HEADER.unpack_from(record)
    at = _HEADER.size
    metadata = None
    if length != _NO_METADATA:
        metadata = record[at : at + length].decode()
        at += length
    return Entry(record[at:], metadata, None if expires == _NEVER else expires)
