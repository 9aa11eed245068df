"""Large buffers beside the batches: files in shared memory, written once and mapped once.

A buffer that goes through a socket is copied by the sender, twice by the kernel, and has its pages
allocated anew by the receiver. One of 1 MiB and more is written to a file of the instance's directory
in shared memory instead, and the file's path travels in the buffer's place. The receiver maps the file
read-only, without a copy, and unlinks that path at once; the memory lives as long as the mapping.

Writing to new pages takes three times as long as writing to old ones, so a writer keeps some files and
uses one again when nobody maps it any more: a reader holds a shared lock on the file through its
mapping, which ends with it, whatever ends it. A path belongs to its reader from the moment that the
message is sent. Names begin with that of the writing process, so that what a dead process left can be
swept; those of a host's answers end with their reader's, so that the host can remove what a dead one did not
take. When there is no room, the buffer goes through the socket, and one warning says so.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import mmap
import os
import resource
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_log = logging.getLogger("roost.wire")

OUT_OF_BAND = 64 * 1024
"""Buffers of so many bytes travel beside the batch, each in a frame of its own. A shorter frame is the
path of a file on the shelf, so no frame can be mistaken for the other kind."""

SHELVED = 1024 * 1024
"""Buffers of so many bytes are put on the shelf."""

KEPT_BYTES = 256 * 1024 * 1024
"""How much a process keeps in files that it may use again."""

KEPT_SECONDS = 5.0
"""How long it keeps a file that it does not use."""


@dataclass(slots=True)
class _Kept:
    """A file that is used again and again; its own name is one link, a message under way another."""

    descriptor: int
    path: str
    size: int
    used: float

    def is_free(self) -> bool:
        """Whether its last reader has come and gone."""
        if os.fstat(self.descriptor).st_nlink != 1:
            return False
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return True

    def drop(self) -> None:
        """Give it up; who maps it keeps it."""
        os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108  (hot, as all of this module)


class Shelf:
    """Where one process puts its large buffers; any thread may. Without a directory: nowhere."""

    __slots__ = ("_bytes", "_count", "_kept", "_lock", "_prefix", "_warned")

    def __init__(self, directory: Path | None, owner: str) -> None:
        self._prefix = None if directory is None else f"{directory}/{owner}."
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._kept: list[_Kept] = []
        self._bytes = 0
        self._warned = False

    def frame(self, buffer: memoryview, receiver: str = "") -> bytes:
        """Return the frame that stands for a buffer: its path on the shelf, or its bytes."""
        if self._prefix is not None and buffer.nbytes >= SHELVED:
            path = f"{self._prefix}{next(self._count)}{receiver}"
            try:
                self._put(path, buffer.cast("B"))
            except OSError as cause:
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
                self._warn(cause)
            else:
                return path.encode()
        return bytes(buffer)

    def _put(self, path: str, buffer: memoryview) -> None:
        with self._lock:
            kept = self._free_file(len(buffer))
            if kept is None:
                kept = self._new_file(len(buffer))
            if kept is not None:
                try:
                    _write(kept.descriptor, buffer)
                    os.link(kept.path, path)
                except OSError:  # shared memory is full
                    self._drop(kept)
                    raise
                return
        descriptor = _create(path)
        try:
            _write(descriptor, buffer)
        finally:
            os.close(descriptor)

    def _free_file(self, size: int) -> _Kept | None:
        for kept in self._kept:
            if kept.size == size and kept.is_free():
                kept.used = time.monotonic()
                return kept
        return None

    def _new_file(self, size: int) -> _Kept | None:
        """Add a file, in the place of others if need be; None when that is too much."""
        if size > KEPT_BYTES:
            return None
        while self._bytes + size > KEPT_BYTES:
            oldest = min(self._kept, key=lambda kept: kept.used)
            if time.monotonic() - oldest.used < KEPT_SECONDS:
                return None  # all are in use: this one is for once
            self._drop(oldest)
        path = f"{self._prefix}kept-{next(self._count)}"
        kept = _Kept(_create(path), path, size, time.monotonic())
        self._kept.append(kept)
        self._bytes += size
        return kept

    def _drop(self, kept: _Kept) -> None:
        self._kept.remove(kept)
        self._bytes -= kept.size
        kept.drop()

    def to(self, receiver: str) -> ShelfTo:
        """Return the shelf for what goes to one process: `forget` finds that again."""
        return ShelfTo(self, f".to-{receiver}")

    def forget(self, receiver: str) -> None:
        """Remove what was for a process that is gone, and has not taken it."""
        if self._prefix is not None:
            directory, _, owner = self._prefix.rpartition("/")
            _remove(directory, lambda n: n.startswith(owner) and n.endswith(f".to-{receiver}"))

    def trim(self) -> None:
        """Give up the files that were not used for some seconds. To be called now and then."""
        if self._kept:
            before = time.monotonic() - KEPT_SECONDS
            with self._lock:
                for kept in [kept for kept in self._kept if kept.used < before]:
                    self._drop(kept)

    def clear(self) -> None:
        """Give up all files that are kept."""
        with self._lock:
            for kept in list(self._kept):
                self._drop(kept)

    def _warn(self, cause: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "large values take the slow way through sockets, because shared memory cannot be "
                "used: %s",
                cause,
            )


class ShelfTo:
    """A shelf on which everything is for one process."""

    __slots__ = ("_receiver", "_shelf")

    def __init__(self, shelf: Shelf, receiver: str) -> None:
        self._shelf = shelf
        self._receiver = receiver

    def frame(self, buffer: memoryview) -> bytes:
        """See `Shelf.frame`."""
        return self._shelf.frame(buffer, self._receiver)


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, buffer: memoryview) -> None:
    at = 0
    while at < len(buffer):
        at += os.pwrite(descriptor, buffer[at:], at)


def buffers_of(frames: Sequence[bytes]) -> Iterable[bytes | mmap.mmap]:
    """Return the buffers that frames stand for. Raises FileNotFoundError for one that was swept."""
    return [frame if len(frame) >= OUT_OF_BAND else _map(frame) for frame in frames]


def _map(frame: bytes) -> mmap.mmap | bytes:
    descriptor = os.open(frame, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _is_scarce(descriptor):
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
            os.unlink(frame)  # noqa: PTH108
            return data
        # Before the path goes: its writer takes a file without readers and paths for free. The
        # mapping has a duplicate of the descriptor, and with it the lock.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.unlink(frame)  # noqa: PTH108
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def _is_scarce(descriptor: int) -> bool:
    """Whether half of the descriptors that this process may have are taken.

    Each mapping takes one: who keeps a thousand arrays gets the rest of them as copies.
    """
    try:
        next_one = os.dup(descriptor)
    except OSError:
        return True
    os.close(next_one)
    return next_one > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def discard(frames: Iterable[bytes]) -> None:
    """Remove the files of a message that nobody will read."""
    for frame in frames:
        if len(frame) < OUT_OF_BAND:
            with suppress(OSError):
                os.unlink(frame)  # noqa: PTH108


def sweep(directory: Path, owner: str) -> None:
    """Remove what a dead process had put on the shelf and nobody has taken."""
    _remove(directory, lambda name: name.startswith(f"{owner}."))


def _remove(directory: Path | str, is_one: Callable[[str], bool]) -> None:
    with suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208
            if is_one(name):
                with suppress(OSError):
                    os.unlink(f"{directory}/{name}")  # noqa: PTH108
