"""The error tree: everything Roost itself raises, named for what the user meets.

An error carries its facts as attributes, so that a caller decides by `error.retryable` and never by
its text. The attribute names are Cloudflare's (https://developers.cloudflare.com/durable-objects/
best-practices/error-handling/) in snake_case, with camelCase twins. All errors survive pickling with
every attribute, because they travel between processes. `attach_remote` gives the same attributes to
exceptions of any other type when they arrive from an object.
"""

# ruff: noqa: N818 - named for what the user meets, not for being errors
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataDirInUse",
    "DeadlineExceeded",
    "HostLost",
    "InvalidId",
    "KVError",
    "ObjectReset",
    "Overloaded",
    "RemoteError",
    "RemoteTraceback",
    "RoostError",
    "RuntimeClosed",
    "ScriptError",
    "SqlError",
    "StorageError",
    "WireError",
    "attach_remote",
]


class RoostError(Exception):
    """The base of every error that Roost raises itself."""

    retryable: bool = False
    """The call may succeed when it is made again; whether it had an effect is unknown."""

    overloaded: bool = False
    """The object has too much to do: trying again at once makes it worse."""

    remote: bool = False
    """The error was raised on the far side of a call, not by the caller's own process."""

    durable_object_reset: bool = False
    """The object lost its instance; the next call meets a new one, built from storage."""

    durable_object_id: str | None = None
    """The object's id as 64 hex digits, where the error concerns one object."""

    remote_traceback: str | None = None
    """The far side's traceback as text, where there is one."""

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        overloaded: bool | None = None,
        remote: bool | None = None,
        durable_object_reset: bool | None = None,
        durable_object_id: str | None = None,
    ) -> None:
        # Only what differs from the class is written: the instance dictionary is what pickle keeps.
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if overloaded is not None:
            self.overloaded = overloaded
        if remote is not None:
            self.remote = remote
        if durable_object_reset is not None:
            self.durable_object_reset = durable_object_reset
        if durable_object_id is not None:
            self.durable_object_id = durable_object_id

    @property
    def durableObjectReset(self) -> bool:
        """`durable_object_reset` in Cloudflare's spelling."""
        return self.durable_object_reset

    @property
    def durableObjectId(self) -> str | None:
        """`durable_object_id` in Cloudflare's spelling."""
        return self.durable_object_id


class ObjectReset(RoostError):
    """The object's instance was thrown away while the call waited or ran.

    Its constructor failed, a commit failed, `ctx.abort()` was called, or its code was replaced.
    Nothing that was acknowledged is lost.
    """

    retryable = True
    durable_object_reset = True


class Overloaded(RoostError):
    """The object has more events waiting than it accepts, or held one for too long."""

    overloaded = True


class HostLost(RoostError):
    """The process that ran the object died during the call; another one takes its place."""

    retryable = True


class DeadlineExceeded(RoostError, TimeoutError):
    """The call was not answered within the time that its caller gave it."""


class RemoteError(RoostError):
    """An exception of the object whose own type could not be carried over to the caller."""

    type_name: str
    """The type's qualified name on the far side, such as `billing.CardDeclined`."""

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        retryable: bool | None = None,
        overloaded: bool | None = None,
        remote: bool | None = True,
        durable_object_reset: bool | None = None,
        durable_object_id: str | None = None,
    ) -> None:
        super().__init__(
            message,
            retryable=retryable,
            overloaded=overloaded,
            remote=remote,
            durable_object_reset=durable_object_reset,
            durable_object_id=durable_object_id,
        )
        self.type_name = type_name


class ConfigError(RoostError):
    """The configuration cannot be used; the message says what was expected and what was found."""

    file: "Path | str | None"
    """The configuration file, or None when it came as keyword arguments."""

    key: str | None
    """The key at fault, dotted, such as `durable_objects.bindings[0].class_name`."""

    def __init__(
        self, message: str = "", *, file: "Path | str | None" = None, key: str | None = None
    ) -> None:
        super().__init__(message)
        self.file = file
        self.key = key


class CheckpointError(RoostError):
    """A checkpoint cannot be used: it is of another job, or its input has changed, or is in use."""


class ScriptError(RoostError):
    """The worker script cannot be loaded, or lacks a class that the configuration names."""


class StorageError(RoostError):
    """Storage could not read or write, for example because the disk is full."""


class SqlError(RoostError):
    """SQLite refused a statement of an object, or its cursor had not the rows that were asked for."""

    code: str
    """SQLite's name for it, such as `SQLITE_CONSTRAINT`."""

    extended_code: str
    """The same more exactly, such as `SQLITE_CONSTRAINT_UNIQUE`."""

    def __init__(
        self, message: str = "", *, code: str = "SQLITE_ERROR", extended_code: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.extended_code = extended_code or code


class DataDirInUse(RoostError):
    """Another runtime owns the data directory."""

    pid: int | None
    """The owner's process id, where it is known."""

    def __init__(self, message: str = "", *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class RuntimeClosed(RoostError):
    """The runtime was closed, or its process tree is gone; no further call can be made."""


class WireError(RoostError):
    """Two processes do not understand each other: different versions, or a malformed message."""


class KVError(RoostError):
    """Workers KV refused an operation; the message is Cloudflare's where it has one."""


class InvalidId(RoostError, TypeError):
    """The text is no Durable Object id, or is the id of another namespace's object."""


class RemoteTraceback(Exception):
    """The far side's traceback, chained as a cause so that a printed error shows it whole."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def attach_remote(
    exc: BaseException, traceback_text: str | None, object_id_hex: str | None
) -> None:
    """Mark `exc` as having come from an object, on the caller's side.

    Sets `remote`, `durable_object_id` and `remote_traceback`; gives `retryable`, `overloaded` and
    `durable_object_reset` the value False where the exception has none of its own; chains the
    traceback text as `__cause__`, as `concurrent.futures.process` does. An exception that refuses
    attributes keeps what it accepts.
    """
    for name in ("retryable", "overloaded", "durable_object_reset"):
        with suppress(Exception):
            if not hasattr(exc, name):
                _put(exc, name, value=False)
    _put(exc, "remote", value=True)
    _put(exc, "durable_object_id", value=object_id_hex)
    if not isinstance(exc, RoostError):
        with suppress(Exception):
            _put(exc, "durableObjectReset", value=getattr(exc, "durable_object_reset", False))
        _put(exc, "durableObjectId", value=object_id_hex)
    if traceback_text:
        _put(exc, "remote_traceback", value=traceback_text)
        _put(exc, "__cause__", value=RemoteTraceback(traceback_text))


def _put(exc: BaseException, name: str, *, value: object) -> None:
    with suppress(Exception):  # a type may forbid attributes in any way it likes
        setattr(exc, name, value)
