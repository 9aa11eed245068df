"""What commits change, told to the processes that watch a namespace.

A watching process has a FIFO in the namespace's directory. A writer that has committed, and still has
the write lock, puts its changes into each of them: so they come in the order of the commits, after the
commit is durable and the shared cache true, and the kernel wakes who waits. A FIFO is the bound: when
one is full, its process misses changes, and no writer ever waits.

Three words in the namespace's page (`trust`) make sure that nobody misses changes without knowing.
WATCHED is 0 while nobody watches, and then reading it is all that a writer does. BEGUN counts the
commits that have begun, and TOLD says which of them was the last to be told. A commit's number stands
behind its changes; a watcher that has not got to TOLD missed something, and so has one that is behind
BEGUN while nobody holds the write lock: a writer died, or failed, between the two.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import select
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.kv.forks import close_in_children, closed
from runtime.kv.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PUT: Final = 1
DELETE: Final = 2
EXPIRED: Final = 3
_END: Final = 0
"""Kinds of records."""

_WATCHED, _BEGUN, _TOLD = 2, 3, 4
"""Where the words are in the page."""

_FOLDER = "watching"
_LOCK = "watching.lock"
_RECORD = struct.Struct("<QBdH")  # the commit's number, kind, expiry, bytes of the key
_NEVER = float("inf")
_AT_ONCE = select.PIPE_BUF
"""Bytes that a FIFO takes whole or not at all."""

_ROOM = 1024 * 1024
"""Bytes of a FIFO: 20,000 changes and more. The kernel gives less to who has many."""

_READ_BYTES = 64 * 1024


class Changed(NamedTuple):
    """What happened to a key."""

    kind: int
    key: bytes
    expires: float | None = None


class Publisher:
    """Tells of the commits of this process. All of it happens under the write lock."""

    def __init__(self, directory: Path, words: memoryview) -> None:
        self._directory = directory
        self._words = words

    def begin(self) -> None:
        """Note that a commit begins."""
        self._words[_BEGUN] += 1

    def tell(self, changes: Iterable[Changed]) -> None:
        """Tell what the commit changed, which is durable now. Never raises."""
        words = self._words
        if words[_WATCHED]:
            with contextlib.suppress(OSError):  # who hears nothing sees that it missed something
                self._send(list(_chunks(words[_BEGUN], changes)))
        words[_TOLD] = words[_BEGUN]

    def _send(self, chunks: list[bytes]) -> None:
        folder = self._directory / _FOLDER
        hearing = 0
        names = os.listdir(folder)  # noqa: PTH208  (half the time of a Path's)
        for name in names:
            with contextlib.suppress(OSError):
                hearing += _put(folder / name, chunks)
        if hearing < len(names) or not names:
            self._clean(folder, names)

    def _clean(self, folder: Path, names: list[str]) -> None:
        """Remove the FIFOs of processes that are gone; note when nobody is left."""
        with write_lock(self._directory / _LOCK):  # nobody is between making one and opening it
            for name in names:
                with contextlib.suppress(OSError):
                    if not _put(folder / name, []):
                        (folder / name).unlink()
            if not any(folder.iterdir()):
                self._words[_WATCHED] = 0


def _put(path: Path, chunks: list[bytes]) -> bool:
    """Put chunks into a FIFO, as far as they fit; whether anybody has it open. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    try:
        for chunk in chunks:
            os.write(descriptor, chunk)
    except BlockingIOError:
        pass  # full: what is missing now is noticed there
    finally:
        os.close(descriptor)
    return True


def _chunks(number: int, changes: Iterable[Changed]) -> Iterator[bytes]:
    """Yield the records of a commit in pieces that a FIFO takes whole or not at all."""
    chunk = b""
    for kind, key, expires in (*changes, Changed(_END, b"")):
        expiry = _NEVER if expires is None else expires
        record = _RECORD.pack(number, kind, expiry, len(key)) + key
        if len(chunk) + len(record) > _AT_ONCE:
            yield chunk
            chunk = b""
        chunk += record
    yield chunk


class Subscription:
    """The FIFO of this process. What is committed from now on is heard, or known to be missed."""

    def __init__(self, directory: Path, words: memoryview) -> None:
        """Begin to hear. Raises OSError."""
        self._writing = directory / "write.lock"
        self._words = words
        self._rest = b""
        folder = directory / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / secrets.token_hex(8)
        with write_lock(directory / _LOCK):
            os.mkfifo(self._path, 0o600)
            # Open for writing too: else it would be at its end whenever no writer has it open.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            words[_WATCHED] = 1
        close_in_children(self._descriptor)  # a copy would be taken for somebody who hears
        self._heard = words[_TOLD]
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _ROOM)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to hear; whether there was within this time."""
        return bool(self._poll.poll(seconds * 1000))

    def wake(self) -> None:
        """End somebody's `wait`."""
        with contextlib.suppress(BlockingIOError):  # full: it ends anyway
            os.write(self._descriptor, _RECORD.pack(self._heard, _END, _NEVER, 0))

    def hear(self) -> tuple[list[Changed], bool]:
        """Return what was told since the last time, and whether anything before now is missing."""
        told = self._words[_TOLD]  # before reading: all of it has been put in by then
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._descriptor, _READ_BYTES):
                self._rest += piece
        changes, missed = self._parsed()
        if told > self._heard:
            self._heard = told
            missed = True
        return changes, missed

    def _parsed(self) -> tuple[list[Changed], bool]:
        changes, missed, at = [], False, 0
        rest = self._rest
        while at + _RECORD.size <= len(rest):
            number, kind, expiry, length = _RECORD.unpack_from(rest, at)
            end = at + _RECORD.size + length
            if end > len(rest):
                break
            if kind != _END:
                key = rest[at + _RECORD.size : end]
                changes.append(Changed(kind, key, None if expiry == _NEVER else expiry))
            elif number > self._heard:
                missed = missed or number > self._heard + 1
                self._heard = number
            at = end
        self._rest = rest[at:]
        return changes, missed

    def look_for_the_dead(self) -> None:
        """If a commit began and nobody is at it, nobody will tell of it: have `hear` notice.

        Raises OSError.
        """
        words = self._words
        if words[_BEGUN] == words[_TOLD]:
            return
        # Else it is being made, or by a successor, whose number will show that one is missing.
        with contextlib.suppress(BlockingIOError), write_lock(self._writing, wait=False):
            words[_TOLD] = words[_BEGUN]

    def close(self) -> None:
        """Hear no more."""
        closed(self._descriptor)
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
