"""The two directories of an instance, and who may use them.

The data directory holds everything durable: slot files, KV namespaces, the number of slots. One
instance at a time may use it; the kernel lock on its `lock` file is held by the supervisor and,
by inheritance, by all its children, so it is free only when the last of them is gone.

The run directory holds the sockets and the roster of one running instance and goes with it. It
stands under the user's runtime directory; its name begins with a hash of the data directory's path
and ends at random, so that whoever cleans up after an instance that was killed never removes the
directory of the next one. Both are the user's alone (0700): pickles are read from them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import ConfigError, DataDirInUse

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = ".roost"
"""The data directory, unless another is named: beside wrangler.toml, or where the program runs."""

FORMAT = 1
"""Of the data directory as a whole."""

PATIENCE = 5.0
"""Seconds to wait for the children of a supervisor that was killed to be gone."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (a directory of ours in it is made private)
"""Where the kernel keeps files in memory."""

_EXPORT = "export-"
"""What the names of folders begin with in which exports put their copies."""

_LONGEST_RUN = 80
"""Bytes: a socket's path, the run directory with a name behind it, may have at most 107."""


@dataclass(frozen=True, slots=True)
class Directories:
    """The directories of one instance, claimed by it."""

    data: Path
    run: Path
    slots: int
    lock: int
    """The descriptor whose lock keeps others out."""

    @property
    def shelf(self) -> Path | None:
        """Where large values pass through shared memory; None without it."""
        return shelf_directory(self.run)

    @property
    def control(self) -> Path:
        """The socket on which the supervisor answers clients."""
        return self.run / "control"

    @property
    def roster(self) -> Path:
        """The file of the roster."""
        return self.run / "roster"


def make_private(directory: Path) -> None:
    """Make a directory that only this user can enter.

    Raises PermissionError if it is there and others can write to it: who can, runs code as this
    user.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(directory)


def check_private(directory: Path) -> None:
    """Raise PermissionError if others can write to a directory, OSError if there is none."""
    status = directory.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"{directory} can be written by others; make it yours alone: chmod 700 {directory}"
        )


def write_private(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file that only this user can read, whole or not at all; `durable` waits for the disk."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.rename(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have the disk remember which files a directory has."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark_of(data: Path) -> str:
    """Return what the names of all that an instance has outside of its data directory begin with."""
    return hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]


def run_directory(data: Path) -> Path:
    """Return the run directory of the instance that runs on a data directory, or was the last to.

    Raises OSError or ValueError when there was none.
    """
    try:
        return Path(json.loads((data / "lock").read_bytes())["run"])
    except (KeyError, TypeError) as cause:
        raise ValueError(f"{data / 'lock'} names no run directory") from cause


def _new_run(data: Path) -> Path:
    """Make the run directory of a new instance, and remove those of instances that were killed."""
    mark = mark_of(data)
    run = _place_of_run(f"{mark}-{secrets.token_hex(4)}")
    make_private(run.parent)
    for old in (*run.parent.glob(f"{mark}-*"), *SHARED_MEMORY.glob(f"{mark}-*")):
        shutil.rmtree(old, ignore_errors=True)
    run.mkdir(mode=0o700)
    with contextlib.suppress(OSError):  # without shared memory, large values take sockets
        _shelf_of(run).mkdir(mode=0o700)
    return run


def _place_of_run(name: str) -> Path:
    bases = [os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}", tempfile.gettempdir()]
    for base in bases:
        if base and os.path.isdir(base) and os.access(base, os.W_OK):  # noqa: PTH112
            run = Path(base) / f"roost-{os.getuid()}" / name
            if len(os.fsencode(run)) <= _LONGEST_RUN:
                return run
    return Path("/tmp") / f"roost-{os.getuid()}" / name  # noqa: S108  (made private before use)


def shelf_directory(run: Path) -> Path | None:
    """Return the directory in shared memory of an instance, None when it has none."""
    shelf = _shelf_of(run)
    return shelf if shelf.is_dir() else None


def _shelf_of(run: Path) -> Path:
    return SHARED_MEMORY / run.name


def remove_run(run: Path) -> None:
    """Remove what an instance keeps outside of its data directory."""
    shelf = shelf_directory(run)
    if shelf is not None:
        shutil.rmtree(shelf, ignore_errors=True)
    shutil.rmtree(run, ignore_errors=True)


def claim(data: Path, *, hosts: int, slots: int | None) -> Directories:
    """Take a data directory for this process and its children; makes it if it is not there.

    Raises DataDirInUse, naming the pid, while another instance has it; ConfigError when it was
    made with another number of slots than asked for, or has fewer than there are hosts.
    """
    data = data.absolute()
    try:
        make_private(data)
    except FileExistsError as cause:
        raise ConfigError(f"{data} is no directory; name another as the data directory") from cause
    lock = _lock(data)
    try:
        kept = _slots_of(data, hosts, slots)
        run = _new_run(data)
        os.close(_sweep_exports(data))
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "run": str(run)}).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return Directories(data, run, kept, lock)


def _lock(data: Path) -> int:
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(os.pread(lock, 4096, 0))
            # A dead holder's children are about to go, and a new one is about to write its pid;
            # anybody else stays.
            if (pid is not None and _lives(pid)) or time.monotonic() > give_up:
                os.close(lock)
                raise DataDirInUse(
                    f"{data} is in use by another Roost (pid {pid}). Stop that one, use "
                    "another --data-dir, or connect() to it.",
                    pid=pid,
                ) from None
            time.sleep(0.01)
        else:
            return lock


@contextmanager
def kept_free(data: Path) -> Iterator[None]:
    """Keep a data directory free of instances for a moment, to read its files.

    An instance that starts meanwhile waits, as for the children of one that was killed. Raises
    DataDirInUse while one runs, FileNotFoundError when none ever ran.
    """
    lock = os.open(data / "lock", os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(os.pread(lock, 4096, 0))
            raise DataDirInUse(
                f"{data} is in use by another Roost (pid {pid}), which is starting or stopping; "
                "try again in a moment",
                pid=pid,
            ) from None
        yield
    finally:
        os.close(lock)


@contextmanager
def export_folder(data: Path) -> Iterator[Path]:
    """Make a folder in a data directory for the copies of an export, as long as it is under way."""
    lock = _sweep_exports(data)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with tempfile.TemporaryDirectory(prefix=_EXPORT, dir=data) as folder:
            yield Path(folder)
    finally:
        os.close(lock)


def _sweep_exports(data: Path) -> int:
    """Remove what exports that were killed have left, unless one is under way.

    Returns a descriptor of the directory; each export has a shared lock on one, which dies with it.
    """
    lock = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in data.glob(f"{_EXPORT}*"):
            shutil.rmtree(left, ignore_errors=True)
    return lock


def _holder(content: bytes) -> int | None:
    try:
        return int(json.loads(content)["pid"])
    except (ValueError, KeyError, TypeError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kept_slots(data: Path) -> int | None:
    """Return the number of slots of a data directory, None of one that is new. Raises ConfigError."""
    path = data / "format.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_bytes())
        version, slots = int(kept["format"]), int(kept["slots"])
        if slots < 1:
            raise ValueError(f"{slots} slots")
    except (ValueError, KeyError, TypeError) as cause:
        raise ConfigError(
            f"{path} is not readable as the format of a data directory: {cause}"
        ) from cause
    if version > FORMAT:
        raise ConfigError(f"{data} was made by a newer Roost (format {version})")
    return slots


def _slots_of(data: Path, hosts: int, wanted: int | None) -> int:
    kept = kept_slots(data)
    if kept is not None:
        slots = kept
        if wanted is not None and wanted != slots:
            raise ConfigError(
                f"{data} was made with {slots} slots, which cannot change; {wanted} were asked for"
            )
    else:
        cores = os.cpu_count() or 1
        slots = wanted or max(16, 1 << (2 * cores - 1).bit_length())
        if hosts <= slots:
            content = json.dumps({"format": FORMAT, "slots": slots}).encode()
            write_private(data / "format.json", content)
    if hosts > slots:
        raise ConfigError(
            f"{hosts} hosts need as many slots, and {data} has {slots}; "
            "use fewer hosts, or a new data directory with `slots` set"
        )
    return slots


def release(directories: Directories) -> None:
    """Remove the run directory and let the data directory go."""
    remove_run(directories.run)
    os.close(directories.lock)
