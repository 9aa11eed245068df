"""What a worker script imports: the entry classes, HTTP messages, `env`, `fetch` and the errors.

The names are those of Cloudflare's Python SDK. Importing this package is quick and loads nothing of
Roost's engine: a script can be imported, type-checked and tested without it.
"""

from typing import TYPE_CHECKING, Any

from workers._check import warn_when_runtime_is_shadowed
from workers.blob import Blob, BlobEnding, BlobValue, File
from workers.body import Body
from workers.durable_object import DurableObject
from workers.entrypoint import WorkerEntrypoint
from workers.environment import env, patch_env, wait_until
from workers.errors import (
    ConfigError,
    DataDirInUse,
    DeadlineExceeded,
    HostLost,
    InvalidId,
    KVError,
    ObjectReset,
    Overloaded,
    RemoteError,
    RoostError,
    RuntimeClosed,
    ScriptError,
    StorageError,
    WireError,
)
from workers.fetch import fetch
from workers.formdata import FormData, FormDataValue
from workers.headers import Headers
from workers.request import Request
from workers.response import Response
from workers.websocket import (
    WebSocket,
    WebSocketPair,
    WebSocketRequestResponsePair,
)

if TYPE_CHECKING:
    from workers.bindings import Context

__all__ = [
    "Blob",
    "BlobEnding",
    "BlobValue",
    "Body",
    "ConfigError",
    "Context",
    "DataDirInUse",
    "DeadlineExceeded",
    "DurableObject",
    "FetchResponse",
    "File",
    "FormData",
    "FormDataValue",
    "Headers",
    "HostLost",
    "InvalidId",
    "KVError",
    "ObjectReset",
    "Overloaded",
    "RemoteError",
    "Request",
    "Response",
    "RoostError",
    "RuntimeClosed",
    "ScriptError",
    "StorageError",
    "WebSocket",
    "WebSocketPair",
    "WebSocketRequestResponsePair",
    "WireError",
    "WorkerEntrypoint",
    "env",
    "fetch",
    "patch_env",
    "waitUntil",
    "wait_until",
]

waitUntil = wait_until  # noqa: N816 - the original's spelling
FetchResponse = Response

# Names of the original's SDK that Roost does not have, and what stands in for each.
_NOT_HERE = {
    "WorkflowEntrypoint": "keep the steps' results in a Durable Object's storage, and drive them "
    "with its alarm",
    "handler": "global handlers were replaced by methods: write `class Default(WorkerEntrypoint)` "
    "with `async def fetch(self, request)`",
    "import_from_javascript": "there is no JavaScript beneath: `env`, `wait_until` and the entry "
    "classes are imported from `workers`",
    "python_from_rpc": "values arrive as they were sent and need no conversion",
    "python_to_rpc": "values are passed as they are and need no conversion",
    "JSBody": "annotate with `workers.body.BodyInit`",
    "FetchKwargs": "annotate options with `dict[str, Any]`",
    "RequestInitCfProperties": "annotate the `cf` option with `dict[str, Any]`",
    "RpcTarget": "return plain values, or a stub of a Durable Object",
}


def __getattr__(name: str) -> Any:
    if name == "Context":
        # A type for annotations; its module is 8 ms of protocols that a script's start can spare.
        from workers.bindings import Context as found  # noqa: N813, PLC0415

        return found
    # ImportError and not AttributeError: `from workers import name` replaces the latter's text.
    if name in _NOT_HERE:
        raise ImportError(f"workers.{name} is not part of Roost: {_NOT_HERE[name]}", name="workers")
    raise AttributeError(f"module 'workers' has no attribute {name!r}")


warn_when_runtime_is_shadowed()
