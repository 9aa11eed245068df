"""Large buffers beside the batches: files in shared memory, written once and mapped once.

A buffer that goes through a socket is copied by the sender, twice by the kernel, and has its pages
allocated anew by the receiver. One of 1 MiB and more is written to a file of the instance's directory
in shared memory instead, and the file's path travels in the buffer's place. The receiver maps the file
read-only, without a copy, and unlinks it at once; the memory lives as long as the mapping.

A file belongs to its reader from the moment that the message is sent. Its name begins with that of the
writing process, so that what a dead process left can be swept. When there is no room, the buffer goes
through the socket, and one warning says so.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_log = logging.getLogger("roost.wire")

OUT_OF_BAND = 64 * 1024
"""Buffers of so many bytes travel beside the batch, each in a frame of its own. A shorter frame is the
path of a file on the shelf, so no frame can be mistaken for the other kind."""

SHELVED = 1024 * 1024
"""Buffers of so many bytes are put on the shelf."""


class Shelf:
    """Where one process puts its large buffers. `directory` None: everything takes the socket."""

    __slots__ = ("_count", "_prefix", "_warned")

    def __init__(self, directory: Path | None, owner: str) -> None:
        self._prefix = None if directory is None else f"{directory}/{owner}."
        self._count = itertools.count()
        self._warned = False

    def frame(self, buffer: memoryview) -> bytes:
        """Return the frame that stands for a buffer: its path on the shelf, or its bytes."""
        if self._prefix is not None and buffer.nbytes >= SHELVED:
            path = f"{self._prefix}{next(self._count)}"
            try:
                _write(path, buffer)
            except OSError as cause:
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108  (hot, as all of this module)
                if not self._warned:
                    self._warned = True
                    _log.warning(
                        "large values take the slow way through sockets, because shared memory "
                        "cannot be used: %s",
                        cause,
                    )
            else:
                return path.encode()
        return bytes(buffer)


def _write(path: str, buffer: memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = buffer.cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def buffers_of(frames: Sequence[bytes]) -> Iterable[bytes | mmap.mmap]:
    """Return the buffers that frames stand for. Raises FileNotFoundError for one that was swept."""
    return [frame if len(frame) >= OUT_OF_BAND else _map(frame) for frame in frames]


def _map(frame: bytes) -> mmap.mmap:
    descriptor = os.open(frame, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.unlink(frame)  # noqa: PTH108
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        return mmap.mmap(descriptor, 0, flags=flags, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def discard(frames: Iterable[bytes]) -> None:
    """Remove the files of a message that nobody will read."""
    for frame in frames:
        if len(frame) < OUT_OF_BAND:
            with suppress(OSError):
                os.unlink(frame)  # noqa: PTH108


def sweep(directory: Path, owner: str) -> None:
    """Remove what a dead process had put on the shelf and nobody has taken."""
    with suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208
            if name.startswith(f"{owner}."):
                with suppress(OSError):
                    os.unlink(directory / name)  # noqa: PTH108
