"""One table of a configuration, with its place in the file, read with types and ranges.

Whoever reads a key gets a value of the asked type, or a ConfigError that says the file, the dotted
key, what was expected and what was found. A table is never changed.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeVar

from workers.errors import ConfigError

__all__ = ["KEYWORDS", "Table", "shown"]

KEYWORDS: Final = "Runtime(...)"
"""Stands for the file where a configuration came as keyword arguments."""

_BARE: Final = re.compile(r"[A-Za-z0-9_$-]+")
_LARGEST: Final = 2**53  # what JSON can carry; no setting comes near
_DEEPEST: Final = 64
_BITS_SHOWN: Final = 256  # longer integers may not even be convertible to decimal
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping of a configuration, at a place."""

    file: str
    """The file as the user named it, or KEYWORDS."""
    at: str
    """Dotted key of this table; empty for the top level."""
    data: Mapping[str, object]

    def __contains__(self, name: str) -> bool:
        return name in self.data

    def key(self, name: str) -> str:
        """The dotted key of an entry, or of a path below one, such as `bindings[0].name`."""
        part = _quoted(name) if name in self.data else name
        return f"{self.at}.{part}" if self.at else part

    def error(self, name: str, problem: str) -> ConfigError:
        """The error of an entry; the caller raises it."""
        return self._error(self.key(name), problem)

    def expected(self, name: str, what: str) -> ConfigError:
        """The error of an entry that is not what it should be; the caller raises it."""
        found = shown(self.data[name]) if name in self.data else "nothing"
        return self.error(name, f"expected {what}, found {found}")

    def allow(self, known: AbstractSet[str], elsewhere: Mapping[str, str] | None = None) -> None:
        """Refuse a key that is not known, and say which was probably meant.

        `elsewhere` says of keys that belong into another table where that is.
        """
        for name in self.data:
            if not isinstance(name, str):
                raise self._error(self.at, f"expected a string as a key, found {shown(name)}")
            if name in known:
                continue
            if elsewhere and name in elsewhere:
                raise self.error(name, f"unknown key here; it belongs {elsewhere[name]}")
            close = get_close_matches(name, sorted(known), n=1)
            raise self.error(name, f"unknown key{f'; did you mean {close[0]!r}?' if close else ''}")

    def text(self, name: str, what: str, form: Callable[[str], object] = bool) -> str:
        """A string that `form` accepts; must be there."""
        value = self.data.get(name)
        if not isinstance(value, str) or not form(value):
            raise self.expected(name, what)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; `default` when it is not there."""
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.expected(name, "true or false")
        return value

    def integer(self, name: str, default: _T, low: int, high: int = _LARGEST) -> int | _T:
        """An integer from `low` to `high`; `default` when it is not there."""
        if name not in self.data:
            return default
        value = self.data[name]
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        limit = f"of at least {low}" if high == _LARGEST else f"from {low} to {high}"
        raise self.expected(name, f"an integer {limit}")

    def seconds(self, name: str, default: float) -> float:
        """A number of seconds, zero or more; `default` when it is not there."""
        if name not in self.data:
            return default
        value = self.data[name]
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and 0 <= value <= _LARGEST
        ):
            return float(value)
        raise self.expected(name, "a number of seconds, zero or more")

    def texts(self, name: str, what: str, form: Callable[[str], object] = bool) -> tuple[str, ...]:
        """A list of strings that `form` accepts; empty when it is not there."""
        items = self._items(name, f"a list, each item {what}")
        for index, item in enumerate(items):
            if not isinstance(item, str) or not form(item):
                raise self.error(f"{name}[{index}]", f"expected {what}, found {shown(item)}")
        return tuple(str(item) for item in items)

    def table(self, name: str) -> "Table":
        """The table under a key; empty when it is not there."""
        value = self.data.get(name, {})
        if not isinstance(value, Mapping):
            what = "a mapping" if self.file == KEYWORDS else "a table"
            raise self.expected(name, what)
        return Table(self.file, self.key(name), value)

    def tables(self, name: str) -> list["Table"]:
        """The list of tables under a key; empty when it is not there."""
        found = []
        for index, item in enumerate(self._items(name, "a list of tables")):
            if not isinstance(item, Mapping):
                raise self.error(f"{name}[{index}]", f"expected a table, found {shown(item)}")
            found.append(Table(self.file, f"{self.key(name)}[{index}]", item))
        return found

    def json(self, name: str) -> object:
        """A copy of what JSON can say: None, boolean, number, string, list, table of such.

        TOML's dates and times are refused, as Cloudflare's vars refuse them.
        """
        return self._json(self.data[name], self.key(name), _DEEPEST)

    def _json(self, value: object, key: str, deeper: int) -> object:
        if not deeper:
            raise self._error(key, f"nested deeper than {_DEEPEST} levels")
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, Mapping):
            Table(self.file, key, value).allow(value.keys())
            return {
                name: self._json(inner, f"{key}.{_quoted(name)}", deeper - 1)
                for name, inner in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [
                self._json(inner, f"{key}[{index}]", deeper - 1)
                for index, inner in enumerate(value)
            ]
        what = "a string, a number, a boolean, or a list or table of them"
        raise self._error(key, f"expected {what}, found {shown(value)}")

    def _error(self, key: str, problem: str) -> ConfigError:
        place = f"{self.file}: {key}" if key else self.file
        file = None if self.file == KEYWORDS else self.file
        return ConfigError(f"{place}: {problem}", file=file, key=key or None)

    def _items(self, name: str, what: str) -> Sequence[object]:
        value = self.data.get(name, ())
        if not isinstance(value, (list, tuple)):
            raise self.expected(name, what)
        return value


def _quoted(name: str) -> str:
    """A key as it stands in a dotted key: with quotes when TOML would need them."""
    return name if _BARE.fullmatch(name) else repr(name)


def shown(value: object) -> str:
    """A value as an error message shows it: on one line, short, whatever it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > _BITS_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlevel = 3
    # Ints this long inside a list could not be printed; the type is enough there.
    try:
        return short.repr(value)
    except ValueError:
        return f"a {type(value).__name__}"
