"""What an object has stored as lines of JSON, read from a copy of it.

Stored values are pickles, which can run code when they are loaded; so they are loaded by an
unpickler that knows no class and no function, only what a pickle can say by itself: None, numbers,
text, bytes, lists, tuples, dicts, sets. What of that JSON can hold becomes JSON. Everything else
stays a pickle, for a program of the user's to load, with the name of its type or of the first class
it asks for.
"""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import apsw

from runtime.storage.object_file import TABLES, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.storage import ObjectRecord

__all__ = ["described", "moment", "portable"]

_ENTRIES = "SELECT key, value FROM _cf_KV WHERE key < x'ff' ORDER BY key"
_HAS_LARGE = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = '_cf_LARGE')"
_ENTRIES_AND_LARGE = """
SELECT key, ifnull(_cf_LARGE.value, _cf_KV.value)
FROM _cf_KV LEFT JOIN _cf_LARGE USING (key) WHERE key < x'ff' ORDER BY key
"""
_ALARM = "SELECT value FROM _cf_METADATA WHERE key = 1"
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden != 1"  # 1: of a virtual table
# A text need not be UTF-8, which apsw takes for granted. So texts are read as bytes, and bytes as texts.
_CELL = "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) WHEN 'blob' THEN hex({0}) ELSE {0} END"
_SQL = "SELECT sql FROM sqlite_schema WHERE name = ?"

_YEAR_10000 = 253402300800
_CYCLE = 146097 * 86400
"""Seconds of 400 years, after which the calendar is the same."""


def portable(copy: Path, record: ObjectRecord) -> Iterator[bytes]:
    """Yield the lines of an object."""
    object_id = str(record.id)
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as database:
        alarm = database.execute(_ALARM).get
        yield _line(
            object=object_id,
            **{"class": record.class_name},
            name=record.name,
            created=moment(record.created),
            alarm=None if alarm is None else moment(alarm / 1000),
        )
        large = database.execute(_HAS_LARGE).get
        for key, value in database.execute(_ENTRIES_AND_LARGE if large else _ENTRIES):
            yield _line(object=object_id, key=key.decode(), **described(value))
        for (table,) in database.execute(TABLES):
            columns = [column for column, *_ in database.execute(_COLUMNS, (table,))]
            cells = ", ".join(_CELL.format(quoted(column)) for column in columns)
            rows = database.execute(f"SELECT {cells} FROM {quoted(table)}")  # noqa: S608
            sql = database.execute(_SQL, (table,)).get
            yield _line(object=object_id, table=table, columns=columns, sql=sql)
            for row in rows:
                yield _line(object=object_id, table=table, row=[_cell(cell) for cell in row])


def described(data: bytes) -> dict[str, Any]:
    """Return what is said of a stored value: `value`, or `type` and `pickle`."""
    try:
        value = _Plain(io.BytesIO(data)).load()
        if _is_json(value):
            return {"value": value}
        kind = type(value).__name__
    except _NeedsCodeError as needs:
        kind = str(needs)
    except Exception:  # whatever a damaged pickle raises, or one that holds itself
        kind = "?"
    return {"type": kind, "pickle": base64.b64encode(data).decode()}


class _NeedsCodeError(Exception):
    """A value that asks for a class or a function."""


class _Plain(pickle.Unpickler):
    """Loads what needs no code. A class, a function, another's buffer: each is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise _NeedsCodeError(f"{module_name}.{global_name}")


def _is_json(value: Any) -> bool:
    """Whether JSON gives a value back as it was: of the same types, down to the leaves."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and _is_json(its) for key, its in value.items())
    if kind is list:
        return all(map(_is_json, value))
    if kind is float:
        return math.isfinite(value)
    return value is None or kind in {bool, int, str}


def _cell(value: apsw.SQLiteValue) -> Any:
    """Return what `_CELL` has read as JSON."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, str):
        return {"base64": base64.b64encode(bytes.fromhex(value)).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _line(**fields: Any) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(fields).encode() + b"\n"


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 writes it, also one after the year 9999: an alarm may be set to never."""
    cycles = max(0, 1 + int((seconds - _YEAR_10000) // _CYCLE))
    at = datetime.fromtimestamp(seconds - cycles * _CYCLE, UTC).isoformat().replace("+00:00", "Z")
    return f"+{int(at[:4]) + cycles * 400:06}{at[4:]}" if cycles else at
