"""What a script passes to `ctx.storage`, read and checked: keys, options, ranges.

Everything is checked before anything is written. Keys are str (an integer means its digits, as in
the original) and are stored as UTF-8, whose byte order is the order of `list()`. Options come as
keywords or as a trailing dict, in either spelling. Pure functions; texts of errors are workerd's
where it has one (https://github.com/cloudflare/workerd, src/workerd/api/actor-state.c++).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from sys import maxsize
from typing import Any, Final, NamedTuple

__all__ = [
    "KEY_BYTES",
    "NOTHING",
    "KeyRange",
    "entries_to_put",
    "key_range",
    "key_text",
    "keys_of",
    "read_options",
]

KEY_BYTES: Final = 2048
"""The longest key, in bytes of UTF-8; Cloudflare's limit for key-value classes."""

ABOVE_ALL_KEYS: Final = b"\xff"
"""Sorts after every key: no UTF-8 text begins with this byte."""

NOTHING: Final = object()
"""An argument that was not given, where None is a value."""

_PUT_SHAPE: Final = (
    "put() may only be called with a single key-value pair and optional options as put(key, value, "
    "options) or with multiple key-value pairs and optional options as put(entries, options)"
)

_READ: Final = ("allowConcurrency", "noCache")
_WRITE: Final = (*_READ, "allowUnconfirmed")
_OPTIONS: Final = {
    "get": _READ,
    "put": _WRITE,
    "delete": _WRITE,
    "delete_all": _WRITE,
    "get_alarm": _READ[:1],
    "set_alarm": ("allowConcurrency", "allowUnconfirmed"),
    "delete_alarm": ("allowConcurrency", "allowUnconfirmed"),
    "list": (*_READ, "start", "startAfter", "end", "prefix", "reverse", "limit"),
}
"""What each method accepts. Roost's storage reads and writes memory at once, so that concurrency
and caching have nothing to choose."""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


_SPELLINGS: Final = {
    method: {spelling: _snake(name) for name in names for spelling in (name, _snake(name))}
    for method, names in _OPTIONS.items()
}


class KeyRange(NamedTuple):
    """What a `list()` asks for: keys from `start` up to, and without, `end`, in byte order."""

    start: bytes
    end: bytes
    reverse: bool
    limit: int | None

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        return self.start <= key < self.end


def key_text(key: Any) -> str:
    """Return a key as a str of at most 2,048 UTF-8 bytes.

    TypeError when it is neither str nor integer, ValueError when it is too long or not Unicode.
    """
    text = _text(key, "a key")
    if not (text.isascii() and len(text) <= KEY_BYTES):
        size = len(_utf8(text, "a key"))
        if size > KEY_BYTES:
            raise ValueError(
                f"Keys cannot be larger than {KEY_BYTES} bytes. A key of size {size} was provided."
            )
    return text


def keys_of(keys: Any) -> list[str] | None:
    """Return several keys sorted, each once; None when the argument is a single key."""
    if isinstance(keys, str | bytes | bytearray | memoryview | Mapping):
        return None
    if not isinstance(keys, Iterable):
        return None
    return sorted({key_text(key) for key in keys})


def entries_to_put(
    key: Any, value: Any, options: Any, keywords: Mapping[str, Any]
) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Return what `put(key, value, options)` or `put(entries, options)` writes, and its options.

    TypeError when the call has neither shape; otherwise raises as `key_text` and `read_options`.
    """
    if isinstance(key, Mapping):
        if options is not None:
            raise TypeError(_PUT_SHAPE)
        read = read_options("put", None if value is NOTHING else value, keywords)
        return [(key_text(name), its) for name, its in key.items()], read
    if keys_of(key) is not None:
        raise TypeError(_PUT_SHAPE)
    if value is NOTHING:
        raise TypeError("put() called with undefined value.")
    read = read_options("put", options, keywords)
    return [(key_text(key), value)], read


def read_options(method: str, given: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call by their snake_case names; keywords win over the dict.

    Raises TypeError for what is no option of the method, so that a typo is not silently ignored.
    """
    if given is None:
        given = {}
    elif not isinstance(given, Mapping):
        raise TypeError(f"the options of {method}() must be a dict, not {type(given).__name__}")
    spellings = _SPELLINGS[method]
    options = {}
    for name, value in (*given.items(), *keywords.items()):
        snake = spellings.get(name)
        if snake is None:
            known = ", ".join(_OPTIONS[method])
            raise TypeError(f"{method}() has no option {name!r}; it has {known}")
        options[snake] = value
    return options


def key_range(options: Mapping[str, Any]) -> KeyRange:
    """Return the range that options of `list()` describe: all of them hold at once.

    Raises TypeError for `start` with `start_after`, and for a limit that is not positive.
    """
    after = options.get("start_after")
    first, last, prefix = options.get("start"), options.get("end"), options.get("prefix")
    if first is not None and after is not None:
        raise TypeError("list() cannot be called with both start and startAfter values.")
    start, end = b"", ABOVE_ALL_KEYS
    if first is not None:
        start = _bound(first, "start")
    elif after is not None:
        start = _bound(after, "startAfter") + b"\0"  # the least key above it
    if last is not None:
        end = _bound(last, "end")
    if prefix is not None:
        low = _bound(prefix, "prefix")
        start = max(start, low)
        if low:  # the last byte of UTF-8 text is never 0xff
            end = min(end, low[:-1] + bytes((low[-1] + 1,)))
    return KeyRange(start, end, bool(options.get("reverse")), _limit(options.get("limit")))


def _limit(limit: Any) -> int | None:
    if limit is None:
        return None
    try:
        number = index(limit)
    except TypeError:
        raise TypeError(
            f"the limit of list() must be an integer, not {type(limit).__name__}"
        ) from None
    if number <= 0:
        raise TypeError("List limit must be positive.")
    return min(number, maxsize)


def _bound(value: Any, name: str) -> bytes:
    what = f"the {name} of list()"
    return _utf8(_text(value, what), what)


def _text(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if not isinstance(value, bool):
        try:
            return str(index(value))
        except TypeError:
            pass
    raise TypeError(f"{what} must be a str, not {type(value).__name__}")


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as cause:
        raise ValueError(f"{what} must be valid Unicode: {cause}") from None
