"""How diskcache keeps the keys and values of KV: as bytes, and as nothing else.

diskcache pickles what it does not know, and unpickles whatever a row says is a pickle, keys included
(CVE-2025-69872, unfixed in 5.6.3): who can write to the directory runs code in all its readers. This
disk refuses both on both ways, so nothing in KV is ever pickled or unpickled.

Values too large for the database are files (`value_file`), written before the commit that names them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import diskcache

from runtime.kv.value_file import NAME, StoredFile, remove
from workers.errors import KVError

FILE_BYTES = 128 * 1024
"""Values this large get a file. There, a row and a file with its directory cost the same to make
durable (measured: 0.6 and 0.4 ms); at 1 MiB a row costs five times as much, and under the lock."""

RAW = 1
BINARY = 2
"""diskcache's modes of a value: in the row, in a file. Its others are text (3) and pickle (4)."""


class BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """See the module's text. The method names and their meaning are diskcache's."""

    def put(self, key: object) -> tuple[memoryview, bool]:
        """Turn a key into its column and whether it is raw: always, for only bytes are keys."""
        if type(key) is not bytes:
            raise TypeError(f"a KV key on disk is bytes, not {type(key).__name__}")
        return sqlite3.Binary(key), True

    def get(self, key: object, raw: object) -> bytes:
        """Turn a key's columns into the key. Raises KVError for a pickled one."""
        if type(key) is not bytes or not raw:
            raise KVError(
                "This KV namespace holds a key that Roost did not write: it is pickled, or not bytes."
            )
        return key

    def store(
        self,
        value: object,
        read: object,
        key: object = None,  # noqa: ARG002  (diskcache's)
    ) -> tuple[int, int, None, memoryview]:
        """Turn a value into its columns (size, mode, filename, value)."""
        if type(value) is not bytes or read:
            raise TypeError(f"a KV value on disk is bytes, not {type(value).__name__}")
        return 0, RAW, None, sqlite3.Binary(value)

    def open(self, filename: object) -> StoredFile:
        """Open the file of a value. Raises KVError for a name that Roost did not make."""
        if type(filename) is str and NAME.fullmatch(filename):
            return StoredFile(Path(self._directory, filename))
        raise KVError("This KV namespace names a file that Roost did not write.")

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Turn a value's columns into the value. Raises KVError for whatever is not bytes."""
        if not read:
            if mode == RAW and type(value) is bytes:
                return value
            if mode == BINARY and type(filename) is str and NAME.fullmatch(filename):
                return Path(self._directory, filename).read_bytes()
        raise KVError(
            "This KV namespace holds a value that Roost did not write: it is pickled, or not bytes."
        )

    def remove(self, file_path: Any) -> None:
        """Remove a file if that is possible; its folder stays, unlike diskcache's."""
        remove(Path(self._directory), file_path)
