"""A checkpoint: what is durably known of a map, so that a rerun goes on where it stopped.

One small file in the data directory, replaced as a whole: which items of the input are done, and
the random name of the job. Objects remember the items of that job which were applied and are not
yet done here (see runtime/host/ledger.py), so a rerun sends those again, and gets their stored
results without applying anything twice.

The file's owner holds a kernel lock. Deleting the file makes the job a new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from zlib import crc32

from runtime.batch.done import Done
from workers.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMAT: Final = 2
"""1 had another checksum of the input, and counted failures that were raised."""

DIRECTORY: Final = "checkpoints"
"""In the data directory."""

EVERY: Final = 0.5
"""Seconds between two saves, at least; and at least 20 times what one takes."""

SAMPLE: Final = 1024
"""Items between two samples of the input's checksum, at most: the first are after 1, 2, 4 and so on."""

_NAME_BYTES: Final = 180


@dataclass(frozen=True, slots=True)
class Purpose:
    """Of what map a checkpoint is; a rerun must be of the same."""

    class_name: str
    method: str


class Checkpoint:
    """See the module's text. Not for two threads at a time."""

    def __init__(self, data: Path, name: str, purpose: Purpose) -> None:
        """Open the checkpoint of a name, or begin it.

        Raises CheckpointError when another process uses it, when it cannot be read, and when it is
        of another class or method.
        """
        if not name or len(quote(name, safe="")) > _NAME_BYTES:
            raise CheckpointError(
                f"a checkpoint's name has 1 to {_NAME_BYTES} characters (escaped as in a URL), "
                f"unlike {name!r}"
            )
        self.name = name
        self.note: Any = None
        """What `on_save` returned when the checkpoint was last saved."""
        self.on_save: Callable[[], Any] = lambda: None
        """Called before each save: makes durable what belongs to the items done so far."""
        self.failed = 0
        """Items among those done whose call failed."""
        self._purpose = purpose
        directory = data / DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._path = directory / f"{quote(name, safe='')}.json"
        self._lock = self._own()
        self._checksum = 0
        self._read = 0
        self._keys: list[Any] = []  # of the items read since the last sample
        self._until = 1  # how many of them make the next
        self._samples: deque[tuple[int, int]] = deque()
        self._verify: tuple[int, int] | None = None
        try:
            self.done = self._load()
        except BaseException:
            os.close(self._lock)
            raise
        self.saved_low = self.done.low
        """All items below it are durably done."""
        self.began_at = len(self.done)
        """How many items earlier runs had done."""
        if not self._path.exists():
            try:
                self.save()  # objects must not remember items of a job whose name is lost in a crash
            except BaseException:
                self.close()
                raise

    def _own(self) -> int:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise CheckpointError(
                f"checkpoint {self.name!r} is in use by another map (pid {owner})"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _load(self) -> Done:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            self.job = f"{self.name}/{secrets.token_hex(8)}"
            return Done()
        try:
            kept = json.loads(content)
            version = int(kept["format"])
            if version <= FORMAT:
                self.job = str(kept["job"])
                purpose = Purpose(str(kept["class"]), str(kept["method"]))
                self.failed = int(kept["failed"]) if version == FORMAT else 0
                self.note = kept["note"]
                sample = kept["sample"]
                if version == FORMAT and sample[0]:
                    self._verify = (int(sample[0]), int(sample[1]))
                done = Done(int(kept["low"]))
                for first, end in kept["above"]:
                    done.above.update(range(int(first), int(end)))
        except (ValueError, KeyError, TypeError, IndexError) as cause:
            raise CheckpointError(
                f"{self._path} cannot be read as a checkpoint: {cause}"
            ) from cause
        if version > FORMAT:
            raise CheckpointError(f"{self._path} was written by a newer Roost (format {version})")
        if purpose != self._purpose:
            raise CheckpointError(
                f"checkpoint {self.name!r} is of {purpose.class_name}.{purpose.method}(), not of "
                f"{self._purpose.class_name}.{self._purpose.method}(): use another name, or delete "
                f"{self._path} to begin anew"
            )
        return done

    def saw(self, key: Any) -> None:
        """Take note of an item that was read, in the order of the input.

        Raises CheckpointError when the input is not the one that the checkpoint is of.
        """
        keys = self._keys
        keys.append(key)
        if len(keys) >= self._until:
            self._sample(len(keys))

    def _sample(self, count: int) -> None:
        """Take the checksum of all keys up to the first few of those that were read since the last.

        One of many keys: 0.1 µs a key, and one each takes 0.6.
        """
        keys = self._keys
        text = "\0".join(map(str, keys[:count])) + "\0"
        del keys[:count]
        self._checksum = crc32(text.encode(errors="replace"), self._checksum)
        read = self._read = self._read + count
        self._until = min(read, SAMPLE)
        self._samples.append((read, self._checksum))
        if self._verify is None:
            return
        if read < self._verify[0]:
            self._until = min(self._until, self._verify[0] - read)
            return
        if self._checksum != self._verify[1]:
            raise CheckpointError(
                f"the first {read:,} items have other keys than those which checkpoint "
                f"{self.name!r} is of: give it the same input in the same order (tables also with "
                "the same batch), or use another name"
            )
        self._verify = None

    def ended(self, count: int) -> None:
        """Take note of the end of the input. Raises CheckpointError when more of it is done."""
        if self._verify is not None and count < self._verify[0]:
            raise CheckpointError(
                f"the input has {count:,} items, and checkpoint {self.name!r} is of one with at "
                f"least {self._verify[0]:,}"
            )
        if self._keys:
            self._sample(len(self._keys))

    def save(self) -> None:
        """Make what is done durable. Raises OSError when that is impossible."""
        note = self.on_save()
        done = self.done
        samples = self._samples
        if self._verify is None and 0 < done.low - self._read <= len(self._keys):
            self._sample(done.low - self._read)
        sample = (0, 0)
        while samples and samples[0][0] <= done.low:
            sample = samples.popleft()
        if sample[0]:
            samples.appendleft(sample)
        kept = {
            "format": FORMAT,
            "job": self.job,
            "class": self._purpose.class_name,
            "method": self._purpose.method,
            "low": done.low,
            "above": done.ranges(),
            "failed": self.failed,
            "sample": self._verify or sample,
            "note": note,
        }
        temporary = f"{self._path}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(kept).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, self._path)  # noqa: PTH105
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.note = note
        self.saved_low = done.low

    def close(self) -> None:
        """Let another process have it; saves nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
