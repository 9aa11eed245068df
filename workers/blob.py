"""Bytes with a media type (`Blob`), and with a name besides (`File`).

Both are immutable values: whole in memory, picklable, so that they pass through RPC and storage.
The API is that of Cloudflare's Python SDK over the web's Blob and File.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import re
import time
from collections.abc import AsyncIterator, Iterable
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Blob", "BlobEnding", "BlobValue", "File"]

# Inside the classes below `bytes` is the method of that name.
_Bytes: TypeAlias = bytes

_NATIVE_NEWLINE = re.compile(r"\r\n|\r")
_CHUNK = 64 * 1024


class BlobEnding(StrEnum):
    """What becomes of line breaks in a Blob's text parts."""

    TRANSPARENT = "transparent"
    """They stay as they are."""

    NATIVE = "native"
    """CRLF and CR become LF, the native line break here."""


class Blob:
    """Immutable bytes with a media type.

    `blob_parts` is one part or an iterable of parts, joined. A single Blob hands on its media type
    unless another is given. Raises TypeError for a part that is neither text nor bytes.
    """

    __slots__ = ("_data", "_type")

    _data: _Bytes
    _type: str

    def __init__(
        self,
        blob_parts: "Iterable[BlobValue] | BlobValue" = (),
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
    ) -> None:
        if isinstance(blob_parts, Blob) and not content_type:
            content_type = blob_parts._type
        parts = [blob_parts] if isinstance(blob_parts, _SINGLE_PARTS) else blob_parts
        native = BlobEnding(endings or BlobEnding.TRANSPARENT) is BlobEnding.NATIVE
        self._data = b"".join([_part_bytes(part, native=native) for part in parts])
        self._type = _media_type(content_type)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    @property
    def content_type(self) -> str:
        """The media type in lower case, "" when there is none."""
        return self._type

    @property
    def type(self) -> str:
        """`content_type` in the web's spelling."""
        return self._type

    async def text(self) -> str:
        """The bytes as UTF-8 text; malformed sequences become U+FFFD."""
        return self._data.decode("utf-8", "replace")

    async def bytes(self) -> _Bytes:
        """The bytes."""
        return self._data

    async def array_buffer(self) -> _Bytes:
        """The bytes, under the web's name."""
        return self._data

    async def stream(self) -> AsyncIterator[_Bytes]:
        """The bytes in pieces of at most 64 KiB."""
        for start in range(0, len(self._data), _CHUNK):
            yield self._data[start : start + _CHUNK]

    def slice(
        self, start: int | None = None, end: int | None = None, content_type: str | None = None
    ) -> "Blob":
        """The bytes from `start` up to `end` (negative: from the end), with no type unless given."""
        return Blob(self._data[start:end], content_type)

    @property
    def js_object(self) -> "Blob":
        """The Blob itself: in Roost nothing lies beneath it."""
        return self

    def __repr__(self) -> str:
        return f"Blob(size={self.size}, content_type={self._type!r})"

    arrayBuffer = array_buffer


class File(Blob):
    """A Blob with a name and a time, as an upload has.

    `last_modified` is in milliseconds since 1970; without it, the File that is copied gives its
    own, else the time is now.
    """

    __slots__ = ("_last_modified", "_name")

    _last_modified: int
    _name: str

    def __init__(
        self,
        blob_parts: "Iterable[BlobValue] | BlobValue",
        filename: str,
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
        last_modified: int | None = None,
    ) -> None:
        super().__init__(blob_parts, content_type, endings)
        if last_modified is None and isinstance(blob_parts, File):
            last_modified = blob_parts._last_modified
        self._last_modified = int(time.time() * 1000) if last_modified is None else last_modified
        self._name = filename

    @property
    def name(self) -> str:
        """The file's name, as its sender gave it: not safe to use as a path."""
        return self._name

    @property
    def last_modified(self) -> int:
        """Milliseconds since 1970."""
        return self._last_modified

    def __repr__(self) -> str:
        return f"File(name={self._name!r}, size={self.size}, content_type={self._type!r})"

    @property
    def lastModified(self) -> int:
        """`last_modified` in the web's spelling."""
        return self._last_modified


BlobValue: TypeAlias = str | bytes | bytearray | memoryview | Blob
"""One part of a Blob; strings count as UTF-8."""

_SINGLE_PARTS = (str, bytes, bytearray, memoryview, Blob)


def _part_bytes(part: object, *, native: bool) -> bytes:
    if isinstance(part, str):
        return (_NATIVE_NEWLINE.sub("\n", part) if native else part).encode()
    if isinstance(part, Blob):
        return part._data
    try:
        return memoryview(part).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"A Blob is made of str, bytes and Blob, found {type(part).__name__}"
        ) from None


def _media_type(content_type: str | None) -> str:
    # The web's rule: a type with anything but printable ASCII counts as none.
    if not content_type or not content_type.isascii() or not content_type.isprintable():
        return ""
    return content_type.lower()


def data_of(blob: Blob) -> bytes:
    """The Blob's bytes without awaiting."""
    return blob._data
