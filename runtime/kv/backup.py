"""Copies a KV namespace while processes read and write it.

The copy is the namespace at one moment: the moment at which, under the write lock, a reading
transaction begins and the files of large values get a second name, so that nobody can remove them.
That takes microseconds a file; the copying itself goes on without the lock.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from runtime.kv.durable import DiskTier
from runtime.kv.value_file import FOLDER
from runtime.kv.write_lock import write_lock
from workers.errors import KVError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["copy_namespace"]

_FILES = "SELECT filename FROM Cache WHERE filename IS NOT NULL"


def copy_namespace(directory: Path, target: Path) -> bool:
    """Copy a namespace to a new directory; returns whether there is one. Raises KVError."""
    try:
        return _copy(directory, target)
    except (sqlite3.Error, OSError) as cause:
        raise KVError(f"the KV namespace {directory} cannot be copied: {cause}") from cause


def _copy(directory: Path, target: Path) -> bool:
    kept = directory / "backup"
    with ExitStack() as stack:
        tier = stack.enter_context(closing(DiskTier(directory, time.time)))
        if not tier._is_complete():  # noqa: SLF001  (this package's own)
            return False
        stack.enter_context(write_lock(directory / "backup.lock"))  # one backup at a time
        shutil.rmtree(kept, ignore_errors=True)  # of one that was killed
        stack.callback(shutil.rmtree, kept, ignore_errors=True)
        kept.mkdir(mode=0o700)
        (target / FOLDER).mkdir(mode=0o700, parents=True)
        database = stack.enter_context(closing(tier._connect()))  # noqa: SLF001
        with tier.lock():
            database.execute("BEGIN")
            names = [name for (name,) in database.execute(_FILES).fetchall()]
            for name in names:
                _keep(directory / name, kept / os.path.basename(name))  # noqa: PTH119
        path = target / "cache.db"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path)) as copy:
            database.backup(copy)
        for name in names:
            shutil.copy(kept / os.path.basename(name), target / name)  # noqa: PTH119
    return True


def _keep(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # not every file system has them
        shutil.copy(file, name)
