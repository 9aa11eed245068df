"""Which KV namespace a command is about, and the opening of it.

KV is on disk and safe for many processes, so commands open it themselves, whether an instance runs or
not. Reading creates nothing: a namespace that nobody has written to reads as empty.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from runtime.bindings import Bindings, kv_directory
from runtime.cli import common
from runtime.config import NAMESPACE_ID, Config, KVBinding, find, from_keywords, is_namespace_id
from runtime.directories import make_private
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.kv import Listed, Store


@dataclass(frozen=True, slots=True)
class Namespace:
    """A KV namespace that a command was pointed at; it may not exist yet."""

    config: Config
    """The worker's, with this namespace as its only one."""
    data: Path

    @property
    def label(self) -> str:
        """What the user called it."""
        return self.config.kv[0].binding

    @property
    def min_ttl(self) -> int:
        """The shortest time to live of an entry, in seconds."""
        return self.config.limits.min_kv_ttl

    @contextmanager
    def open(self) -> Iterator[Store]:
        """Open it, and create it when it is not there. Raises KVError, PermissionError."""
        make_private(self.data)
        bindings = Bindings(self.config, self.data)
        try:
            yield bindings.store(self.config.kv[0].id)
        finally:
            bindings.close()

    @contextmanager
    def read(self) -> Iterator[Store]:
        """Open it for reading, which creates nothing. Raises KVError, PermissionError."""
        if kv_directory(self.data, self.config.kv[0].id).is_dir():
            with self.open() as store:
                yield store
        else:
            yield cast("Store", _Nothing())


class _Nothing:
    """What reads of a namespace find that nobody has written to."""

    def read(self, _key: bytes) -> None:
        """Return that a key is absent."""

    def open(self, _key: bytes) -> None:
        """Return that a key is absent."""

    def scan(self, _lower: bytes, _upper: bytes, _limit: int) -> list[Listed]:
        """Return no key."""
        return []


_OPTIONS = common.options(
    click.option(
        "--binding",
        metavar="NAME",
        help="The namespace by its name in the config. May be left out when there is just one.",
    ),
    click.option(
        "--namespace-id", metavar="ID", help="The namespace by its id, which needs no config."
    ),
    common.config_option,
    common.env_option,
    common.data_dir_option,
)


def namespace_options(command: Callable[..., None]) -> Any:
    """Add the options that choose a namespace; the command takes the Namespace first."""

    @functools.wraps(command)
    def run(
        *,
        binding: str | None,
        namespace_id: str | None,
        config: Path | None,
        env: str | None,
        data_dir: Path | None,
        **more: Any,
    ) -> None:
        command(_choose(binding, namespace_id, config, env, data_dir), **more)

    return _OPTIONS(run)


def _choose(
    binding: str | None,
    namespace_id: str | None,
    place: Path | None,
    env: str | None,
    data_dir: Path | None,
) -> Namespace:
    if binding is not None and namespace_id is not None:
        raise click.UsageError("give --binding or --namespace-id, not both")
    if namespace_id is not None:
        if not is_namespace_id(namespace_id):
            raise click.UsageError(f"--namespace-id: expected {NAMESPACE_ID}")
        return by_id(namespace_id, place, env, data_dir)
    config = common.load_config(place, env)
    return _namespace(config, _bound(config, binding), place, data_dir)


def by_id(
    namespace_id: str, place: Path | None, env: str | None, data_dir: Path | None
) -> Namespace:
    """Return the namespace with an id, whether a config binds it or not."""
    binding = KVBinding(namespace_id, namespace_id)
    return _namespace(config_if_any(place, env), binding, place, data_dir)


def _namespace(
    config: Config, chosen: KVBinding, place: Path | None, data_dir: Path | None
) -> Namespace:
    return Namespace(
        replace(config, kv=(chosen,), objects=(), vars={}),
        common.data_directory(place, data_dir),
    )


def config_if_any(place: Path | None, env: str | None) -> Config:
    """Return the worker's config, or that of nothing where none is."""
    try:
        path = find(place or Path()) if place is None or place.is_dir() else place
    except ConfigError:
        return from_keywords()
    return common.load_config(path, env)


def _bound(config: Config, binding: str | None) -> KVBinding:
    names = [kv.binding for kv in config.kv]
    if not names:
        raise click.ClickException(
            f"{config.name} has no KV namespace: add `kv_namespaces = [{{ binding = "
            f'"{binding or "KV"}" }}]` to its config, or name one with --namespace-id'
        )
    if binding is not None:
        for kv in config.kv:
            if kv.binding == binding:
                return kv
        raise click.ClickException(
            f"{config.name} has no KV namespace {binding}; it has {', '.join(names)}"
        )
    if len(names) > 1:
        raise click.ClickException(
            f"{config.name} has several KV namespaces: choose one with --binding, of "
            f"{', '.join(names)}"
        )
    return config.kv[0]
