"""Which object a command is about, and the way to it.

By its id, or by the name it is addressed by; then the config of the running instance, or that of the
worker's folder, tells the id.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import common
from runtime.client.reach import reach
from runtime.ids import ID_BYTES, NamespaceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runtime.client.reach import Objects


@dataclass(frozen=True, slots=True)
class Choice:
    """What a command was told of which object it is about, and where that is."""

    object_id: str | None
    name: str | None
    class_name: str | None
    config: Path | None
    env: str | None
    data_dir: Path | None

    @property
    def data(self) -> Path:
        """The data directory."""
        return common.data_directory(self.config, self.data_dir)

    def of(self, found: Objects) -> bytes:
        """Return the id of the object that the user has named."""
        if (self.object_id is None) == (self.name is None):
            raise click.UsageError("name one object: by its ID, or by --name")
        if self.object_id is not None:
            try:
                raw = bytes.fromhex(self.object_id)
            except ValueError:
                raw = b""
            if len(raw) != ID_BYTES:
                raise click.UsageError(f"{self.object_id!r} is no id: expected 64 hex digits")
            return raw
        config = found.config or common.load_config(self.config, self.env)
        bound = sorted({binding.class_name for binding in config.objects})
        chosen = self.class_name
        if chosen is None and len(bound) != 1:
            raise click.UsageError(f"choose a class with --class, of {', '.join(bound) or 'none'}")
        if chosen is not None and chosen not in bound:
            raise click.UsageError(f"{config.name} binds no class {chosen}: name the object's ID")
        assert self.name is not None
        return NamespaceKey(config.id_key(chosen or bound[0])).from_name(self.name).raw


def choice(*more: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Any]:
    """Give a command its words about an object as one `Choice`, and these options of its own."""

    def add(command: Callable[..., None]) -> Any:
        @wraps(command)
        def chosen(**told: Any) -> None:
            its = Choice(**{field.name: told.pop(field.name) for field in fields(Choice)})
            command(its, **told)

        return common.options(
            click.argument("object_id", metavar="[ID]", required=False),
            click.option(
                "--name", metavar="NAME", help="The name that the object is addressed by."
            ),
            click.option("--class", "class_name", metavar="NAME", help="The class of that object."),
            *more,
            common.config_option,
            common.env_option,
            common.data_dir_option,
        )(chosen)

    return add


@contextmanager
def reached(data: Path) -> Iterator[Objects]:
    """Reach the objects of a data directory in which something was stored."""
    if not (data / "lock").is_file():
        raise click.ClickException(f"nothing was ever stored in {data}; --data-dir names another")
    with reach(data) as found:
        yield found


def stored_nothing(raw: bytes) -> click.ClickException:
    """Return what is said of an object that is nowhere."""
    return click.ClickException(f"object {raw.hex()} has stored nothing")
