"""Which object a command is about, and the way to it.

By its id, or by the name it is addressed by; then the config of the running instance, or that of the
worker's folder, tells the id.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.client.reach import reach
from runtime.ids import ID_BYTES, NamespaceKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runtime.client.reach import Objects

one_object = common.options(
    click.argument("object_id", metavar="[ID]", required=False),
    click.option("--name", metavar="NAME", help="The name that the object is addressed by."),
    click.option("--class", "class_name", metavar="NAME", help="The class of that object."),
)
where = common.options(common.config_option, common.env_option, common.data_dir_option)


@contextmanager
def reached(data: Path) -> Iterator[Objects]:
    """Reach the objects of a data directory in which something was stored."""
    if not (data / "lock").is_file():
        raise click.ClickException(f"nothing was ever stored in {data}; --data-dir names another")
    with reach(data) as found:
        yield found


def chosen_object(
    found: Objects,
    object_id: str | None,
    name: str | None,
    class_name: str | None,
    place: Path | None,
    env: str | None,
) -> bytes:
    """Return the id of the object that the user has named."""
    if (object_id is None) == (name is None):
        raise click.UsageError("name one object: by its ID, or by --name")
    if object_id is not None:
        try:
            raw = bytes.fromhex(object_id)
        except ValueError:
            raw = b""
        if len(raw) != ID_BYTES:
            raise click.UsageError(f"{object_id!r} is no id: expected 64 hex digits")
        return raw
    config = found.config or common.load_config(place, env)
    bound = sorted({binding.class_name for binding in config.objects})
    if class_name is None and len(bound) != 1:
        raise click.UsageError(f"choose a class with --class, of {', '.join(bound) or 'none'}")
    if class_name is not None and class_name not in bound:
        raise click.UsageError(f"{config.name} binds no class {class_name}: name the object's ID")
    assert name is not None
    return NamespaceKey(config.id_key(class_name or bound[0])).from_name(name).raw


def stored_nothing(raw: bytes) -> click.ClickException:
    """Return what is said of an object that is nowhere."""
    return click.ClickException(f"object {raw.hex()} has stored nothing")
