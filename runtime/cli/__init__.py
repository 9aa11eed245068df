"""The `roost` command; one module a group of commands."""

from __future__ import annotations

import sys

import click

from runtime.cli.run import dev, serve
from workers.errors import RoostError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `roost init my-worker`, then `cd my-worker` and `roost dev`.",
)
@click.version_option(package_name="roost")
def roost() -> None:
    """Durable Objects and Workers KV for Python, on your own machine's cores."""


roost.add_command(dev)
roost.add_command(serve)


def main() -> None:
    """Run the command line; errors of the user's are one plain message and exit code 1."""
    try:
        roost()
    except (RoostError, PermissionError) as error:
        click.echo(f"{click.style('roost:', fg='red', bold=True)} {error}", err=True)
        sys.exit(1)
