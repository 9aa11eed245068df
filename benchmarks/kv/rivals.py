"""The rivals, each used at its best from one Python thread."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import diskcache
import lmdb

from benchmarks.kv.ours import SLICES, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path


def each(calls: int, call: Callable[[], Any]) -> float:
    """Return the microseconds of a call: the median of many slices."""
    slices, share = [], max(1, calls // SLICES)
    for _ in range(calls // share):
        began = time.perf_counter()
        for _ in range(share):
            call()
        slices.append((time.perf_counter() - began) / share * 1e6)
    return median(slices)


class Rival:
    """Something with a `get` and perhaps a durable `put`."""

    def __init__(
        self,
        name: str,
        get: Callable[[str], Any],
        put: Callable[[str, str], Any],
        scale: float,
        *,
        gets: int,
        durable: bool,
    ) -> None:
        self.name, self.get, self.put, self.durable = name, get, put, durable
        self._gets, self._times = max(20, int(gets * scale)), max(20, int(200 * scale))
        for size, value in values().items():
            put(f"hot {size}", value)

    def tests(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        """Yield what to measure: its name, its unit, and how."""
        for size, value in values().items():
            assert len(self.get(f"hot {size}")) == len(value)
            yield (
                f"hot get, {size}",
                "µs",
                partial(each, self._gets, partial(self.get, f"hot {size}")),
            )
            if self.durable:
                yield f"durable puts, {size}, 1 caller", "puts/s", partial(self._puts, value)

    def _puts(self, value: str) -> float:
        return 1e6 / each(self._times, partial(self.put, "one", value))


def all_of(
    disk: Path, shelf: Path, scale: float, stack: ExitStack, skipped: list[str]
) -> list[Rival]:
    """Return the rivals that are here."""
    plain: dict[str, str] = {}
    found = [
        Rival("dict", plain.__getitem__, plain.__setitem__, scale, gets=100_000, durable=False),
        _lmdb(shelf, scale),
        _diskcache(disk, scale, stack),
    ]
    redis = _redis(disk, scale, stack)
    if redis is None:
        skipped.append(
            "Redis: needs redis-server (or valkey-server) and the package redis[hiredis]"
        )
    else:
        found.append(redis)
    return found


def _lmdb(shelf: Path, scale: float) -> Rival:
    environment = lmdb.open(
        str(shelf / "rival"), map_size=1 << 26, sync=False, metasync=False, max_spare_txns=1
    )

    def get(key: str) -> bytes | None:
        with environment.begin() as txn:
            return txn.get(key.encode())

    def put(key: str, value: str) -> None:
        with environment.begin(write=True) as txn:
            txn.put(key.encode(), value.encode())

    return Rival("lmdb", get, put, scale, gets=100_000, durable=False)


def _diskcache(disk: Path, scale: float, stack: ExitStack) -> Rival:
    cache = stack.enter_context(
        diskcache.Cache(str(disk / "diskcache"), sqlite_synchronous=2, eviction_policy="none")
    )
    return Rival("diskcache", cache.get, cache.set, scale, gets=10_000, durable=True)


def _redis(disk: Path, scale: float, stack: ExitStack) -> Rival | None:
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None or importlib.util.find_spec("redis") is None:
        return None
    import redis  # noqa: PLC0415  (where it is installed)

    socket = disk / "redis"
    process = subprocess.Popen(
        [
            *(server, "--port", "0", "--unixsocket", str(socket), "--dir", str(disk)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
        ],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    give_up = time.monotonic() + 10
    while not socket.exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
    return Rival("Redis", client.get, client.set, scale, gets=10_000, durable=True)
