"""Roost's engine: Durable Objects and Workers KV on this machine's cores.

`Runtime` for plain programs, `AsyncRuntime` for asyncio ones, `connect` and `aconnect` to a running
instance. What a worker script imports is in `workers`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# `workers` is a common name. It is looked for and not imported: another's would run.
_ours = Path(__file__).resolve().parent.parent / "workers"
_spec = find_spec("workers")
_places = [] if _spec is None else list(_spec.submodule_search_locations or [str(_spec.origin)])
if not any(Path(place).resolve() == _ours for place in _places):
    raise ImportError(
        f"Python finds {_places[0] if _places else 'nothing'} where Roost's own package `workers` "
        "should be. If that is yours, rename it, or take the folder it is in off the path: the "
        "script's folder, with `python -m` and in notebooks the current one, and those of PYTHONPATH."
    )

if TYPE_CHECKING:
    from runtime.client.async_runtime import AsyncRuntime, aconnect
    from runtime.client.sync_runtime import Runtime, connect
    from runtime.status import HostStatus

__all__ = ["AsyncRuntime", "HostStatus", "Runtime", "aconnect", "connect"]

_PLACES = {
    "AsyncRuntime": "runtime.client.async_runtime",
    "HostStatus": "runtime.status",
    "Runtime": "runtime.client.sync_runtime",
    "aconnect": "runtime.client.async_runtime",
    "connect": "runtime.client.sync_runtime",
}


def __getattr__(name: str) -> Any:
    # The client is 0.15 s of imports that a part of the engine, or a command, can do without.
    if name not in _PLACES:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
