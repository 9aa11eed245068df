"""One SQLite file whose commits another thread makes durable.

A commit is one SQLite transaction, appended to the write-ahead log without a sync
(`synchronous=NORMAL`), so it costs no disk wait and is whole or absent, also after a kill: the log
is in the kernel's memory. Nothing may be acknowledged before `sync()`, one fdatasync of the log,
which another thread makes: then every commit made before it is on disk, as with `synchronous=FULL`,
for one disk wait however many commits there were. A power cut before it cuts the log's end off at a
transaction's border (frames carry checksums). Checkpoints copy the log into the main file, and
SQLite syncs both around that. Opening makes one, so that what a dead owner left unsynced is durable
before anybody reads it. "relaxed" leaves the fdatasync out: a power cut may then take the last
commits, and never the file's integrity.

The file has one owner, and SQLite's exclusive lock; all methods belong to its loop's thread, except
`sync`. No other descriptor of the main file is ever opened in the process, because closing it would
drop SQLite's locks; logs carry none.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final

import apsw

from workers.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path
    from typing import Literal

__all__ = ["LOG_KEPT_BYTES", "WalFile"]

LOG_KEPT_BYTES: Final = 64 << 20
"""A log that one large transaction made longer than this is cut back when it starts anew."""

COPY_PAGES: Final = 256
"""Pages (of 4 KiB) that are copied at a time, in 1 to 2 ms."""

COPY_WAIT: Final = 0.005
"""Seconds between two looks at whether a transaction has ended."""

COPY_RESTARTS: Final = 3
"""How often the copying of a file may begin anew before it is done in one piece."""


class WalFile:
    """See the module's text. Every method raises StorageError, with SQLite's error as its cause.

    A subclass says what its file is called and what tables it has, and what it does to a
    connection that was opened.
    """

    KIND: ClassVar[str]
    """What errors call the file."""
    MIGRATIONS: ClassVar[tuple[str, ...]]
    """What makes the tables, and then brings them from each format to the next: SQL. How many of them a
    file has had is its format, kept in its user_version. One that was released never changes."""
    CHECKPOINT_PAGES: ClassVar[int]
    """The log is checkpointed when it has so many pages (of 4 KiB)."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["strict", "relaxed"],
        fdatasync: Callable[[int], None] = os.fdatasync,
        vfs: str | None = None,
    ) -> None:
        """Open the file, and make it if there is none (mode 0600).

        `fdatasync` and `vfs` (the name of an SQLite VFS) are replaced by tests only.
        """
        self.path = path
        self.needs_sync = durability == "strict"
        """Whether `sync()` does anything."""
        self._fdatasync = fdatasync
        self._vfs = vfs
        self._log = f"{path}-wal"
        self._log_fd: int | None = None
        self._syncing = Lock()  # guards _log_fd, which sync() uses and close() closes
        self.unsound = False
        """Whether a sync failed: what the log has on disk is unknown until the next use mends it."""
        self._use(self._connect())

    # --- opening ---------------------------------------------------------------------------------

    def _use(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def _connect(self) -> apsw.Connection:
        try:
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection = apsw.Connection(
                str(self.path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs
            )
        except (OSError, apsw.Error) as cause:
            raise StorageError(f"{self.KIND} {self.path} cannot be opened: {cause}") from cause
        try:
            # Exclusive first: the log's index is then in memory, and no -shm file exists.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").get  # noqa: B018
            version = connection.execute("PRAGMA user_version").get
            newest = len(self.MIGRATIONS)
            if version > newest:
                raise StorageError(
                    f"{self.KIND} {self.path} has format {version}, and this version of Roost "
                    f"reads formats up to {newest}: it was written by a newer one"
                )
            if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get:
                raise StorageError(f"{self.path} is an SQLite file, but no {self.KIND} of Roost")
            connection.execute(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
                f"PRAGMA wal_autocheckpoint = {self.CHECKPOINT_PAGES}; "
                f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}; PRAGMA temp_store = MEMORY"
            ).fetchall()
            self._bring_in(connection)
            self._opened(connection, version)
        except BaseException as cause:
            with suppress(apsw.Error):  # a disk that fails may do so again
                connection.close(True)
            if not isinstance(cause, apsw.Error):
                raise
            raise StorageError(f"{self.KIND} {self.path} cannot be opened: {cause}") from cause
        return connection

    def _bring_in(self, connection: apsw.Connection) -> None:
        """Bring the log into the main file, at the opening."""
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _closing(self) -> None:
        """Do what is to be done before a sound connection is closed."""

    def _copying(self) -> None:
        """Do what is to be done before pages are copied."""

    def _copied(self, copy: apsw.Connection) -> None:
        """Do what is to be done to a copy that has all pages."""

    def _opened(self, connection: apsw.Connection, version: int) -> None:
        """Do to a file of a format, 0 if it is new, what this kind of file wants."""

    @classmethod
    def _migration(cls, version: int) -> str:
        """Return the SQL that brings a file of a format up to date, within a transaction."""
        return f"{''.join(cls.MIGRATIONS[version:])}; PRAGMA user_version = {len(cls.MIGRATIONS)};"

    def _migrate(self, connection: apsw.Connection, version: int) -> None:
        """Bring a file of a format up to date, whole or not at all."""
        if version < len(self.MIGRATIONS):
            connection.execute(f"BEGIN IMMEDIATE; {self._migration(version)} COMMIT").fetchall()

    # --- reading and writing ---------------------------------------------------------------------

    def _sound(self) -> None:
        """Make sure that the file may be used."""
        if self.unsound:
            self._mend()

    def _unreadable(self, cause: Exception) -> StorageError:
        return StorageError(f"{self.KIND} {self.path} cannot be read: {cause}")

    def _unwritable(self, cause: BaseException) -> StorageError:
        return StorageError(f"{self.KIND} {self.path} cannot be written: {cause}")

    def _roll_back(self) -> None:
        """End the transaction that is open, if one is; nothing of it stays."""
        with suppress(apsw.Error):
            if self._connection.in_transaction:  # SQLite itself rolls back for a full disk
                self._cursor.execute("ROLLBACK")

    # --- durability ------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make every commit made before this call durable. The one method for another thread.

        Does nothing when the durability is relaxed.
        """
        if not self.needs_sync:
            return
        with self._syncing:
            # After a failure, the kernel reports success for pages that it has dropped.
            if self.unsound:
                raise StorageError(
                    f"{self.KIND} {self.path} is not durable: an earlier sync failed"
                )
            try:
                self._fdatasync(self._log_descriptor())
            except OSError as cause:
                self.unsound = True
                raise StorageError(f"{self.KIND} {self.path} is not durable: {cause}") from cause

    def _log_descriptor(self) -> int:
        """Return a descriptor of the log, which SQLite may have made anew since."""
        found = os.stat(self._log)  # noqa: PTH116 - 1 µs, and a Path costs 4
        if self._log_fd is not None:
            have = os.fstat(self._log_fd)
            if (have.st_ino, have.st_dev) == (found.st_ino, found.st_dev):
                return self._log_fd
            os.close(self._log_fd)
            self._log_fd = None
        self._log_fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        # The names of the new files must be on disk too.
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return self._log_fd

    def _mend(self) -> None:
        """Make the file sound after a failed sync; StorageError, and no use of it, until it is.

        The log's tail may be on disk or lost, and a later fdatasync would not tell. So the file is
        opened anew: SQLite reads the log up to its last whole transaction, and the checkpoint
        brings all of that, synced, into the main file.
        """
        self._disconnect()
        self._use(self._connect())
        self.unsound = False

    def _disconnect(self) -> None:
        """Close the connection; an unsound log is left as it is, for the next opening."""
        try:
            if self.unsound:
                with suppress(apsw.ConnectionClosedError):
                    self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            else:
                self._closing()
            self._connection.close(True)
        except apsw.Error as cause:
            raise StorageError(f"{self.KIND} {self.path} cannot be closed: {cause}") from cause

    def copy_to(self, target: Path) -> Generator[float, None, None]:
        """Copy the file, a piece at a time, into a new one that stands alone.

        The copy has what was committed when the last piece was made, and nothing is between that
        and the generator's end. It yields between the pieces: how many seconds to wait before the
        next; meanwhile this file may be written to, and may not be closed. Raises StorageError.
        """
        self._sound()
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
                copy.execute("PRAGMA synchronous = OFF").fetchall()
                yield from self._copy_into(copy)
                self._copied(copy)
                # The file's own header says WAL, which would leave a log beside the copy.
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        except (OSError, apsw.Error) as cause:
            raise StorageError(f"{self.KIND} {self.path} cannot be copied: {cause}") from cause

    def _copy_into(self, copy: apsw.Connection) -> Generator[float, None, None]:
        # SQLite applies what this connection commits meanwhile to the copy too, and begins anew
        # after a rollback. A file that is rolled back all the time is copied at once.
        restarts, left = 0, 0
        with copy.backup("main", self._connection, "main") as backup:
            while not backup.done:
                if self._connection.in_transaction:
                    yield COPY_WAIT
                    continue
                self._copying()
                backup.step(COPY_PAGES if restarts < COPY_RESTARTS else -1)
                restarts += backup.remaining >= left > 0
                left = backup.remaining
                if not backup.done:
                    yield 0.0

    def close(self) -> None:
        """Checkpoint and close the file. May be called again."""
        try:
            self._disconnect()
        finally:
            with self._syncing:
                if self._log_fd is not None:
                    os.close(self._log_fd)
                    self._log_fd = None
            self.unsound = False  # a closed file is not mended, but refuses use
