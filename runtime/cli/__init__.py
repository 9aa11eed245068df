"""The `roost` command; one module a group of commands.

A mistake of the user's, and whatever the system refuses, is one plain message on the error stream and
exit code 1, never a traceback: a traceback is a defect of Roost's.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from workers.errors import RoostError

_COMMANDS = {
    "init": "init",
    "dev": "run",
    "serve": "run",
    "status": "status",
    "reload": "reload",
    "slots": "slots",
    "migrate": "migrate",
    "objects": "objects",
    "kv": "kv",
    "map": "map",
    "bench": "bench",
    "backup": "backup",
    "restore": "backup",
}
"""The module of each command."""


class _Commands(click.Group):
    """Imports a command when it is asked for: `roost kv` can do without a gateway, 0.1 s."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"runtime.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(
    cls=_Commands,
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


def main() -> None:
    """Run the command line; see the module's text."""
    _open_standard_streams()
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


def _open_standard_streams() -> None:
    """Make standard streams that were closed (`>&-`) the null device.

    Files that are opened later would have their descriptors, and with them what is printed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _text(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        see = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        return error.format_message().rstrip(".") + see
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
