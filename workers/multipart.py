"""The wire format `multipart/form-data`: (name, value) pairs to bytes and back.

Pure functions without state. Writing follows the HTML standard (a name's quote and line breaks
become %22, %0D, %0A), except that line breaks inside values stay as they are, so that nothing is
changed on the way. Reading accepts what browsers, curl and Python's clients send, walks the body
once, and refuses a body that is cut off: a form is whole or an error, never silently shorter.
"""

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

from workers.blob import File, data_of

__all__ = [
    "boundary_of",
    "encode_multipart",
    "new_boundary",
    "parse_header",
    "parse_multipart",
]

# One parameter of a header. Browsers escape a quote as %22, older curl as \", and Windows paths
# have bare backslashes: a quote therefore ends the value only where another parameter or nothing
# follows it.
_PARAMETER = re.compile(
    r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*'
    r'(?:"((?:\\"|[^"])*?)"(?=[ \t]*(?:;[ \t]*[^\s=;"]+[ \t]*=|;?[ \t]*\Z))|([^;]*))'
)
_AFTER_BOUNDARY = re.compile(rb"(--)|[ \t]*\r\n")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]")


def new_boundary() -> str:
    """A boundary that no content contains, save by a chance of 2**-128."""
    return "----roost" + os.urandom(16).hex()


def boundary_of(parameters: dict[str, str]) -> str:
    """The boundary that a multipart content type names; TypeError when it names none."""
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise TypeError("The content type multipart/form-data has no valid boundary parameter")
    return boundary


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """A header such as `text/html; charset="utf-8"`: its main value and its parameters.

    The main value and the parameters' names are in lower case. Of a repeated parameter the first
    counts.
    """
    main, _, _ = value.partition(";")
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value[len(main) :]):
        parameters.setdefault(name.lower(), quoted.replace('\\"', '"') or bare.strip())
    return main.strip().lower(), parameters


def encode_multipart(pairs: Iterable[tuple[str, str | File]], boundary: str) -> bytes:
    """The pairs as a multipart body.

    Raises TypeError when the boundary, given by a user, occurs in the content.
    """
    out: list[bytes] = []
    delimiter = b"--" + boundary.encode("latin-1")
    for name, value in pairs:
        head = f'Content-Disposition: form-data; name="{_escaped(name)}"'
        if isinstance(value, str):
            data = value.encode()
        else:
            data = data_of(value)
            media = value.content_type or "application/octet-stream"
            head += f'; filename="{_escaped(value.name)}"\r\nContent-Type: {media}'
        if delimiter in data:
            raise TypeError(f"The boundary {boundary!r} occurs in the form's own content")
        out += [delimiter, b"\r\n", head.encode(), b"\r\n\r\n", data, b"\r\n"]
    out += [delimiter, b"--\r\n"]
    return b"".join(out)


def parse_multipart(body: bytes, boundary: str) -> list[tuple[str, str | File]]:
    """The pairs of a multipart body; text is UTF-8, with U+FFFD for what is malformed.

    Raises TypeError when the body is not a complete multipart form.
    """
    delimiter = b"--" + boundary.encode("latin-1")
    pairs: list[tuple[str, str | File]] = []
    found = _delimiter_at(body, delimiter, 0, first=True)
    while True:
        _, start, closing = found
        if closing:
            return pairs
        head_end = body.find(b"\r\n\r\n", start)
        content_start = head_end + 4
        found = _delimiter_at(body, delimiter, start, first=False)
        if head_end == -1 or found[0] < content_start:
            raise TypeError("Malformed multipart form: a part has no end to its headers")
        pairs.append(_pair(body[start:head_end], body[content_start : found[0]]))


def _delimiter_at(
    body: bytes, delimiter: bytes, position: int, *, first: bool
) -> tuple[int, int, bool]:
    """Where the next delimiter begins (with its line break) and ends, and whether it closes."""
    if first and body.startswith(delimiter):
        after = _AFTER_BOUNDARY.match(body, len(delimiter))
        if after:
            return 0, after.end(), bool(after.group(1))
    needle = b"\r\n" + delimiter
    while True:
        begin = body.find(needle, position)
        if begin == -1:
            raise TypeError(
                "Malformed multipart form: the body ends before its closing boundary"
                if body
                else "Malformed multipart form: the body is empty"
            )
        after = _AFTER_BOUNDARY.match(body, begin + len(needle))
        if after:
            return begin, after.end(), bool(after.group(1))
        position = begin + 2  # the boundary was only the beginning of a longer line


def _pair(head: bytes, content: bytes) -> tuple[str, str | File]:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    kind, parameters = parse_header(headers.get("content-disposition", ""))
    if kind != "form-data" or "name" not in parameters:
        raise TypeError("Malformed multipart form: a part has no form-data name")
    name = _unescaped(parameters["name"])
    filename = _filename(parameters)
    if filename is None:
        return name, content.decode("utf-8", "replace")
    return name, File(content, filename, headers.get("content-type", "text/plain"))


def _filename(parameters: dict[str, str]) -> str | None:
    if extended := parameters.get("filename*"):  # RFC 5987, from clients that treat it as mail
        charset, _, rest = extended.partition("'")
        _, quote, encoded = rest.partition("'")
        if quote and charset.lower() in {"utf-8", "iso-8859-1"}:
            return unquote(encoded, charset, "replace")
    filename = parameters.get("filename")
    return None if filename is None else _unescaped(filename)


def _escaped(text: str) -> str:
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _unescaped(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')
