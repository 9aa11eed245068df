"""Reads what a map is given: any iterable, or a table of pandas, Polars or Arrow.

Rows of a table stay together when the method takes batches: it gets tables of the same kind, all
rows of one key, cut from the input by position and never turned into Python objects one by one.
Without batches a row is a dict. Nothing here imports these libraries; a table is known by its type.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from itertools import chain
from operator import index, length_hint
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from runtime.ids import ObjectId

if TYPE_CHECKING:
    from runtime.wire.runs import ItemId

Key: TypeAlias = "str | Callable[[Any], Any]"
"""The name of a field (or column), or a function of an item."""

CHUNK_BATCHES: Final = 64
"""Rows of a table that are grouped by key at a time: so many batches of them."""

_ROW: Final = "__roost_row"


def read(
    items: Any, key: Key, batch: int
) -> tuple[Iterator[Any] | AsyncIterable[Any], Callable[[Any], Any] | None]:
    """Return the items, and the function that gives an item's key.

    Without a function they are (key, item) already. Raises TypeError for what cannot be iterated,
    and when a table has no such column.
    """
    tables = _tables(items)
    if tables is not None:
        if batch > 1:
            if not isinstance(key, str):
                raise TypeError("key= of map() over a table in batches is the name of a column")
            return _groups(tables, key, batch), None
        items = chain.from_iterable(map(_rows, tables))
    if not callable(key):
        if not isinstance(key, str):
            raise TypeError("key= of map() is the name of a field, or a function of an item")
        key = _field(key)
    return read_any(items), key


def pieces(item: Any, key: Key | None, batch: int) -> Iterator[Any] | None:
    """Return what `read` makes of an item of the input that is a table; None when it is none.

    Nor is it one for a key that is a function: it is given the table.
    """
    if not (isinstance(key, str) and _kind(item)):
        return None
    return _groups(iter((item,)), key, batch) if batch > 1 else _rows(item)


def read_any(items: Any) -> Iterator[Any] | AsyncIterable[Any]:
    """Return what gives the items. Raises TypeError for what cannot be iterated."""
    if isinstance(items, AsyncIterable):
        return items
    try:
        iterator: Iterator[Any] = iter(items)
    except TypeError:
        raise TypeError(f"an iterable of items is needed, not {type(items).__name__}") from None
    return iterator


def _field(name: str) -> Callable[[Any], Any]:
    def field(item: Any) -> Any:
        return item[name] if isinstance(item, Mapping) else getattr(item, name)

    return field


def name_of(key: Any) -> str | ObjectId:
    """Return the name, or id, of the object of a key.

    An integer means its digits, NumPy's too. Raises TypeError for anything but these.
    """
    if type(key) is str or isinstance(key, ObjectId):
        return key
    if isinstance(key, str):
        return str(key)
    if not isinstance(key, bool):
        try:
            return str(index(key))
        except TypeError:
            pass
    raise TypeError(
        f"the key of an item must be a str, an integer or an object's id, not {type(key).__name__}: "
        f"{key!r}"
    )


def check_item_id(item_id: Any) -> ItemId:
    """Return the id of an item. Raises TypeError when it cannot be one."""
    if type(item_id) in {str, int, bytes}:
        checked: ItemId = item_id
        return checked
    raise TypeError(
        f"the id of an item must be a str, int or bytes, not {type(item_id).__name__}: {item_id!r}"
    )


# --- tables --------------------------------------------------------------------------------------


def _kind(value: object) -> str:
    """Name the kind of a table; empty for anything else."""
    for cls in type(value).__mro__:
        root = cls.__module__.partition(".")[0]
        if root == "pandas" and cls.__name__ == "DataFrame":
            return "pandas"
        if root == "polars" and cls.__name__ in {"DataFrame", "LazyFrame"}:
            return "polars"
        if root == "pyarrow" and cls.__name__ in {"Table", "RecordBatch", "RecordBatchReader"}:
            return "arrow"
    return ""


def _tables(items: Any) -> Iterator[Any] | None:
    """Return the tables that are the input, or None if it is something else.

    A list of tables (record batches, say) counts as one input. So does an iterator of them, of which
    that is not known before it gives the first: see `pieces`.
    """
    if _kind(items):
        is_reader = type(items).__name__ == "RecordBatchReader"
        return iter(items) if is_reader else iter((items,))
    if isinstance(items, list | tuple) and items and _kind(items[0]):
        return map(_table, items)
    return None


def _table(item: Any) -> Any:
    """Return an item of a list that begins with a table. Raises TypeError when it is none itself."""
    if not _kind(item):
        raise TypeError(f"an input that begins with tables goes on with {type(item).__name__}")
    return item


def total(items: Any) -> int | None:
    """Return how many items there are, about, if they say it: a list of tables has many rows."""
    if isinstance(items, list | tuple) and items and _kind(items[0]):
        return None
    if isinstance(items, Iterator):  # it may be one of tables
        return None
    many = length_hint(items, -1)
    return many if many >= 0 else None


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    kind = _kind(table)
    if kind == "polars" and hasattr(table, "collect"):
        table = table.collect()
    if kind == "pandas":
        columns = [str(name) for name in table.columns]
        if len(set(columns)) < len(columns):
            name = next(name for name in columns if columns.count(name) > 1)
            raise TypeError(f"the table has several columns {name!r}")
        return (dict(zip(columns, row, strict=True)) for row in table.itertuples(index=False))
    if kind == "polars":
        rows: Iterator[dict[str, Any]] = table.iter_rows(named=True)
        return rows
    pieces = (table,) if hasattr(table, "to_struct_array") else table.to_batches(4096)
    return (row for piece in pieces for row in piece.to_pylist())


def _groups(tables: Iterator[Any], key: str, batch: int) -> Iterator[tuple[Any, Any]]:
    """Yield (key, table): the rows of one key, at most `batch` of them, in their order."""
    for table in tables:
        if _kind(table) == "polars" and hasattr(table, "collect"):
            table = table.collect()  # noqa: PLW2901
        size = batch * CHUNK_BATCHES
        for start in range(0, len(table), size):
            yield from _split(_slice(table, start, size), key, batch)


def _slice(table: Any, start: int, size: int) -> Any:
    if _kind(table) == "pandas":
        return table.iloc[start : start + size]
    return table.slice(start, size)


def _split(table: Any, key: str, batch: int) -> Iterator[tuple[Any, Any]]:
    names, positions = _positions(table, key)
    take: Callable[[Any], Any]
    kind = _kind(table)
    if kind == "pandas":
        take = table.iloc.__getitem__
    elif kind == "polars":
        take = table.__getitem__
    else:
        take = table.take
    for name, its in zip(names, positions, strict=True):
        for start in range(0, len(its), batch):
            yield name, take(its[start : start + batch])


def _positions(table: Any, key: str) -> tuple[list[Any], list[Any]]:
    """Return the keys in the order of their first rows, and the positions of the rows of each."""
    kind = _kind(table)
    names = list(map(str, table.schema.names if kind == "arrow" else table.columns))
    if names.count(key) != 1:
        have = f"no column {key!r}; it has {', '.join(names)}"
        raise TypeError(f"the table has {have if key not in names else f'several columns {key!r}'}")
    if kind == "polars":
        grouped = table.select(key).with_row_index(_ROW).group_by(key, maintain_order=True)
        rows = grouped.agg(_ROW)
        return rows[key].to_list(), [piece.to_numpy() for piece in rows[_ROW]]
    import numpy as np  # noqa: PLC0415  (who has pandas or pyarrow has it)

    if kind == "pandas":
        import pandas as pd  # noqa: PLC0415

        column = table.iloc[:, names.index(key)]
        codes, uniques = pd.factorize(column, use_na_sentinel=False)
        found = [value.item() if hasattr(value, "item") else value for value in uniques]
    else:
        column = table[key]
        if hasattr(column.type, "value_type") and hasattr(column.type, "index_type"):
            column = column.cast(column.type.value_type)  # a dictionary may have a key twice
        encoded = column.dictionary_encode(null_encoding="encode")
        if hasattr(encoded, "combine_chunks"):
            encoded = encoded.combine_chunks()
        if hasattr(encoded, "unify_dictionaries"):
            encoded = encoded.unify_dictionaries().chunk(0)
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        found = encoded.dictionary.to_pylist()
    order = np.argsort(codes, kind="stable")
    borders = np.flatnonzero(np.diff(codes[order])) + 1
    pieces = np.split(order, borders)
    by_code = {int(codes[piece[0]]): piece for piece in pieces if len(piece)}
    return [found[code] for code in sorted(by_code)], [by_code[code] for code in sorted(by_code)]
