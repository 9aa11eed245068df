"""Roost's engine: Durable Objects and Workers KV on this machine's cores.

`Runtime` for plain programs, `AsyncRuntime` for asyncio ones, `connect` and `aconnect` to a running
instance. What a worker script imports is in `workers`.
"""

from __future__ import annotations

from pathlib import Path

import workers

_ours = Path(__file__).resolve().parent.parent
if Path(workers.__file__ or "/").resolve().parent.parent != _ours:
    raise ImportError(
        f"{workers.__file__} stands where Roost's own package `workers` should be. Rename that "
        f"folder, or take its parent off the path."
    )

from runtime.client.async_runtime import AsyncRuntime, aconnect  # noqa: E402
from runtime.client.sync_runtime import Runtime, connect  # noqa: E402
from runtime.status import HostStatus  # noqa: E402

__all__ = ["AsyncRuntime", "HostStatus", "Runtime", "aconnect", "connect"]
