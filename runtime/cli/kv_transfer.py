"""`roost kv export` and `roost kv import`: a whole namespace as JSON lines, or as a directory of files.

A line is a pair of `roost kv bulk put`: key and value, with expiration and metadata if it has them, and
`base64: true` where the value is not text. In a directory a key is the path of a file; what a file
system does not take as a path, and all expirations and metadata, are in its index.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from base64 import b64decode
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from runtime.cli.kv_bulk import shown_value
from runtime.cli.namespace import namespace_options
from runtime.config.table import shown
from runtime.kv import Entry, Write
from runtime.kv.arriving import arrive
from runtime.kv.validation import key_bytes, metadata_text, value_bytes
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runtime.cli.namespace import Namespace
    from runtime.kv import Store

INDEX: Final = "_roost_kv.jsonl"
"""The file of a directory that says what its files' names and contents do not."""

_BATCH_WRITES: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024
_PAST_ALL_KEYS: Final = b"\xff"
_REFUSALS: Final = (TypeError, ValueError, KVError)


@click.command()
@namespace_options
@click.argument("target", type=click.Path(path_type=Path), default="-")
@click.option("--directory", is_flag=True, help="Write a directory with a file for each key.")
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with it.")
def export(namespace: Namespace, target: Path, prefix: str, *, directory: bool) -> None:
    """Write a whole namespace to a file or directory.

    TARGET is a file of JSON lines; - or nothing is standard output. Values, expirations and metadata
    are in it, to the byte. With --directory TARGET is a new or empty
    directory, which gets a file for each key, and an index of what files cannot say.

    \b
    Examples:
      roost kv export settings.jsonl
      roost kv export --prefix user: | gzip > users.jsonl.gz
      roost kv export site --directory --binding ASSETS
    """
    if directory and str(target) == "-":
        raise click.UsageError("name the directory to write")
    with namespace.read() as store:
        keys = _counted(_keys(store, prefix), None, "exported")
        if directory:
            count = _to_directory(store, keys, target)
        elif str(target) == "-":
            count = _to_lines(store, keys, sys.stdout.buffer)
        else:
            part = target.with_name(target.name + ".part")
            with part.open("wb") as file:
                count = _to_lines(store, keys, file)
            part.rename(target)  # whole, or not at all
    click.echo(f"exported {count:,} key{'s' * (count != 1)} of {namespace.label}", err=True)


def _keys(store: Store, prefix: str) -> Iterator[bytes]:
    lower = raw = prefix.encode()
    while True:
        page = store.scan(lower, _PAST_ALL_KEYS, 1000)
        for listed in page:
            if not listed.key.startswith(raw):
                return
            yield listed.key
        if len(page) < 1000:
            return
        lower = page[-1].key + b"\x00"


def _to_lines(store: Store, keys: Iterable[bytes], file: IO[bytes]) -> int:
    count = 0
    for key in keys:
        entry = store.read(key)
        if entry is None:  # gone meanwhile
            continue
        about = {"key": key.decode()} | shown_value(entry.value)
        _write_line(file, about | _belongings(entry.metadata, entry.expires))
        count += 1
    file.flush()
    return count


def _belongings(metadata: str | None, expires: float | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if expires is not None:
        told["expiration"] = expires
    if metadata is not None:
        told["metadata"] = json.loads(metadata)
    return told


def _write_line(file: IO[bytes], about: dict[str, Any]) -> None:
    file.write(json.dumps(about, ensure_ascii=False).encode() + b"\n")


def _to_directory(store: Store, keys: Iterable[bytes], target: Path) -> int:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise click.ClickException(f"{target} is not empty: export into a new directory")
    count = 0
    with (target / INDEX).open("wb") as index:
        for key in keys:
            found = store.open(key)
            if found is None:
                continue
            path = _path_of(target, key.decode(), count)
            with path.open("wb") as file:
                if isinstance(found, Entry):
                    file.write(found.value)
                else:
                    with found.file as value:
                        shutil.copyfileobj(value, file)
            count += 1
            about = _belongings(found.metadata, found.expires)
            name = path.relative_to(target).as_posix()
            if about or name != key.decode():
                _write_line(index, {"key": key.decode(), "file": name} | about)
    return count


def _path_of(target: Path, key: str, number: int) -> Path:
    """Return where a key's file goes; its directory is there."""
    parts = key.split("/")
    if not {"", ".", ".."} & set(parts) and "\0" not in key and not key.startswith("_roost_kv"):
        path = target.joinpath(*parts)
        with contextlib.suppress(OSError):  # too long, or a file where a directory has to be
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
            return path
    path = target / "_roost_kv" / f"{number}"
    path.parent.mkdir(exist_ok=True)
    return path


@click.command("import")
@namespace_options
@click.argument("source", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--skip", type=click.IntRange(min=0), default=0, metavar="N", help="Pass over N keys."
)
def import_(namespace: Namespace, source: Path, skip: int) -> None:
    """Write all keys of a file or directory.

    SOURCE is a file of JSON lines (- is standard input), or a directory.
        What `roost kv export` wrote comes back as it was, but for what has expired meanwhile. Of any
    other directory each file becomes a key, its path. Keys that SOURCE does not have stay. A mistake stops
    it, and what came before is written: the message says with which --skip to go on.

    \b
    Examples:
      roost kv import settings.jsonl
      gunzip -c users.jsonl.gz | roost kv import -
      roost kv import site --binding ASSETS
    """
    total = None
    if source.is_dir():
        items = list(_files(source))
        total = len(items)
        found: Iterable[tuple[str, Callable[[], _Item]]] = items
    else:
        found = _lines(source)
    with namespace.open() as store:
        batches = _Batches(store, skip)
        try:
            for number, (place, item) in enumerate(_counted(found, total, "imported")):
                if number >= skip:
                    batches.add(place, item())
            batches.finish()
        except (click.ClickException, *_REFUSALS, OSError) as error:
            with contextlib.suppress(KVError):
                batches.finish()
            text = error.message if isinstance(error, click.ClickException) else str(error)
            raise click.ClickException(f"{text}; go on with --skip {batches.done}") from error
    kept = batches.done - skip - batches.expired
    expired = f"; {batches.expired:,} had expired" if batches.expired else ""
    click.echo(f"imported {kept:,} key{'s' * (kept != 1)} into {namespace.label}{expired}")


class _Item:
    """A key to be written. A large value is a file, which is streamed."""

    def __init__(self, about: dict[str, Any], value: object, file: Path | None = None) -> None:
        self.key: str = about["key"]
        self.file = file
        self.raw = key_bytes(self.key, "PUT")
        self.expires = _expiration(about)
        self.metadata: Any = about.get("metadata")
        self.entry = Entry(
            b"" if file is not None else value_bytes(value), metadata_text(about), self.expires
        )


def _expiration(about: dict[str, Any]) -> float | None:
    expires = about.get("expiration")
    if expires is None:
        return None
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise TypeError(f"expiration: expected seconds since 1970, found {shown(expires)}")
    if not math.isfinite(expires):
        raise ValueError("expiration: expected seconds since 1970")
    return float(expires)


class _Batches:
    """Writes items in order, so many at once that they share commits."""

    def __init__(self, store: Store, done: int) -> None:
        self.done = done
        self.expired = 0
        self._store = store
        self._writes: list[Write] = []
        self._taken = 0
        self._bytes = 0

    def add(self, place: str, item: _Item) -> None:
        self._taken += 1
        if item.expires is not None and item.expires <= self._store.clock():
            self.expired += 1
            return
        file, entry = None, item.entry
        if item.file is not None:
            with item.file.open("rb") as opened:
                try:
                    came = arrive(opened, self._store.new_file)
                except KVError as error:
                    raise click.ClickException(f"{place}: {error}") from error
            file = came.file
            entry = Entry(came.in_memory(), entry.metadata, entry.expires)
        self._writes.append(Write(item.raw, entry, file, future=Future()))
        self._bytes += self._writes[-1].size
        if len(self._writes) == _BATCH_WRITES or self._bytes >= _BATCH_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write what was added, and wait until it is durable. Raises KVError."""
        writes, self._writes = self._writes, []
        taken, self._taken = self._taken, 0
        self._bytes = 0
        self._store.submit(*writes)
        for write in writes:
            assert isinstance(write.future, Future)
            write.future.result()
        self.done += taken


def _lines(source: Path) -> Iterator[tuple[str, Callable[[], _Item]]]:
    name = "standard input" if str(source) == "-" else str(source)
    file = contextlib.nullcontext(sys.stdin.buffer) if str(source) == "-" else source.open("rb")
    with file as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{name}: line {number}"
                yield place, partial(_of_line, line, place)


def _of_line(line: bytes, place: str) -> _Item:
    try:
        pair = json.loads(line)
        if not isinstance(pair, dict) or not isinstance(pair.get("key"), str):
            raise TypeError(f'expected {{"key": ..., "value": ...}}, found {shown(pair)}')
        text = pair.get("value")
        if not isinstance(text, str):
            raise TypeError(f"value: expected a string, found {shown(text)}")
        value = b64decode(text, validate=True) if pair.get("base64") is True else text
        return _Item(pair, value)
    except (*_REFUSALS, RecursionError) as error:
        raise click.ClickException(f"{place}: {error}") from error


def _files(source: Path) -> Iterator[tuple[str, Callable[[], _Item]]]:
    """Yield the files of a directory as items, in the order of their paths."""
    indexed: dict[str, dict[str, Any]] = {}
    index = source / INDEX
    if index.is_file():
        for number, line in enumerate(index.read_bytes().splitlines(), 1):
            try:
                about = json.loads(line)
                indexed[about["file"]] = {"key": str(about["key"])} | about
            except (ValueError, TypeError, KeyError) as error:
                raise click.ClickException(f"{index}: line {number}: {error}") from error
    for path in sorted(source.rglob("*")):
        if path.is_file() and path != index:
            name = path.relative_to(source).as_posix()
            about = indexed.get(name, {"key": name})
            yield str(path), partial(_of_file, about, path)


def _of_file(about: dict[str, Any], path: Path) -> _Item:
    try:
        return _Item(about, None, path)
    except _REFUSALS as error:
        raise click.ClickException(f"{path}: {error}") from error


def _counted(items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
    """Show on a terminal how far it has come."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console  # noqa: PLC0415  (30 ms that other commands can spare)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total)
