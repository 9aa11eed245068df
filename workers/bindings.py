"""Types of what the engine hands to a script: `ctx`, storage, namespaces, ids, stubs.

Protocols for annotations and editors only: nothing here runs, and nothing inherits from it. Each
name exists in Cloudflare's spelling and in snake_case; options are keyword arguments or a trailing
mapping in either spelling. The classes behind them are the engine's.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

from workers.request import Request
from workers.response import Response

__all__ = [
    "AlarmInfo",
    "Context",
    "DurableObjectContext",
    "DurableObjectId",
    "DurableObjectNamespace",
    "DurableObjectStorage",
    "DurableObjectStub",
    "KVNamespace",
    "SqlCursor",
    "SqlStorage",
    "SyncKVStorage",
]

T = TypeVar("T")

Options: TypeAlias = Mapping[str, Any] | None
"""Options as a trailing mapping."""

SqlValue: TypeAlias = str | int | float | bytes | None
"""What a column holds; integers keep 64 bits."""


class Context(Protocol):
    """An entrypoint's `ctx`: the event."""

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Let `awaitable` run on after the event has answered."""

    def waitUntil(self, awaitable: Awaitable[object]) -> None:
        """See `wait_until`."""


class DurableObjectId(Protocol):
    """The id of an object: 32 bytes, printed as 64 hex digits."""

    @property
    def name(self) -> str | None:
        """The name that it was derived from, where that is known."""

    def to_string(self) -> str:
        """The id as 64 hex digits."""

    def toString(self) -> str:
        """See `to_string`."""

    def equals(self, other: Any) -> bool:
        """Whether both are the id of the same object."""


class DurableObjectStub(Protocol):
    """A caller's handle on an object; calls made on one stub are delivered in order.

    Every other attribute is a method of the object: `await stub.increment(1)`.
    """

    @property
    def id(self) -> Any:
        """The object's id."""

    @property
    def name(self) -> str | None:
        """The name that the id was derived from, where that is known."""

    def fetch(
        self, resource: Request | str, init: Options = None, /, **options: Any
    ) -> Awaitable[Response]:
        """Send a request to the object's `fetch`; the URL is absolute, its host is not looked at."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """A method of the object."""


class DurableObjectNamespace(Protocol):
    """All objects of one class. Making ids and stubs sends nothing and starts nothing."""

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id that belongs to the name, always the same."""

    def idFromName(self, name: str) -> DurableObjectId:
        """See `id_from_name`."""

    def new_unique_id(self, options: Options = None, /, **kw: Any) -> DurableObjectId:
        """A new random id."""

    def newUniqueId(self, options: Options = None, /, **kw: Any) -> DurableObjectId:
        """See `new_unique_id`."""

    def id_from_string(self, hex_id: str) -> DurableObjectId:
        """The id that 64 hex digits print; InvalidId when they are none of this namespace."""

    def idFromString(self, hex_id: str) -> DurableObjectId:
        """See `id_from_string`."""

    def get(self, id: Any, options: Options = None, /, **kw: Any) -> DurableObjectStub:  # noqa: A002
        """A stub for the object with this id."""

    def get_by_name(self, name: str, options: Options = None, /, **kw: Any) -> DurableObjectStub:
        """A stub for the object with this name."""

    def getByName(self, name: str, options: Options = None, /, **kw: Any) -> DurableObjectStub:
        """See `get_by_name`."""


class KVNamespace(Protocol):
    """A Workers KV namespace."""

    @overload
    def get(self, key: str, options: Options | str = None, /, **kw: Any) -> Awaitable[Any]: ...
    @overload
    def get(
        self, key: list[str], options: Options | str = None, /, **kw: Any
    ) -> Awaitable[dict[str, Any]]: ...
    def get(self, key: Any, options: Options | str = None, /, **kw: Any) -> Awaitable[Any]:
        """The key's value as `type` says (text, json, arrayBuffer, stream), None when absent.

        A list of up to 100 keys gives a dict.
        """

    def get_with_metadata(
        self, key: str | list[str], options: Options | str = None, /, **kw: Any
    ) -> Awaitable[dict[str, Any]]:
        """A dict with `value`, `metadata` and `cacheStatus`."""

    def getWithMetadata(
        self, key: str | list[str], options: Options | str = None, /, **kw: Any
    ) -> Awaitable[dict[str, Any]]:
        """See `get_with_metadata`."""

    def put(self, key: str, value: Any, options: Options = None, /, **kw: Any) -> Awaitable[None]:
        """Write str, bytes or a stream, with `expiration`, `expirationTtl` (seconds), `metadata`."""

    def delete(self, key: str) -> Awaitable[None]:
        """Remove a key, if it is there."""

    def delete_bulk(self, keys: Sequence[str]) -> Awaitable[None]:
        """Remove up to 100 keys, where they are there."""

    def deleteBulk(self, keys: Sequence[str]) -> Awaitable[None]:
        """See `delete_bulk`."""

    def list(self, options: Options = None, /, **kw: Any) -> Awaitable[dict[str, Any]]:
        """A page of keys: `prefix`, `limit` (at most 1,000), `cursor`."""

    def watch(self, prefix: str = "") -> AsyncIterator[Any]:
        """Each change from now on, by whomever; with `kind`, `key` and `expiration`.

        The kind is "put", "delete", "expired", or "missed" when the reader was too slow.
        """


class SyncKVStorage(Protocol):
    """`ctx.storage.kv`: an object's key-value storage without await."""

    def get(self, key: str) -> Any:
        """The value, None when absent."""

    def put(self, key: str, value: Any) -> None:
        """Write a value."""

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""

    def list(self, options: Options = None, /, **kw: Any) -> Iterator[tuple[str, Any]]:
        """Pairs in key order; one listing at a time."""


class SqlCursor(Protocol):
    """The rows of a statement; each row is a dict that also has its columns as attributes."""

    @property
    def column_names(self) -> list[str]:
        """The columns' names."""

    @property
    def columnNames(self) -> list[str]:
        """See `column_names`."""

    @property
    def rows_read(self) -> int:
        """How many rows were read so far."""

    @property
    def rowsRead(self) -> int:
        """See `rows_read`."""

    @property
    def rows_written(self) -> int:
        """How many rows were written so far."""

    @property
    def rowsWritten(self) -> int:
        """See `rows_written`."""

    def to_array(self) -> list[Any]:
        """The remaining rows."""

    def toArray(self) -> list[Any]:
        """See `to_array`."""

    def one(self) -> Any:
        """The only row; an error when there is none, or more."""

    def raw(self) -> Iterator[Any]:
        """The remaining rows as sequences of values."""

    def next(self) -> Any:
        """`{done, value}`, as JavaScript's iterators give."""

    def __iter__(self) -> Iterator[Any]:
        """The remaining rows."""


class SqlStorage(Protocol):
    """`ctx.storage.sql`: the object's own SQLite database."""

    def exec(self, sql: str, /, *bindings: SqlValue) -> SqlCursor:
        """Run statements at once; bindings are for the last one, whose rows the cursor has."""

    @property
    def database_size(self) -> int:
        """Bytes in use."""

    @property
    def databaseSize(self) -> int:
        """See `database_size`."""


class DurableObjectStorage(Protocol):
    """`ctx.storage`: what the object keeps, private to it and transactional.

    Writes made without an await between them commit together, and what the object answers waits
    until they are durable.
    """

    @property
    def sql(self) -> SqlStorage:
        """The object's SQLite database, for classes of `new_sqlite_classes`."""

    @property
    def kv(self) -> SyncKVStorage:
        """The same keys and values without await, for classes of `new_sqlite_classes`."""

    @overload
    def get(self, key: str | int, options: Options = None, /, **kw: Any) -> Awaitable[Any]: ...
    @overload
    def get(
        self, key: list[str], options: Options = None, /, **kw: Any
    ) -> Awaitable[dict[str, Any]]: ...
    def get(self, key: Any, options: Options = None, /, **kw: Any) -> Awaitable[Any]:
        """The value, None when absent; of a list, a dict of those that are there."""

    def put(
        self, key: str | int | Mapping[str, Any], value: Any = ..., /, *options: Any, **kw: Any
    ) -> Awaitable[None]:
        """Write one value, or every one of a mapping."""

    @overload
    def delete(self, key: str | int, options: Options = None, /, **kw: Any) -> Awaitable[bool]: ...
    @overload
    def delete(self, keys: list[str], options: Options = None, /, **kw: Any) -> Awaitable[int]: ...
    def delete(self, keys: Any, options: Options = None, /, **kw: Any) -> Awaitable[Any]:
        """Remove a key (whether it was there), or several (how many were)."""

    def list(self, options: Options = None, /, **kw: Any) -> Awaitable[dict[str, Any]]:
        """Keys and values in key order: `start`, `startAfter`, `end`, `prefix`, `reverse`, `limit`."""

    def delete_all(self, options: Options = None, /, **kw: Any) -> Awaitable[None]:
        """Remove everything the object keeps."""

    def deleteAll(self, options: Options = None, /, **kw: Any) -> Awaitable[None]:
        """See `delete_all`."""

    def transaction(self, body: Callable[[Any], Awaitable[T]], /) -> Awaitable[T]:
        """Run `body(txn)`; what it wrote is kept when it returns, and undone when it raises."""

    def transaction_sync(self, body: Callable[[], T], /) -> T:
        """Run `body()` in a transaction, without await; for classes of `new_sqlite_classes`."""

    def transactionSync(self, body: Callable[[], T], /) -> T:
        """See `transaction_sync`."""

    def sync(self) -> Awaitable[None]:
        """Wait until every write made so far is durable."""

    def get_alarm(self, options: Options = None, /, **kw: Any) -> Awaitable[int | None]:
        """When the alarm rings, in milliseconds since 1970."""

    def getAlarm(self, options: Options = None, /, **kw: Any) -> Awaitable[int | None]:
        """See `get_alarm`."""

    def set_alarm(
        self, when: float | datetime, options: Options = None, /, **kw: Any
    ) -> Awaitable[None]:
        """Have `alarm()` called at `when`: milliseconds since 1970, or a datetime."""

    def setAlarm(
        self, when: float | datetime, options: Options = None, /, **kw: Any
    ) -> Awaitable[None]:
        """See `set_alarm`."""

    def delete_alarm(self, options: Options = None, /, **kw: Any) -> Awaitable[None]:
        """Cancel the alarm."""

    def deleteAlarm(self, options: Options = None, /, **kw: Any) -> Awaitable[None]:
        """See `delete_alarm`."""

    def entries(self, options: Options = None, /, **kw: Any) -> AsyncIterator[tuple[str, Any]]:
        """What `list` gives, in bounded memory: keys and values in key order. Roost's own."""

    def get_current_bookmark(self) -> Awaitable[str]:
        """A bookmark of what the object keeps now, when that is durable; for classes with SQL."""

    def getCurrentBookmark(self) -> Awaitable[str]:
        """See `get_current_bookmark`."""

    def get_bookmark_for_time(self, when: Any) -> Awaitable[str]:
        """A bookmark of what the object kept at a time: milliseconds since 1970, or a datetime."""

    def getBookmarkForTime(self, when: Any) -> Awaitable[str]:
        """See `get_bookmark_for_time`."""

    def on_next_session_restore_bookmark(self, bookmark: str) -> Awaitable[str]:
        """Go back to a bookmark when the next session begins; gives one to undo that with."""

    def onNextSessionRestoreBookmark(self, bookmark: str) -> Awaitable[str]:
        """See `on_next_session_restore_bookmark`."""


class AlarmInfo(Protocol):
    """What `alarm(alarm_info)` is given."""

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt failed."""

    @property
    def isRetry(self) -> bool:
        """See `is_retry`."""

    @property
    def retry_count(self) -> int:
        """How many attempts failed."""

    @property
    def retryCount(self) -> int:
        """See `retry_count`."""


class DurableObjectContext(Protocol):
    """A Durable Object's `ctx`."""

    @property
    def id(self) -> DurableObjectId:
        """The object's id."""

    @property
    def storage(self) -> DurableObjectStorage:
        """What the object keeps."""

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Let `awaitable` run on after the event has answered."""

    def waitUntil(self, awaitable: Awaitable[object]) -> None:
        """See `wait_until`."""

    def block_concurrency_while(self, callback: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """Run `callback` while no other event is delivered; when it raises the object is reset.

        Works as a decorator in the constructor. At most 30 seconds.
        """

    def blockConcurrencyWhile(self, callback: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """See `block_concurrency_while`."""

    def accept_web_socket(self, ws: Any, tags: Iterable[str] = (), /) -> None:
        """Accept a WebSocket whose messages wake the object after it has left memory."""

    def acceptWebSocket(self, ws: Any, tags: Iterable[str] = (), /) -> None:
        """See `accept_web_socket`."""

    def get_web_sockets(self, tag: str | None = None, /) -> list[Any]:
        """The accepted WebSockets, all or those with a tag."""

    def getWebSockets(self, tag: str | None = None, /) -> list[Any]:
        """See `get_web_sockets`."""

    def get_tags(self, ws: Any, /) -> list[str]:
        """A WebSocket's tags."""

    def getTags(self, ws: Any, /) -> list[str]:
        """See `get_tags`."""

    def broadcast(
        self, message: str | bytes, tag: str | None = None, *, except_: Any = None
    ) -> int:
        """Send to all accepted WebSockets, or those with a tag; returns to how many. Roost's own.

        `except_` leaves out one WebSocket, or several.
        """

    def set_web_socket_auto_response(self, pair: Any = None) -> None:
        """Have messages equal to `pair.request` answered with `pair.response`, without the object."""

    def setWebSocketAutoResponse(self, pair: Any = None) -> None:
        """See `set_web_socket_auto_response`."""

    def get_web_socket_auto_response(self) -> Any:
        """What is answered without the object: a WebSocketRequestResponsePair, or None."""

    def getWebSocketAutoResponse(self) -> Any:
        """See `get_web_socket_auto_response`."""

    def get_web_socket_auto_response_timestamp(self, ws: Any) -> datetime | None:
        """When a message of a WebSocket was last answered without the object."""

    def getWebSocketAutoResponseTimestamp(self, ws: Any) -> datetime | None:
        """See `get_web_socket_auto_response_timestamp`."""

    def set_hibernatable_web_socket_event_timeout(self, milliseconds: int | None = None) -> None:
        """Cancel an asynchronous handler of a WebSocket that takes longer."""

    def setHibernatableWebSocketEventTimeout(self, milliseconds: int | None = None) -> None:
        """See `set_hibernatable_web_socket_event_timeout`."""

    def get_hibernatable_web_socket_event_timeout(self) -> int | None:
        """The time limit of such handlers, in milliseconds."""

    def getHibernatableWebSocketEventTimeout(self) -> int | None:
        """See `get_hibernatable_web_socket_event_timeout`."""

    def abort(
        self, reason: str | None = None, options: Mapping[str, Any] | None = None, /, **more: Any
    ) -> Any:
        """Throw the instance away: unwritten storage is dropped, running calls fail.

        With `retryAlarm=False` an `alarm()` that runs is not called again.
        """


KVType: TypeAlias = Literal["text", "json", "arrayBuffer", "stream"]
"""How `KVNamespace.get` gives a value."""
