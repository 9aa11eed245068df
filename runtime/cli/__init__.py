"""The `roost` command; one module a group of commands.

A mistake of the user's, and whatever the system refuses, is one plain message on the error stream and
exit code 1, never a traceback: a traceback is a defect of Roost's.
"""

from __future__ import annotations

import os
import sys

import click

from runtime.cli.common import InOrder
from runtime.cli.init import init
from runtime.cli.kv import kv
from runtime.cli.objects import objects
from runtime.cli.run import dev, serve
from runtime.cli.status import status
from workers.errors import RoostError


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="roost")
def roost() -> None:
    """Durable Objects and Workers KV for Python, on your own machine's cores.

    A worker is a folder with a wrangler.toml, which names a Python script with a WorkerEntrypoint
    and Durable Object classes. All commands work on the worker in the current folder; --config
    names another. What objects store and what is in KV lives in .roost beside the config.

    \b
    Start a project and serve it:
      roost init my-worker
      cd my-worker
      roost dev
      curl 'localhost:8787/?name=ada'

    \b
    Look into it, from another terminal:
      roost status --watch
      roost objects list
      roost kv key list

    Every command has a --help with examples. All exit with 0 when they did what was asked, and
    with 1 and one message when not.
    """


for _command in (init, dev, serve, status, objects, kv):
    roost.add_command(_command)


def main() -> None:
    """Run the command line; see the module's text."""
    try:
        code = roost.main(prog_name="roost", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except click.Abort:  # Ctrl-C
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as no_command:
        no_command.show()
        sys.exit(1)
    except (click.ClickException, RoostError, OSError) as error:
        click.echo(f"{click.style('roost:', fg='red', bold=True)} {_text(error)}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _text(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        see = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        return error.format_message().rstrip(".") + see
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
