"""Backups of a data directory, made while its instance runs or not, and their restoring.

A backup is laid out like a data directory, with a manifest beside it, `backup.json`, that is written
last: without one, or with a file that is not as the manifest says, nothing is restored. Every object
in it is as it was at one moment, and so is every KV namespace. Checkpoints of maps come first, so that
none knows of an item that the objects do not: a map that goes on from them sends items again, and
objects know those they have applied.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from runtime.batch.checkpoint import DIRECTORY as CHECKPOINTS
from runtime.client.reach import reach
from runtime.directories import (
    check_private,
    kept_free,
    make_private,
    sync_directory,
    write_private,
)
from runtime.kv.backup import copy_namespace
from workers.errors import DataDirInUse, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Backup", "back_up", "restore"]

FORMAT: Final = 1
MANIFEST: Final = "backup.json"

_META: Final = ("format.json", "migrations.json")


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup has."""

    made: str
    """When it was complete, in UTC."""
    files: int
    bytes: int


def back_up(data: Path, target: Path, *, history: bool = True) -> Backup:
    """Write a backup of a data directory into a new or empty one; with the objects' histories, or without.

    Raises StorageError when the target is neither, FileNotFoundError when no instance ever ran,
    DataDirInUse while one starts or stops.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} is not empty: a backup takes a directory of its own")
    make_private(target)
    with reach(data) as objects:
        _copy_all(data, target, [*(data / CHECKPOINTS).glob("*.json")])
        objects.backup(target, history=history)
        _copy_all(data, target, [data / name for name in _META if (data / name).exists()])
        for namespace in sorted((data / "kv").glob("*/")):
            copy_namespace(namespace, target / "kv" / namespace.name)
    files = {}
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        files[path.relative_to(target).as_posix()] = _digest(path)
    for folder in {path.parent for path in target.rglob("*")}:
        sync_directory(folder)
    made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    manifest = {"format": FORMAT, "made": made, "files": files}
    write_private(target / MANIFEST, json.dumps(manifest, indent=1).encode(), durable=True)
    return _summary(manifest)


def restore(source: Path, data: Path, *, force: bool = False) -> tuple[Backup, Path | None]:
    """Make a data directory of a backup; returns where `force` has moved the one that was there.

    It takes its place whole or not at all. Raises StorageError when the backup is not complete or
    was changed, and when the directory is not empty and `force` is not given; DataDirInUse.
    """
    manifest = _manifest(source)
    data = data.absolute()
    empty = not data.exists() or (data.is_dir() and not any(data.iterdir()))
    if not empty and not force:
        raise StorageError(
            f"{data} is not empty: name another --data-dir, or move it aside with --force"
        )
    new = data.with_name(f"{data.name}.restoring")
    shutil.rmtree(new, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.mkdir(mode=0o700)
        for name, known in manifest["files"].items():
            path = new / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source / name, path)
            path.chmod(0o600)
            if _digest(path) != known:
                raise StorageError(f"{source / name} is not what the backup's manifest says")
        (new / "lock").touch(mode=0o600)
        for folder in {path.parent for path in new.rglob("*")}:
            sync_directory(folder)
        aside = _make_way(data)
        new.rename(data)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_directory(data.parent)
    return _summary(manifest), aside


def _make_way(data: Path) -> Path | None:
    """Move a directory aside, unless it has nothing; returns where it is then."""
    if not data.exists():
        return None
    if not any(data.iterdir()):
        data.rmdir()
        return None
    aside = data.with_name(f"{data.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    with _unused(data):
        data.rename(aside)
    return aside


@contextmanager
def _unused(data: Path) -> Iterator[None]:
    if not (data / "lock").exists():
        yield
        return
    try:
        with kept_free(data):
            yield
    except DataDirInUse as used:
        raise DataDirInUse(
            f"{data} is in use by another Roost (pid {used.pid}): stop it before restoring",
            pid=used.pid,
        ) from None


def _copy_all(data: Path, target: Path, paths: list[Path]) -> None:
    for path in paths:
        to = target / path.relative_to(data)
        to.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(path, to)


def _digest(path: Path) -> list[Any]:
    """Bring a file to disk, and return its bytes and their SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return [file.tell(), digest]


def _manifest(source: Path) -> dict[str, Any]:
    """Return the manifest of a backup. Raises StorageError when there is none that can be read."""
    check_private(source)
    path = source / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version, files = int(manifest["format"]), manifest["files"]
        if not all(_within(name) for name in files):
            raise ValueError("it names files outside of it")
        _summary(manifest)
    except FileNotFoundError:
        raise StorageError(
            f"{source} is no complete backup: it has no {MANIFEST}, which is written last"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise StorageError(f"{path} cannot be read: {cause}") from cause
    if version > FORMAT:
        raise StorageError(f"{source} was made by a newer Roost (format {version})")
    return manifest


def _within(name: str) -> bool:
    parts = name.split("/")
    return not (name.startswith("/") or ".." in parts or "" in parts)


def _summary(manifest: dict[str, Any]) -> Backup:
    files = manifest["files"].values()
    return Backup(str(manifest["made"]), len(files), sum(size for size, _ in files))
