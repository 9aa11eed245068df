"""`roost kv bulk`: many keys at once, from files in wrangler's formats.

A file is checked whole before anything is written, so that a mistake in it changes nothing.
"""

from __future__ import annotations

import binascii
import json
import time
from base64 import b64decode, b64encode
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING

import click

from runtime.cli.common import InOrder
from runtime.cli.namespace import namespace_options
from runtime.cli.table import say_json
from runtime.config.table import Table, shown
from runtime.kv import Entry, Write
from runtime.kv.validation import expiry, key_bytes, metadata_text, value_bytes
from workers.errors import KVError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.cli.namespace import Namespace

_FIELDS = frozenset({"base64", "expiration", "expiration_ttl", "key", "metadata", "value"})
_REFUSALS = (TypeError, ValueError, KVError)


@click.group(cls=InOrder)
def bulk() -> None:
    """Write or read many keys at once.

    The files are those of `wrangler kv bulk`.

    \b
    Examples:
      roost kv bulk put pairs.json
      roost kv bulk get keys.json > values.json
    """


@bulk.command()
@namespace_options
@click.argument("file", type=click.File("rb"))
def put(namespace: Namespace, file: IO[bytes]) -> None:
    """Write the pairs of a JSON FILE (- is standard input).

    A list of objects with key and value, and if wanted expiration_ttl (seconds), expiration
    (seconds since 1970), metadata (any JSON), and base64: true when the value is base64. If one
    of them is wrong, none is written. The last of several with one key counts.

    \b
    Example file:
      [
        {"key": "theme", "value": "dark"},
        {"key": "logo", "value": "iVBORw0KGgo=", "base64": true},
        {"key": "session:7", "value": "ada", "expiration_ttl": 3600, "metadata": {"by": "web"}}
      ]

    \b
    Examples:
      roost kv bulk put pairs.json
      roost kv bulk put pairs.json --binding SETTINGS
    """
    now = time.time()
    pairs = _items(file)
    writes = [
        _write(file.name, index, pair, now, namespace.min_ttl) for index, pair in enumerate(pairs)
    ]
    others = {name for pair in pairs if isinstance(pair, dict) for name in pair} - _FIELDS
    if others:  # wrangler warns of them and goes on, too
        click.echo(
            f"{file.name}: not known, and passed over: {', '.join(sorted(others))}", err=True
        )
    with namespace.open() as store:
        store.submit(*writes)
        for write in writes:
            assert isinstance(write.future, Future)
            write.future.result()
    count = len(writes)
    click.echo(f"wrote {count:,} key{'s' * (count != 1)} to {namespace.label}")


def _items(file: IO[bytes]) -> Sequence[object]:
    try:
        content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{file.name}: not JSON: {error}") from error
    if not isinstance(content, list):
        raise click.ClickException(f"{file.name}: expected a list, found {shown(content)}")
    return content


def _write(file: str, index: int, pair: object, now: float, min_ttl: int) -> Write:
    place = f"[{index}]"
    if not isinstance(pair, dict):
        raise click.ClickException(
            f'{file}: {place}: expected {{"key": ..., "value": ...}}, found {shown(pair)}'
        )
    table = Table(file, place, pair)
    key = table.text("key", "a string", _any)
    text = table.text("value", "a string", _any)
    given = {
        "expirationTtl": table.integer("expiration_ttl", None, 1),
        "expiration": table.integer("expiration", None, 1),
        "metadata": pair.get("metadata"),
    }
    try:
        value = b64decode(text, validate=True) if pair.get("base64") is True else text
        options = {name: option for name, option in given.items() if option is not None}
        entry = Entry(value_bytes(value), metadata_text(options), expiry(options, now, min_ttl))
        return Write(key_bytes(key, "PUT"), entry, future=Future())
    except binascii.Error as error:
        raise table.error("value", f"not base64: {error}") from error
    except _REFUSALS as error:
        raise click.ClickException(f"{file}: {place}: {error}") from error


def _any(_: str) -> bool:
    return True


@bulk.command()
@namespace_options
@click.argument("file", type=click.File("rb"))
def get(namespace: Namespace, file: IO[bytes]) -> None:
    """Print the values of the keys in a JSON FILE (- is standard input).

    The file is a list of names, or of objects with a name, so that what `roost kv key list`
    prints will do. The output is an object of {"value": ...} by key, with null for a key that
    is not there. A value that is not text has base64: true beside it.

    \b
    Examples:
      echo '["theme", "logo"]' | roost kv bulk get -
      roost kv key list --prefix user: | roost kv bulk get - > users.json
    """
    names = []
    for index, item in enumerate(_items(file)):
        name = item.get("name") if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise click.ClickException(
                f'{file.name}: [{index}]: expected a key, or {{"name": key}}, found {shown(item)}'
            )
        try:
            names.append((name, key_bytes(name, "GET")))
        except _REFUSALS as error:
            raise click.ClickException(f"{file.name}: [{index}]: {error}") from error
    found: dict[str, object] = {name: {"value": None} for name, _ in names}
    with namespace.read() as store:
        for name, raw in names:
            entry = store.read(raw)
            if entry is not None:
                found[name] = shown_value(entry.value)
    say_json(found)


def shown_value(value: bytes) -> dict[str, object]:
    """Return a value as JSON has it: text, or base64."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value": b64encode(value).decode(), "base64": True}
