"""Files of records: read as dicts, written as JSON lines.

A record that cannot be read is an error that names its file and line. Nothing is read ahead of what
is asked for but the reader's own buffer, so files may be larger than memory, and pipes work.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from workers.errors import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Format = Literal["jsonl", "csv", "tsv", "parquet"]

STANDARD: Final = "-"
"""Standard input, or output."""

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
        yield from read[self._format]()

    def _open(self) -> IO[str]:
        if self._path == STANDARD:
            return io.TextIOWrapper(sys.stdin.buffer, "utf-8", newline="")
        if self._path.endswith(".gz"):
            return gzip.open(self._path, "rt", encoding="utf-8", newline="")
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

    def _csv(self) -> Iterator[dict[str, Any]]:
        with self._open() as file:
            reader = csv.DictReader(file, delimiter="\t" if self._format == "tsv" else ",")
            try:
                for record in reader:
                    self._number = reader.line_num
                    if None in record or None in record.values():
                        raise RoostError(
                            f"{self.where}: this line has another number of fields than the "
                            f"header, which has {len(reader.fieldnames or ())}"
                        )
                    yield record
            except csv.Error as cause:
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


class Lines:
    """A file of JSON lines that is written; or standard output, or nothing."""

    def __init__(self, path: str | None, resume_at: int | None = None) -> None:
        """Open it. With `resume_at`, what it has up to that byte is kept, and the rest goes.

        Raises OSError, and RoostError when it is shorter than that.
        """
        self._path = path
        self._file: IO[bytes] | None = None
        if path == STANDARD:
            self._file = sys.stdout.buffer
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

    def make_durable(self) -> int | None:
        """Bring all lines to disk; returns how many bytes there are, None if there is no file."""
        if self._file is None:
            return None
        self._file.flush()
        if self._path == STANDARD:
            return None
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.flush()
            if self._path != STANDARD:
                self._file.close()


def _plain(value: object) -> object:
    """Say in JSON what NumPy, datetimes, sets and bytes are."""
    for name in ("tolist", "isoformat"):
        convert = getattr(value, name, None)
        if convert is not None:
            return convert()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"JSON cannot say what {type(value).__name__} is")
