"""`roost init`: a small worker to begin with, from the files in `starter`."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

import click

from runtime.cli.common import short

_PLACES = {
    "wrangler.toml": "wrangler.toml",
    "worker.py": "src/worker.py",
    "gitignore": ".gitignore",
}
"""Where each file of the starter goes."""

_IN_THE_WAY = ("wrangler.json", "wrangler.jsonc", "wrangler.toml", "src/worker.py")


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write a small worker to begin with.

    It goes into FOLDER (default: here), which is made if it is not there.

    It has one Durable Object class that uses its storage and KV, an entrypoint that answers HTTP
    requests, and the config for both; `roost dev` serves it as it is. Nothing that is there is
    overwritten: when the folder has a worker already, nothing is written.

    \b
    Examples:
      roost init my-worker
      mkdir shop && cd shop && roost init
    """
    if there := [name for name in _IN_THE_WAY if (folder / name).exists()]:
        raise click.ClickException(
            f"{short(folder / there[0])} is there already, and nothing was written: choose another "
            "folder, as in `roost init my-worker`"
        )
    starter = files("runtime.cli") / "starter"
    written = []
    for name, place in _PLACES.items():
        path = folder / place
        if path.exists():  # a .gitignore
            click.echo(f"{short(path)} stays as it is; let git ignore .roost/", err=True)
            continue
        text = (starter / name).read_text()
        if name == "wrangler.toml":
            text = text.replace("my-worker", _worker_name(folder), 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(short(path))
    click.echo(f"wrote {', '.join(written)}")
    click.echo("\nServe it, and ask it:")
    if folder.resolve() != Path.cwd():
        click.echo(f"  cd {shlex.quote(str(folder))}")
    click.echo("  roost dev\n  curl 'localhost:8787/?name=ada'")
    click.echo("\nChange what it says while it runs:\n  roost kv key put greeting 'Good morning'")


def _worker_name(folder: Path) -> str:
    """A worker's name made of the folder's."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-")[:63]
    return name or "my-worker"
