"""`roost kv key`: one key of a KV namespace at a time. What it prints is what wrangler prints."""

from __future__ import annotations

import json
import os
import sys
from codecs import iterdecode
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from typing import IO, TYPE_CHECKING, Any

import click

from runtime.cli.common import InOrder
from runtime.cli.kv_bulk import bulk
from runtime.cli.kv_namespace import check, namespace
from runtime.cli.kv_transfer import export, import_
from runtime.cli.namespace import namespace_options
from runtime.cli.table import say_json_list, write
from runtime.kv import SyncKVNamespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from runtime.cli.namespace import Namespace
    from runtime.kv.namespace import Reader


@click.group(cls=InOrder)
def kv() -> None:
    """Read and write Workers KV.

    The commands work on the same data as the worker's bindings, at any time: what they write, a
    running instance reads at once, and the other way round.

    \b
    Examples:
      roost kv key put theme dark
      roost kv key get theme
      roost kv key list --prefix user:
      roost kv bulk put pairs.json --binding SETTINGS
      roost kv export settings.jsonl
      roost kv check
    """


@kv.group(cls=InOrder)
def key() -> None:
    """Write, read, list or delete single keys.

    \b
    Examples:
      roost kv key put theme dark
      roost kv key put logo --path logo.png --metadata '{"type": "image/png"}'
      roost kv key get logo > copy.png
      roost kv key list --prefix user:
      roost kv key delete theme
    """


@key.command()
@namespace_options
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the value from a file, as it is.",
)
@click.option("--ttl", type=int, metavar="SECONDS", help="Let the key expire after so long.")
@click.option(
    "--expiration", type=int, metavar="TIME", help="Let it expire then: seconds since 1970, UTC."
)
@click.option(
    "--metadata", metavar="JSON", help="What listings tell of the key; up to 1,024 bytes."
)
def put(
    namespace: Namespace,
    key: str,
    value: str | None,
    path: Path | None,
    ttl: int | None,
    expiration: int | None,
    metadata: str | None,
) -> None:
    """Write VALUE, up to 25 MiB, under KEY.

    VALUE is text; - reads it from standard input, as does leaving it out in a pipe. When the
    command returns, the value is on disk.

    \b
    Examples:
      roost kv key put theme dark
      roost kv key put session:7 '{"user": "ada"}' --ttl 3600
      roost kv key put logo --path logo.png --metadata '{"type": "image/png"}'
      date | roost kv key put started
    """
    about = None if metadata is None else _json(metadata)
    with _value(value, path) as content, _plain_errors(), namespace.open() as store:
        opened = SyncKVNamespace(store, min_ttl=namespace.min_ttl)
        counted = _Counted(content)
        opened.put(key, counted, expirationTtl=ttl, expiration=expiration, metadata=about)
    size = counted.size
    click.echo(f"wrote {size:,} byte{'s' * (size != 1)} to {key!r} in {namespace.label}")


def _value(value: str | None, path: Path | None) -> AbstractContextManager[IO[bytes]]:
    if value is not None and path is not None:
        raise click.UsageError("give a VALUE or --path, not both")
    if path is not None:
        return path.open("rb")
    if value is not None and value != "-":
        return BytesIO(os.fsencode(value))  # the bytes of the command line
    if value is None and sys.stdin.isatty():
        raise click.UsageError("give a VALUE, or --path FILE, or pipe the value in")
    return nullcontext(sys.stdin.buffer)


class _Counted:
    """A file whose bytes are counted as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def read(self, size: int) -> bytes:
        """Read the next bytes."""
        piece = self._file.read(size)
        self.size += len(piece)
        return piece


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--metadata is not JSON: {error}") from error


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What KV refuses by type or value is a mistake of the user's."""
    try:
        yield
    except UnicodeError as error:
        raise click.ClickException("the key is not UTF-8 text") from error
    except (TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@key.command()
@namespace_options
@click.argument("key")
@click.option("--text", is_flag=True, help="Print it as UTF-8 text, with a newline at the end.")
def get(namespace: Namespace, key: str, *, text: bool) -> None:
    """Print the value of KEY: its bytes, and nothing else.

    A key that is not there is a message on the error stream and exit code 1.

    \b
    Examples:
      roost kv key get theme --text
      roost kv key get logo > logo.png
      roost kv key get config | jq .limits
    """
    with _read(namespace, key) as value:
        if value is None:
            raise click.ClickException(f"there is no key {key!r} in {namespace.label}")
        if text:
            for piece in iterdecode(value, "utf-8", "replace"):
                write(piece)
            write("\n")
        else:
            copyfileobj(value, sys.stdout.buffer)


@contextmanager
def _read(namespace: Namespace, key: str) -> Iterator[Reader | None]:
    with _plain_errors(), namespace.read() as store:
        yield SyncKVNamespace(store).get(key, "stream")


@key.command("list")
@namespace_options
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with it.")
def list_(namespace: Namespace, prefix: str) -> None:
    """Print all keys as JSON, in the order of their UTF-8 bytes.

    Each has its name, and its expiration (seconds since 1970) and metadata if it was written with
    them. The values are not read.

    \b
    Examples:
      roost kv key list
      roost kv key list --prefix user: | jq -r '.[].name'
    """
    with _plain_errors(), namespace.read() as store:
        say_json_list(_pages(SyncKVNamespace(store), prefix))


def _pages(opened: SyncKVNamespace, prefix: str) -> Iterator[object]:
    cursor = None
    while True:
        page = opened.list(prefix=prefix, cursor=cursor)
        yield from page["keys"]
        if page["list_complete"]:
            return
        cursor = page["cursor"]


@key.command()
@namespace_options
@click.argument("key")
def delete(namespace: Namespace, key: str) -> None:
    """Delete KEY. One that is not there is fine, and said.

    \b
    Examples:
      roost kv key delete theme
      roost kv key delete -- -odd-name
    """
    with _read(namespace, key) as value:
        if value is None:
            click.echo(f"there was no key {key!r} in {namespace.label}", err=True)
            return
    with _plain_errors(), namespace.open() as store:
        SyncKVNamespace(store).delete(key)
    click.echo(f"deleted {key!r} from {namespace.label}")


kv.add_command(bulk)
kv.add_command(export)
kv.add_command(import_)
kv.add_command(namespace)
kv.add_command(check)
