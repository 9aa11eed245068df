"""Files of records: read as dicts, written as JSON lines.

A record that cannot be read is an error that names its file and line. Nothing is read ahead of what
is asked for but the reader's own buffer, so files may be larger than memory, and pipes work: what
comes out of one is given at once, and a result that goes into one can be waited for no longer.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import select
import stat
import sys
import zlib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Self
from uuid import UUID

from workers.errors import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Format = Literal["jsonl", "csv", "tsv", "parquet"]

STANDARD: Final = "-"
"""Standard input, or output."""

PIECE: Final = 1 << 16
"""Bytes read from standard input at a time, and gathered for standard output."""

COUNTED: Final = 64 << 20
"""Bytes of a file in which lines are counted, which takes 20 ms."""

LOOK: Final = 0.2
"""Seconds after which to look whether to wait any longer for who reads the results."""

_SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Records:
    """The records of a file, in order; `where` says which is the last that was given."""

    def __init__(self, path: str, wanted: Format | None) -> None:
        """Raises OSError when there is no such file, RoostError when its format is unknown."""
        if path != STANDARD:
            Path(path).stat()
        self._path = path
        self._number = 0
        self._input = _StandardInput() if path == STANDARD else None
        self._format = wanted or _format_of(path)
        if self._format == "parquet" and path == STANDARD:
            raise RoostError("Parquet cannot be read from a pipe: name the file with --input")

    @property
    def where(self) -> str:
        """The file and the line (or row) of the last record."""
        name = "standard input" if self._path == STANDARD else self._path
        what = "row" if self._format == "parquet" else "line"
        return f"{name}, {what} {self._number:,}"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        read: dict[Format, Callable[[], Iterator[dict[str, Any]]]] = {
            "jsonl": self._json_lines,
            "csv": self._csv,
            "tsv": self._csv,
            "parquet": self._parquet,
        }
        try:
            yield from read[self._format]()
        except (EOFError, gzip.BadGzipFile, zlib.error) as cause:
            raise RoostError(f"{self._path} cannot be read as gzip: {cause}") from cause

    def __length_hint__(self) -> int:
        """Return how many records there are, about. NotImplemented of what has to be read to know."""
        many = None
        if self._input is None and is_file(self._path) and not self._path.endswith(".gz"):
            many = _rows_of(self._path) if self._format == "parquet" else _lines_of(self._path)
        if many is not None and self._format in {"csv", "tsv"}:
            many = max(0, many - 1)  # the header
        return NotImplemented if many is None else many

    def would_block(self) -> bool:
        """Whether the next record is not there yet."""
        return self._input is not None and self._input.would_block()

    def _open(self) -> _StandardInput | IO[str]:
        if self._input is not None:
            return self._input
        if self._path.endswith(".gz"):
            return gzip.open(self._path, "rt", encoding="utf-8-sig", newline="")
        return Path(self._path).open(encoding="utf-8-sig", newline="")

    def _json_lines(self) -> Iterator[dict[str, Any]]:
        with self._open() as file:
            try:
                for self._number, line in enumerate(file, 1):
                    if line.isspace():
                        continue
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise RoostError(
                            f"{self.where}: a JSON object is expected, and this is "
                            f"{type(record).__name__}"
                        )
                    yield record
            except json.JSONDecodeError as cause:
                raise RoostError(f"{self.where}: this is not JSON: {cause}") from cause
            except UnicodeDecodeError as cause:
                raise RoostError(f"{self.where}: the next line is not UTF-8: {cause}") from cause
            except (ValueError, RecursionError) as cause:  # a number too long, a value too deep
                raise RoostError(f"{self.where}: {cause}") from cause

    def _csv(self) -> Iterator[dict[str, Any]]:
        with self._open() as file:
            csv.field_size_limit(sys.maxsize)
            reader = csv.DictReader(file, delimiter="\t" if self._format == "tsv" else ",")
            try:
                names = reader.fieldnames or ()
                self._number = reader.line_num
                for name in names:
                    if names.count(name) > 1:
                        raise RoostError(f"{self.where}: the header has the field {name!r} twice")
                for record in reader:
                    self._number = reader.line_num
                    if None in record or None in record.values():
                        raise RoostError(
                            f"{self.where}: this line has another number of fields than the "
                            f"header, which has {len(names)}"
                        )
                    yield record
            except csv.Error as cause:
                self._number = reader.line_num
                raise RoostError(f"{self.where}: {cause}") from cause
            except UnicodeDecodeError as cause:
                raise RoostError(f"{self.where}: the next line is not UTF-8: {cause}") from cause

    def _parquet(self) -> Iterator[dict[str, Any]]:
        try:
            from pyarrow import ArrowException, parquet  # noqa: PLC0415  (if it is there)
        except ImportError as cause:
            raise RoostError("reading Parquet takes pyarrow: pip install pyarrow") from cause
        try:
            with parquet.ParquetFile(self._path) as file:
                for piece in file.iter_batches(8192):
                    for record in piece.to_pylist():
                        self._number += 1
                        yield record
        except ArrowException as cause:
            raise RoostError(f"{self._path} cannot be read as Parquet: {cause}") from cause


def _rows_of(path: str) -> int | None:
    try:
        from pyarrow import parquet  # noqa: PLC0415  (if it is there)

        rows: int = parquet.read_metadata(path).num_rows
    except Exception:  # whoever reads it says what is wrong
        return None
    return rows


def _lines_of(path: str) -> int:
    """Return how many lines a file has; of a long one, how many if all of it is like its beginning."""
    lines = seen = 0
    last = b"\n"
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while seen < COUNTED and (piece := file.read(COUNTED >> 6)):
            lines += piece.count(b"\n")
            seen += len(piece)
            last = piece[-1:]
    if seen < size:
        return round(lines * size / seen)
    return lines + (last != b"\n")


def _format_of(path: str) -> Format:
    if path == STANDARD:
        return "jsonl"
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    try:
        return _SUFFIXES[suffix]
    except KeyError:
        raise RoostError(
            f"{path}: of what format is it? Name one with --format: jsonl, csv, tsv or parquet"
        ) from None


class _StandardInput:
    """Standard input, line by line, and whether there is a line now."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._rest: list[bytes] = []
        """The pieces of a line whose end has not come."""
        self._ended = False

    def would_block(self) -> bool:
        """Whether nothing has come that was not read."""
        return not (self._lines or self._ended or select.select([sys.stdin], [], [], 0)[0])

    def __iter__(self) -> Iterator[str]:
        encoding = "utf-8-sig"  # of the first line: a byte order mark is none of its characters
        while True:
            while self._lines:
                yield self._lines.pop().decode(encoding)
                encoding = "utf-8"
            piece = b"" if self._ended else os.read(sys.stdin.fileno(), PIECE)
            self._ended = not piece
            first, *others = piece.split(b"\n")
            self._rest.append(first)
            if others:
                whole = [b"".join(self._rest), *others[:-1]]
                self._lines = [line + b"\n" for line in reversed(whole)]
                self._rest = [others[-1]]
            elif self._ended:
                if rest := b"".join(self._rest):
                    yield rest.decode(encoding)
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It stays open: it is not ours."""


class _StandardOutput:
    """Standard output. Never blocks where a signal could not end it.

    `sys.stdout` would wait for its reader without end, again at its flush, and again at the exit.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self.hurry = False
        """Whether to give up, with BrokenPipeError, as soon as the reader takes nothing."""

    def write(self, data: bytes) -> None:
        """Take bytes; they go out at a flush, or when there are many."""
        self._pending += data
        if len(self._pending) >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Let everything go out. Raises BrokenPipeError when nobody reads."""
        while self._pending:
            if select.select([], [sys.stdout], [], LOOK)[1]:
                # Of a pipe that can be written to, so much is sure not to block.
                sent = os.write(sys.stdout.fileno(), self._pending[: select.PIPE_BUF])
                del self._pending[:sent]
            elif self.hurry:
                raise BrokenPipeError("nobody reads the results")

    def close(self) -> None:
        """Let everything go out; standard output itself stays open."""
        self.flush()


class Lines:
    """A file of JSON lines that is written; or standard output, or nothing."""

    def __init__(self, path: str | None, resume_at: int | None = None) -> None:
        """Open it. With `resume_at`, what it has up to that byte is kept, and the rest goes.

        Raises OSError, and RoostError when it is shorter than that.
        """
        self._file: IO[bytes] | _StandardOutput | None = None
        if path == STANDARD:
            self._file = _StandardOutput()
        elif path is not None and resume_at:
            size = Path(path).stat().st_size if Path(path).exists() else 0
            if size < resume_at:
                raise RoostError(
                    f"{path} has {size:,} bytes, and {resume_at:,} were written before: put it back, "
                    "or use another --checkpoint to begin anew"
                )
            self._file = Path(path).open("r+b")  # noqa: SIM115  (closed by `close`)
            self._file.truncate(resume_at)
            self._file.seek(resume_at)
        elif path is not None:
            self._file = Path(path).open("wb")  # noqa: SIM115

    def write(self, record: dict[str, Any]) -> None:
        """Write a line. Raises TypeError for what JSON cannot say."""
        if self._file is not None:
            text = json.dumps(record, ensure_ascii=False, default=_plain)
            self._file.write(text.encode("utf-8", "surrogatepass") + b"\n")

    def show(self) -> None:
        """Let whoever reads standard output have all lines. Raises BrokenPipeError."""
        if isinstance(self._file, _StandardOutput):
            self._file.flush()

    def hurry(self) -> None:
        """Wait no longer for a reader that takes nothing."""
        if isinstance(self._file, _StandardOutput):
            self._file.hurry = True

    def make_durable(self) -> int | None:
        """Bring all lines to disk; returns how many bytes there are.

        None if there is no file, or it is a pipe, or a device.
        """
        if self._file is None:
            return None
        self._file.flush()
        if isinstance(self._file, _StandardOutput) or not is_file(self._file.fileno()):
            return None
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


def is_file(file: str | int) -> bool:
    """Whether it is a file, and not a pipe, a terminal or a device. Raises OSError."""
    return stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116  (of a descriptor, too)


def _plain(value: object) -> object:
    """Say in JSON what NumPy, datetimes, decimals, sets and bytes are."""
    for name in ("tolist", "isoformat"):
        convert = getattr(value, name, None)
        if convert is not None:
            return convert()
    if isinstance(value, Decimal | UUID | timedelta | PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"JSON cannot say what {type(value).__name__} is")
