"""What a script's SQL may do to its object's file, and how SQLite's errors are told to it.

Transactions are the engine's, other files are nobody's, and names that begin with `_cf_` are ours:
SQLite's authorizer refuses them while a statement is prepared, each with its reason. Texts are
workerd's where it has one (https://github.com/cloudflare/workerd, src/workerd/util/sqlite.c++).
"""

from __future__ import annotations

from functools import lru_cache
from re import IGNORECASE
from re import compile as pattern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import apsw

from workers.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Guard", "Rows", "Statement", "statements_of"]

_TRANSACTION: Final = (
    "To execute a transaction, please use the state.storage.transaction() or "
    "state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT "
    "statements. The JavaScript API is safer because it will automatically roll back on "
    "exceptions, and because it interacts correctly with Durable Objects' automatic atomic write "
    "coalescing."
)
_OTHER_FILES: Final = "an object's database is one file: ATTACH and DETACH are not allowed"
_TEMPORARY: Final = (
    "temporary tables are not allowed: an object's database may be closed between two events"
)
_BINDINGS: Final = "Wrong number of parameter bindings for SQL query."

_READ_PRAGMAS: Final = frozenset(
    {
        "data_version",
        "foreign_key_check",
        "foreign_key_list",
        "freelist_count",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "optimize",
        "page_count",
        "page_size",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
_SET_PRAGMAS: Final = frozenset(
    {
        "case_sensitive_like",
        "defer_foreign_keys",
        "foreign_keys",
        "ignore_check_constraints",
        "legacy_alter_table",
        "recursive_triggers",
        "reverse_unordered_selects",
    }
)
_ARGUMENT_PRAGMAS: Final = (
    _READ_PRAGMAS - {"data_version", "freelist_count", "page_count"} - {"page_size"}
)
_MODULES: Final = frozenset({"fts5", "fts5vocab", "rtree", "rtree_i32"})
_FUNCTIONS: Final = frozenset(
    {
        "fts3_tokenizer",
        "load_extension",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
        "sqlite_offset",
        "sqlite_source_id",
        "sqlite_version",
    }
)

KEPT_CHARACTERS: Final = 4096
"""The longest text of which it is kept what its statements are: others would fill the host's memory."""

_ABSENT_CODE: Final = "SQLITE_ERROR"
_CREATES_TEMPORARY: Final = frozenset(
    (
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
    )
)
_COMMENT: Final = r"--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)"
_FIRST_WORD: Final = pattern(rf"(?:\s|{_COMMENT})*([a-z]*)", IGNORECASE)
_BLANK: Final = pattern(rf"(?:\s|;|{_COMMENT})*")
# What may hold a semicolon that ends nothing, or one that may.
_UNTIL_END: Final = pattern(
    rf"'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)|{_COMMENT}|;"
)
_RENAMES_TO_OURS: Final = pattern(
    rf"\brename(?:\s|{_COMMENT})+to(?:\s|{_COMMENT})*[\"'`\[]?_cf_", IGNORECASE
)
"""SQLite's authorizer is not told a table's new name."""
_READS: Final = frozenset({"explain", "select", "values"})


class Statement(NamedTuple):
    """One SQL statement."""

    sql: str
    reads: bool
    """Whether it certainly writes nothing."""


class Rows(NamedTuple):
    """The rows of a statement that was run."""

    cursor: apsw.Cursor
    columns: list[str]
    reads: bool
    """Whether the statement writes nothing."""


def statements_of(text: str) -> tuple[Statement, ...]:
    """Split a text into its statements; one of comments and blanks alone has none."""
    return _split_once(text) if len(text) <= KEPT_CHARACTERS else _split(text)


def _split(text: str) -> tuple[Statement, ...]:
    found = []
    start = 0
    for match in _UNTIL_END.finditer(text):
        # Whether a semicolon ends a statement, or stands in a trigger, SQLite knows.
        if match[0] == ";" and apsw.complete(text[start : match.end()]):
            found.append(text[start : match.end()])
            start = match.end()
    found.append(text[start:])
    return tuple(
        Statement(sql, _word(sql) in _READS) for sql in found if _BLANK.fullmatch(sql) is None
    )


_split_once: Final = lru_cache(maxsize=512)(_split)


def _word(sql: str) -> str:
    match = _FIRST_WORD.match(sql)
    assert match is not None
    return match[1].lower()


class Guard:
    """See the module's text. One for each object file."""

    __slots__ = ("_columns", "_most_bytes", "_reads", "_reason", "_running", "_sql", "_value_bytes")

    _most_bytes: int
    """What SQLite allows a value to have, where one may be larger than a script may write; else 0."""

    def __init__(self, value_bytes: int) -> None:
        self._value_bytes = value_bytes + (1 << 16)
        self._most_bytes = 0
        self._running = False
        self._reason: str | None = None
        self._sql = ""
        self._columns: list[str] = []
        self._reads = True

    def keep(self, connection: apsw.Connection) -> None:
        """Guard a connection."""
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 1)  # our VACUUM takes it
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._value_bytes)
        self._most_bytes = 0
        connection.authorizer = self._authorize

    def make_room(self, connection: apsw.Connection, size: int) -> None:
        """Let values of so many bytes be read: they may be from when a script was allowed more."""
        if size > self._value_bytes and not self._most_bytes:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, 0x7FFFFFFF)  # SQLite takes the most it can
            self._most_bytes = connection.limit(apsw.SQLITE_LIMIT_LENGTH)

    def run(
        self, connection: apsw.Connection, sql: str, bindings: Sequence[Any], *, reads: bool
    ) -> Rows:
        """Run one statement of the script, up to its first row. `reads`: it certainly writes nothing."""
        cursor = connection.cursor()
        cursor.exec_trace = self._begun
        self._running, self._reason, self._sql = True, None, sql
        limited = self._most_bytes and not reads
        if limited:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._value_bytes)
        try:
            # The flag also keeps statements of ours, prepared unguarded, apart in apsw's cache.
            cursor.execute(sql, bindings, prepare_flags=apsw.SQLITE_PREPARE_PERSISTENT)
        finally:
            self._running = False
            if limited:
                connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._most_bytes)
        return Rows(cursor, self._columns, self._reads)

    def _begun(self, cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        """Note what a cursor cannot tell any more when its statement has ended."""
        self._columns = [column[0] for column in cursor.get_description()]
        self._reads = cursor.is_readonly
        return True

    def explain(self, error: apsw.Error) -> SqlError:
        """Return what the script gets for an error of its statement."""
        if isinstance(error, apsw.BindingsError):
            return SqlError(_BINDINGS, code=_ABSENT_CODE)
        result, extended = getattr(error, "result", 1), getattr(error, "extendedresult", 1)
        code = str(apsw.mapping_result_codes.get(result & 0xFF, _ABSENT_CODE))
        name = str(apsw.mapping_extended_result_codes.get(extended, code))
        if self._reason is not None and isinstance(error, apsw.AuthError):
            return SqlError(self._reason, code=code)
        text = str(error)
        offset = getattr(error, "error_offset", -1)
        if offset is not None and offset >= 0:
            text += f" at offset {offset}"
        text += f": {code}" + (f" (extended: {name})" if name != code else "")
        return SqlError(text, code=code, extended_code=name)

    def _authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        _database: str | None,
        _trigger: str | None,
    ) -> int:
        if not self._running:
            return apsw.SQLITE_OK
        if action in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT):
            return self._refuse(_TRANSACTION)
        if action in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH):
            return self._refuse(_OTHER_FILES)
        if action == apsw.SQLITE_ALTER_TABLE and _RENAMES_TO_OURS.search(self._sql):
            return self._refuse(
                "names that begin with _cf_ are reserved: no table can get one: SQLITE_AUTH"
            )
        if action in _CREATES_TEMPORARY:
            return self._refuse(_TEMPORARY)
        if action == apsw.SQLITE_PRAGMA:
            return self._pragma(str(first).lower(), second)
        if action == apsw.SQLITE_FUNCTION:
            if str(second).lower() in _FUNCTIONS:
                return self._refuse(f"not authorized to use function: {second}: SQLITE_ERROR")
        elif action == apsw.SQLITE_CREATE_VTABLE:
            if str(second).lower() not in _MODULES:
                return self._refuse(
                    f"virtual tables of module {second} are not allowed; these are: "
                    + ", ".join(sorted(_MODULES))
                )
        elif action == apsw.SQLITE_READ and _ours(first):
            return self._refuse(f"access to {first}.{second} is prohibited: SQLITE_AUTH")
        if action != apsw.SQLITE_ANALYZE and (_ours(first) or _ours(second)):
            name = first if _ours(first) else second
            return self._refuse(
                f"access to {name} is prohibited: names that begin with _cf_ are reserved: "
                "SQLITE_AUTH"
            )
        return apsw.SQLITE_OK

    def _pragma(self, name: str, argument: str | None) -> int:
        if name in _SET_PRAGMAS or (
            name in _READ_PRAGMAS and (argument is None or name in _ARGUMENT_PRAGMAS)
        ):
            if _ours(argument):
                return self._refuse(f"access to {argument} is prohibited: SQLITE_AUTH")
            return apsw.SQLITE_OK
        return self._refuse(f"not authorized: PRAGMA {name} is not allowed: SQLITE_AUTH")

    def _refuse(self, reason: str) -> int:
        self._reason = reason
        return apsw.SQLITE_DENY


def _ours(name: str | None) -> bool:
    return name is not None and name[:4].lower() == "_cf_"
