"""A form: names with text or file values, in order, and names may repeat.

`FormData` is the value; `encode_form` and `parse_form` turn it into a body and back, as
`multipart/form-data` or `application/x-www-form-urlencoded`. The wire format itself lives in
multipart.py. The API is that of Cloudflare's Python SDK over the web's FormData: a mapping whose
brackets read the first value of a name, and None where there is none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode

from workers.blob import Blob, File
from workers.multipart import (
    boundary_of,
    encode_multipart,
    new_boundary,
    parse_header,
    parse_multipart,
)

__all__ = ["FormData", "FormDataValue", "encode_form", "parse_form"]

FormDataValue: TypeAlias = str | Blob
"""A form's value: text, or a file."""


class FormData(MutableMapping[str, Any]):
    """A form: an ordered list of (name, value), where a value is text or a File.

    Made from nothing, a mapping, pairs, or another FormData. As in the original, `items`, `keys`
    and `values` go through every pair, so that a repeated name appears as often as it was added.
    Numbers become text; a Blob becomes a File named "blob", or `filename`. Other values, and lists,
    raise TypeError.
    """

    __slots__ = ("_pairs",)

    def __init__(
        self,
        form_data: Mapping[str, FormDataValue] | Iterable[tuple[str, FormDataValue]] | None = None,
    ) -> None:
        self._pairs: list[tuple[str, str | File]] = []
        if form_data is None:
            return
        if isinstance(cast("object", form_data), str | bytes):
            raise TypeError(
                "Expected form_data to be a mapping, pairs, or an instance of FormData; "
                "a body is parsed with `await request.form_data()`"
            )
        pairs = form_data.items() if isinstance(form_data, Mapping) else form_data
        for name, value in pairs:
            self.append(name, value)

    def append(self, key: str, value: FormDataValue, filename: str | None = None) -> None:
        """Add a value, keeping those that the name already has."""
        self._pairs.append((str(key), _value(value, filename)))

    def set(self, key: str, value: FormDataValue, filename: str | None = None) -> None:
        """Give the name this one value, in the place of its first one."""
        new = (str(key), _value(value, filename))
        kept: list[tuple[str, str | File]] = []
        placed = False
        for pair in self._pairs:
            if pair[0] != new[0]:
                kept.append(pair)
            elif not placed:
                kept.append(new)
                placed = True
        if not placed:
            kept.append(new)
        self._pairs = kept

    def delete(self, key: str) -> None:
        """Remove every value of the name, if it has any."""
        self._pairs = [pair for pair in self._pairs if pair[0] != key]

    def has(self, key: str) -> bool:
        """Whether the name has a value."""
        return any(name == key for name, _ in self._pairs)

    def get(self, key: str, default: Any = None) -> Any:
        """The name's first value, or `default`."""
        for name, value in self._pairs:
            if name == key:
                return value
        return default

    def get_all(self, key: str) -> list[str | File]:
        """Every value of the name."""
        return [value for name, value in self._pairs if name == key]

    def pop(self, key: str, default: Any = None) -> Any:
        """The name's first value, or `default`; every value of the name is removed."""
        value = self.get(key, default)
        self.delete(key)
        return value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The name's first value, which becomes `default` when there is none."""
        if not self.has(key):
            self.append(key, default)
        return self.get(key)

    # The views below repeat names, as the original's do, where a mapping's own views would not.
    def items(self) -> Iterator[tuple[str, str | File]]:  # type: ignore[override]
        """Every (name, value)."""
        return iter(self._pairs.copy())

    def keys(self) -> Iterator[str]:  # type: ignore[override]
        """The name of every pair."""
        return iter([name for name, _ in self._pairs])

    def values(self) -> Iterator[str | File]:  # type: ignore[override]
        """The value of every pair."""
        return iter([value for _, value in self._pairs])

    def for_each(self, callback: Callable[[str | File, str], object]) -> None:
        """Call `callback(value, name)` for every pair."""
        for name, value in self._pairs.copy():
            callback(value, name)

    @property
    def js_object(self) -> "FormData":
        """The FormData itself: in Roost nothing lies beneath it."""
        return self

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: FormDataValue) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.has(key)

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"FormData({self._pairs!r})"

    getAll = get_all
    forEach = for_each
    entries = items


def _value(value: object, filename: str | None) -> str | File:
    if isinstance(value, Blob):
        if filename is None and isinstance(value, File):
            return value
        return File(value, "blob" if filename is None else filename)
    if filename is not None:
        raise TypeError("Only a Blob or File can have a filename in a FormData")
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        raise TypeError(
            "Expected single item as a FormData value, found a "
            f"{type(value).__name__}; use append() for each"
        )
    raise TypeError(
        f"A FormData value is a str, Blob or File, found {type(value).__name__}; "
        "wrap bytes in a Blob or File"
    )


def encode_form(form: FormData, content_type: str | None = None) -> tuple[bytes, str]:
    """The form as a body, and the content type to send with it.

    `content_type` is what the user asked for: `application/x-www-form-urlencoded` gives that format
    (a file counts with its name, as in HTML), a multipart type keeps its boundary, and None gives
    multipart with a new boundary. Raises TypeError for any other type.
    """
    media, parameters = parse_header(content_type or "multipart/form-data")
    pairs = cast("Iterable[tuple[str, str | File]]", form.items())
    if media == "application/x-www-form-urlencoded":
        text = [(name, value if isinstance(value, str) else value.name) for name, value in pairs]
        return urlencode(text).encode("ascii"), cast("str", content_type)
    if media != "multipart/form-data":
        raise TypeError(f"A FormData cannot be sent as {content_type!r}")
    if "boundary" in parameters:
        boundary = boundary_of(parameters)
        return encode_multipart(pairs, boundary), cast("str", content_type)
    boundary = new_boundary()
    return encode_multipart(pairs, boundary), f"multipart/form-data; boundary={boundary}"


def parse_form(body: bytes, content_type: str | None) -> FormData:
    """The form that a body holds.

    Raises TypeError when `content_type` is no form type, lacks its boundary, or when the body is
    not what the type says.
    """
    media, parameters = parse_header(content_type or "")
    if media == "application/x-www-form-urlencoded":
        text = body.decode("utf-8", "replace")
        return FormData(parse_qsl(text, keep_blank_values=True, errors="replace"))
    if media == "multipart/form-data":
        return FormData(parse_multipart(body, boundary_of(parameters)))
    raise TypeError(
        "A form is read from multipart/form-data or application/x-www-form-urlencoded; "
        f"this body's content type is {content_type or 'missing'}"
    )
