"""HTTP headers: a list of pairs that reads like a mapping.

Names are kept in lower case, so that they compare as HTTP wants; the order of the pairs and repeated
names are kept, because `Set-Cookie` cannot be joined. What a script adds is checked where it is
added (no line breaks, nothing outside Latin-1), so that no value can forge another header. The
engine's own pairs come from a parser that has checked them and are taken over as they are.
Semantics follow the fetch standard's Headers, with the reading side of Python's HTTPMessage.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias, TypeVar, overload

__all__ = ["Headers", "HeadersInit"]

_Default = TypeVar("_Default")

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_find_bad_value = re.compile(r"[\0\r\n]|[^\x00-\xff]").search


class Headers:
    """HTTP headers, case-insensitive, with repeated names.

    Reading a name that is absent gives None, also with brackets, as Python's HTTPMessage does.
    Reading a repeated name gives its values joined with a comma, as HTTP allows; of `Set-Cookie`,
    which cannot be joined, the first: `get_all` has every value.
    """

    __slots__ = ("_pairs",)

    def __init__(self, init: "HeadersInit | None" = None) -> None:
        self._pairs: list[tuple[str, str]] = []
        if init is None:
            return
        if isinstance(init, Headers):
            self._pairs = init._pairs.copy()
            return
        pairs: Iterable[tuple[str, str]]
        pairs = init.items() if hasattr(init, "items") else init
        try:
            for name, value in pairs:
                self._pairs.append((_checked_name(name), _checked_value(name, value)))
        except ValueError as error:
            raise TypeError(
                f"headers must be a mapping or pairs of (name, value), got {init!r}"
            ) from error

    @classmethod
    def from_raw(cls, pairs: list[tuple[str, str]]) -> "Headers":
        """Take over `pairs` without copying or checking: the engine's way in.

        Names must be in lower case and values free of line breaks, as an HTTP parser gives them.
        """
        headers = cls.__new__(cls)
        headers._pairs = pairs
        return headers

    def raw(self) -> list[tuple[str, str]]:
        """Every pair in the order in which it was added: what goes on the wire."""
        return self._pairs

    def append(self, name: str, value: str) -> None:
        """Add a value, keeping those that the name already has.

        Raises TypeError when the name is no HTTP token, or the value has line breaks, NUL, or
        characters outside Latin-1.
        """
        self._pairs.append((_checked_name(name), _checked_value(name, value)))

    def set(self, name: str, value: str) -> None:
        """Give the name this one value, in the place of any it has. Raises as `append` does."""
        pair = (_checked_name(name), _checked_value(name, value))
        self._pairs[:] = [kept for kept in self._pairs if kept[0] != pair[0]]
        self._pairs.append(pair)

    def delete(self, name: str) -> None:
        """Remove every value of the name, if it has any."""
        name = name.lower()
        self._pairs[:] = [pair for pair in self._pairs if pair[0] != name]

    def has(self, name: str) -> bool:
        """Whether the name has a value."""
        name = name.lower()
        return any(kept == name for kept, _ in self._pairs)

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _Default) -> str | _Default: ...
    def get(self, name: str, default: _Default | None = None) -> str | _Default | None:
        """The name's value, joined when there are several, or `default`."""
        values = self.get_all(name)
        if not values:
            return default
        return values[0] if len(values) == 1 else _joined(name.lower(), values)

    def get_all(self, name: str) -> list[str]:
        """Every value of the name, in the order in which they were added."""
        name = name.lower()
        return [value for kept, value in self._pairs if kept == name]

    def get_set_cookie(self) -> list[str]:
        """Every `Set-Cookie` value."""
        return self.get_all("set-cookie")

    def items(self) -> list[tuple[str, str]]:
        """Pairs sorted by name, repeated names joined, each `Set-Cookie` by itself."""
        values: dict[str, list[str]] = {}
        for name, value in self._pairs:
            values.setdefault(name, []).append(value)
        pairs: list[tuple[str, str]] = []
        for name in sorted(values):
            if name == "set-cookie":
                pairs += [(name, value) for value in values[name]]
            else:
                pairs.append((name, _joined(name, values[name])))
        return pairs

    def keys(self) -> list[str]:
        """The names of `items()`."""
        return [name for name, _ in self.items()]

    def values(self) -> list[str]:
        """The values of `items()`."""
        return [value for _, value in self.items()]

    def for_each(self, callback: Callable[[str, str], object]) -> None:
        """Call `callback(value, name)` for each of `items()`, in the original's argument order."""
        for name, value in self.items():
            callback(value, name)

    def __getitem__(self, name: str) -> str | None:
        return self.get(name)

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __bool__(self) -> bool:
        return True  # as an object of the original: `if request.headers` never asks for its size

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    def __reduce__(
        self,
    ) -> tuple[Callable[[list[tuple[str, str]]], "Headers"], tuple[list[tuple[str, str]]]]:
        return Headers.from_raw, (self._pairs,)

    getAll = get_all
    getSetCookie = get_set_cookie
    forEach = for_each
    entries = items


HeadersInit: TypeAlias = Headers | Mapping[str, str] | Iterable[tuple[str, str]]
"""What `headers=` accepts: a mapping, an iterable of pairs (for repeated names), or Headers."""


def _joined(name: str, values: list[str]) -> str:
    if name == "set-cookie":
        return values[0]
    return ("; " if name == "cookie" else ", ").join(values)


@lru_cache(512)  # scripts use few names; a hit costs 60 ns, the check 250 ns
def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not _is_name(name):
        raise TypeError(f"Invalid header name: {name!r}")
    return name.lower()


def _checked_value(name: str, value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif isinstance(value, int | float):
        value = str(value)
    elif not isinstance(value, str):
        raise TypeError(f"The value of header {name!r} must be a str, found {type(value).__name__}")
    value = value.strip(" \t\r\n")
    if bad := _find_bad_value(value):
        raise TypeError(
            f"Invalid value for header {name!r}: {bad.group()!r} may not stand in a header"
        )
    return value
