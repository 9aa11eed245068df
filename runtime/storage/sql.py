"""`ctx.storage.sql`: the object's own SQLite database.

A statement runs when it is given; what it writes belongs to the turn's transaction, as all writes
do. A cursor of a SELECT reads row by row, and so sees the rows as they are when it comes to them;
the rows of a statement that writes (RETURNING) are read at once. Semantics are Cloudflare's,
https://developers.cloudflare.com/durable-objects/api/sqlite-storage-api/
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, Final

import apsw

from runtime.storage.sql_guard import statements_of
from workers.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from runtime.storage.object_file import ObjectFile
    from runtime.storage.object_storage import ObjectStorage
    from runtime.storage.sql_guard import Rows

__all__ = ["Cursor", "RawRows", "Row", "Sql"]

FATAL: Final = (
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
)
"""SQLite may have rolled back the whole transaction: what the turn wrote before is lost too."""

_NOT_UTF8: Final = "a text in a row is not valid UTF-8: CAST(... AS BLOB) gives its bytes"

_PLAIN: Final = frozenset({type(None), int, float, str, bytes})


class Row(dict[str, Any]):
    """A row: a dict by column name whose items can also be read as attributes.

    A dict's methods win over columns of their names. Of several columns of one name it has the
    last; `Cursor.raw()` has them all.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}") from None


class Sql:
    """See the module's text."""

    __slots__ = ("_storage",)

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    def exec(self, query: str, /, *bindings: Any) -> Cursor:
        """Run statements and return a cursor of the last one's rows.

        `bindings` take the places of `?` in the last statement: str, int (64 bits), float, bytes,
        bool or None. Raises SqlError, with SQLite's code, for what SQLite refuses; what a statement
        before it has written stays. TypeError for a binding of another type.
        """
        if type(query) is not str:
            raise TypeError(f"sql.exec() takes SQL as a str, not {type(query).__name__}")
        values = bindings
        for value in bindings:
            if type(value) not in _PLAIN:
                values = tuple(map(_bindable, bindings))
                break
        statements = statements_of(query)
        if not statements:
            raise SqlError("SQL code did not contain a statement.", code="SQLITE_ERROR")
        storage = self._storage
        if storage.transactions:
            storage.refuse_outside()
        file = storage.database()
        for statement in statements[:-1]:
            self._run(file, statement.sql, statement.reads, ()).to_array()
        last = statements[-1]
        return self._run(file, last.sql, last.reads, values)

    def _run(self, file: ObjectFile, sql: str, reads: bool, bindings: tuple[Any, ...]) -> Cursor:
        storage = self._storage
        if not reads:
            storage.begin_sql(file)
        written = file.written
        try:
            rows = file.run(sql, bindings, reads=reads)
            cursor = Cursor(storage, file, rows)
            if not rows.reads:
                cursor.fetch(written)
        except apsw.Error as error:
            raise storage.refused(file, error) from error
        except OverflowError as error:
            raise TypeError("an integer in SQL has at most 64 bits") from error
        return cursor

    @property
    def database_size(self) -> int:
        """Bytes that the object's database takes, entries and tables."""
        return self._storage.database().size

    @property
    def databaseSize(self) -> int:
        """See `database_size`."""
        return self.database_size


class Cursor:
    """The rows of a statement, read once, from front to back; `raw()` reads the same rows."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_file",
        "_read",
        "_rows",
        "_storage",
        "_written",
        "column_names",
    )

    column_names: list[str]
    """The columns' names, in order."""

    def __init__(self, storage: ObjectStorage, file: ObjectFile, rows: Rows) -> None:
        self._storage = storage
        self._file = file
        self._rows: Iterator[tuple[Any, ...]] = rows.cursor
        self._read = self._written = 0
        self._ended = False
        self.column_names = rows.columns
        file.cursors.add(self)

    @property
    def columnNames(self) -> list[str]:
        """See `column_names`."""
        return self.column_names

    @property
    def rows_read(self) -> int:
        """How many rows this cursor has given; Cloudflare counts those that were looked at."""
        return self._read

    @property
    def rowsRead(self) -> int:
        """See `rows_read`."""
        return self._read

    @property
    def rows_written(self) -> int:
        """How many rows the statement has written, those of its triggers and cascades too."""
        return self._written

    @property
    def rowsWritten(self) -> int:
        """See `rows_written`."""
        return self._written

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        return Row(zip(self.column_names, self._next(), strict=True))

    def next(self) -> Row:
        """Return the next row as `{"done": False, "value": row}`, or `{"done": True}` at the end."""
        try:
            return Row(done=False, value=self.__next__())
        except StopIteration:
            return Row(done=True, value=None)

    def to_array(self) -> list[Row]:
        """Return the rows that have not been read."""
        names = self.column_names
        return [Row(zip(names, row, strict=True)) for row in RawRows(self)]

    def one(self) -> Row:
        """Return the only row. Raises SqlError when there is none, and when there are more."""
        row = next(self, None)
        if row is None:
            raise SqlError("Expected exactly one result from SQL query, but got no results.")
        if next(self, None) is not None:
            self._close()
            raise SqlError("Expected exactly one result from SQL query, but got multiple results.")
        return row

    def raw(self) -> RawRows:
        """Return an iterator of the rows that have not been read, each as a list of its values."""
        return RawRows(self)

    toArray = to_array

    def fetch(self, written: int) -> None:
        """Read all rows now: they are of a statement that writes.

        `written` is how many rows the file had written before.
        """
        try:
            rows = list(self._rows)
        except UnicodeDecodeError as error:
            self._close()
            raise SqlError(_NOT_UTF8) from error
        self._written = self._file.written - written  # SQLite counts at the statement's end
        self._close()
        self._rows, self._ended = iter(rows), False

    def end(self) -> None:
        """Refuse more rows: the transaction was undone, or the object was reset."""
        self._close()
        self._ended = True

    def _next(self) -> tuple[Any, ...]:
        if self._ended:
            raise SqlError("the cursor was ended: its transaction was rolled back")
        try:
            row = next(self._rows)
        except StopIteration:
            self._file.cursors.discard(self)
            raise
        except apsw.Error as error:
            self._close()
            raise self._storage.refused(self._file, error) from error
        except UnicodeDecodeError as error:
            self._close()
            raise SqlError(_NOT_UTF8) from error
        self._read += 1
        return row

    def _close(self) -> None:
        if isinstance(self._rows, apsw.Cursor):
            self._rows.close(True)
        self._rows = iter(())
        self._file.cursors.discard(self)


class RawRows:
    """The rows of a cursor that have not been read, as `Cursor.raw()` gives them."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Any]:
        return list(self._cursor._next())  # noqa: SLF001 - they share the rows

    def next(self) -> Row:
        """Return the next row as `{"done": False, "value": row}`, or `{"done": True}` at the end."""
        try:
            return Row(done=False, value=self.__next__())
        except StopIteration:
            return Row(done=True, value=None)

    def to_array(self) -> list[list[Any]]:
        """Return the rows that have not been read."""
        return list(self)

    toArray = to_array


def _bindable(value: Any) -> Any:
    """Return a binding as one of SQLite's types."""
    if value is None or isinstance(value, str | bytes | int | float):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    for convert in (index, _number):
        try:
            return convert(value)
        except TypeError:
            pass
    raise TypeError(
        "a binding of sql.exec() is a str, int, float, bytes, bool or None, not "
        f"{type(value).__name__}"
    )


def _number(value: Any) -> float:
    """Return a NumPy float, say, as a float; not what is merely written like a number."""
    if not hasattr(type(value), "__float__"):
        raise TypeError
    return float(value)
