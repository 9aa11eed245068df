"""Which cache holds true values for a namespace: a page that all its processes have mapped.

The page names a cache by its id, and by a token under which the cache keeps this namespace's entries.
A reader looks at the token before each read, which costs 25 ns, and goes to disk when it is not the
one it knows. A writer that cannot keep the cache true, for whatever reason, clears the token before it
commits; from then on nobody reads there. A token that was cleared never comes back: who trusts a cache
anew, under the write lock, takes a new one, under which nothing is kept yet.

The page is a file of the namespace and not of the cache, so that it reaches every process that can
write to the namespace, whatever that process sees of /dev/shm.
"""

from __future__ import annotations

import mmap
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "trust"


class Trust:
    """The page of one namespace; `words[TOKEN]` is the token, 0 when no cache is trusted."""

    def __init__(self, directory: Path) -> None:
        """Map the page; creates it. Raises OSError."""
        descriptor = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < mmap.PAGESIZE:
                # Not sparse: on a full disk this is an error, and not a signal at the first write.
                os.posix_fallocate(descriptor, 0, mmap.PAGESIZE)
            self._map = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("Q")

    @property
    def token(self) -> int:
        """The token of now."""
        return self.words[TOKEN]

    def names(self, cache: int) -> bool:
        """Whether this cache is the one that is trusted."""
        return self.words[CACHE] == cache and self.words[TOKEN] != 0

    def clear(self) -> None:
        """Let nobody trust any cache from now on. Under the write lock."""
        self.words[TOKEN] = 0

    def set(self, cache: int) -> int:
        """Trust a cache from now on; returns the new token. Under the write lock."""
        self.words[TOKEN] = 0
        self.words[CACHE] = cache
        self.words[TOKEN] = token = secrets.randbits(63) + 1
        return token


TOKEN = 0
CACHE = 1
"""Where the words are in the page."""
