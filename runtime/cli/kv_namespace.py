"""`roost kv namespace` and `roost kv check`: the namespaces of a data directory as a whole.

Which namespaces a worker has is said by its config alone: a binding and an id. What is on disk goes by
the id, and comes into being at its first write.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from runtime.bindings import kv_directory
from runtime.cli import common
from runtime.cli.namespace import by_id, config_if_any
from runtime.cli.table import say_json, show
from runtime.config import NAMESPACE_ID, is_namespace_id
from runtime.directories import kept_free, sync_directory
from runtime.kv import check as check_store
from runtime.kv.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_where = common.options(common.config_option, common.env_option, common.data_dir_option)
_DELETED = ".deleted-"


@click.group(cls=common.InOrder)
def namespace() -> None:
    """List, make, rename or delete whole namespaces.

    Which namespaces a worker has is what its config says, a binding and an id each; these commands
    change what is on disk under an id, never the config.

    \b
    Examples:
      roost kv namespace list
      roost kv namespace create settings
      roost kv namespace rename settings old-settings
      roost kv namespace delete old-settings --yes
    """


@namespace.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@_where
def list_(config: Path | None, env: str | None, data_dir: Path | None, *, as_json: bool) -> None:
    """List the namespaces.

    Those that the config binds, and those that are on disk. Each with its binding, its id, and the bytes it takes on disk: nothing for one that was never
    written to.

    \b
    Examples:
      roost kv namespace list
      roost kv namespace list --json | jq -r '.[].id'
    """
    data = common.data_directory(config, data_dir)
    bindings: dict[str, list[str]] = {}
    for bound in config_if_any(config, env).kv:
        bindings.setdefault(bound.id, []).append(bound.binding)
    for found in on_disk(data):
        bindings.setdefault(found, [])
    listed = [
        (names, found, _bytes(kv_directory(data, found))) for found, names in bindings.items()
    ]
    if as_json:
        say_json([{"id": it, "bindings": names, "bytes": size} for names, it, size in listed])
    elif listed:
        show(
            ("binding", "id", "bytes"),
            [(", ".join(names) or "-", it, f"{size:,}") for names, it, size in listed],
            numbers=("bytes",),
        )
    else:
        click.echo(f"no KV namespace is bound, or is in {data}", err=True)


def on_disk(data: Path) -> Iterator[str]:
    """Yield the ids of the namespaces in a data directory."""
    folder = data / "kv"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not path.name.startswith(_DELETED):
            yield unquote(path.name)


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


@namespace.command()
@click.argument("namespace_id", metavar="ID")
@_where
def create(namespace_id: str, config: Path | None, env: str | None, data_dir: Path | None) -> None:
    """Make an empty namespace, and say what binds it.

    A namespace that is bound makes itself at its first write, so this is for scripts that want it
    to be there.

    \b
    Examples:
      roost kv namespace create settings
    """
    data = common.data_directory(config, data_dir)
    _must_be_id(namespace_id)
    if kv_directory(data, namespace_id).is_dir():
        raise click.ClickException(f"there is a namespace {namespace_id} already")
    with by_id(namespace_id, config, env, data_dir).open():
        click.echo(f"made the namespace {namespace_id}; a worker has it when its config says")
    click.echo(f'kv_namespaces = [{{ binding = "KV", id = "{namespace_id}" }}]')


@namespace.command()
@click.argument("namespace_id", metavar="ID")
@click.argument("new_id", metavar="NEW_ID")
@_where
def rename(
    namespace_id: str, new_id: str, config: Path | None, env: str | None, data_dir: Path | None
) -> None:
    """Give the data of a namespace another id. The instance has to be stopped.

    The config has to name the new id afterwards: it is what the worker looks for.

    \b
    Examples:
      roost kv namespace rename settings settings-2026
    """
    del env  # names no data
    data = common.data_directory(config, data_dir)
    old = _there(data, namespace_id)
    _must_be_id(new_id)
    new = kv_directory(data, new_id)
    with _stopped(data, old):
        if new.exists():
            raise click.ClickException(f"there is a namespace {new_id} already")
        old.rename(new)
        sync_directory(new.parent)
    click.echo(f"renamed {namespace_id} to {new_id}; see to it that the config says so too")


@namespace.command()
@click.argument("namespace_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_where
def delete(
    namespace_id: str,
    config: Path | None,
    env: str | None,
    data_dir: Path | None,
    *,
    yes: bool,
) -> None:
    """Delete a namespace with all that is in it. The instance has to be stopped.

    \b
    Examples:
      roost kv namespace delete old-settings
      roost kv namespace delete old-settings --yes
    """
    del env
    data = common.data_directory(config, data_dir)
    directory = _there(data, namespace_id)
    if not yes:
        click.confirm(f"Delete all of {namespace_id} in {data}?", abort=True, err=True)
    with _stopped(data, directory):
        gone = directory.with_name(_DELETED + token_hex(8))
        directory.rename(gone)  # at once, and then the rest
        sync_directory(gone.parent)
    for left in gone.parent.glob(_DELETED + "*"):
        shutil.rmtree(left, ignore_errors=True)
    click.echo(f"deleted {namespace_id}")


def _must_be_id(namespace_id: str) -> None:
    if not is_namespace_id(namespace_id):
        raise click.UsageError(f"{namespace_id!r}: expected {NAMESPACE_ID}")


def _there(data: Path, namespace_id: str) -> Path:
    _must_be_id(namespace_id)
    directory = kv_directory(data, namespace_id)
    if not directory.is_dir():
        raise click.ClickException(f"there is no namespace {namespace_id} in {data}")
    return directory


def _stopped(data: Path, directory: Path) -> ExitStack:
    """Keep instances and other writers away. Raises DataDirInUse while an instance runs."""
    with ExitStack() as stack:
        if (data / "lock").exists():  # else no instance ever ran
            stack.enter_context(kept_free(data))
        stack.enter_context(write_lock(directory / "write.lock"))
        return stack.pop_all()


@click.command()
@click.argument("namespace_id", metavar="[ID]", required=False)
@click.option("--repair", is_flag=True, help="Put right what can be put right.")
@_where
def check(
    namespace_id: str | None,
    config: Path | None,
    env: str | None,
    data_dir: Path | None,
    *,
    repair: bool,
) -> None:
    """Say what is wrong with the store.

    Compares all that is kept of a namespace, or of all on disk: database, index, files of large values, and the cache in shared memory; the instance may run.
    --repair removes what interrupted writes left, and keys whose value is lost. Exits with 0 when
    nothing is wrong any more, with 1 otherwise.

    \b
    Examples:
      roost kv check
      roost kv check settings --repair
    """
    data = common.data_directory(config, data_dir)
    if namespace_id is not None:
        _there(data, namespace_id)
    wrong = False
    for each in [namespace_id] if namespace_id is not None else list(on_disk(data)):
        with by_id(each, config, env, data_dir).open() as store:
            found = check_store(store, repair=repair)
        problems = len(found.problems)
        says = _so_many(problems, "problem") if problems else "nothing is wrong"
        has = f"{_so_many(found.keys, 'key')}, {_so_many(found.files, 'file')}"
        click.echo(f"{each}: {has}: {says}")
        for problem in found.problems:
            wrong = wrong or not problem.repaired
            click.echo(f"  {problem.text}" + ("; repaired" if problem.repaired else ""))
    if wrong:
        raise click.exceptions.Exit(1)


def _so_many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
