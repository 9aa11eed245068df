"""`roost dev` and `roost serve`: the roost process becomes the supervisor of an instance."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import socket
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from runtime.boot import Worker
from runtime.cli import common
from runtime.config.settings import read_ip
from runtime.config.table import Table
from runtime.directories import claim, release
from runtime.gateway.process import Gateway, run_gateway
from runtime.migrations import migrate
from runtime.supervisor.supervisor import Supervisor, only_one_thread
from runtime.supervisor.trial import run_watcher
from workers.errors import ConfigError, RoostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.config import Config
    from runtime.directories import Directories

_log = logging.getLogger("roost")


def _address(_context: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    """What --ip means, by the rules of dev.ip in the config."""
    try:
        return None if given is None else read_ip(Table("", "", {"ip": given}))
    except ConfigError as error:
        raise click.BadParameter("expected an IP address or 'localhost'") from error


_run_options = common.options(
    click.argument("folder", required=False, type=click.Path(exists=True, path_type=Path)),
    click.option(
        "--hosts",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes that run objects. Default: [roost] hosts of the config, or one a core.",
    ),
    click.option(
        "--gateways",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes that speak HTTP and WebSocket, all on the same port. Default: [roost] "
        "gateways of the config, or 1.",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        metavar="PORT",
        help="Default: dev.port of the config, or 8787. 0 takes a free one.",
    ),
    click.option(
        "--ip",
        callback=_address,
        metavar="ADDRESS",
        help="Default: dev.ip of the config, or 127.0.0.1, which only this machine reaches; "
        "0.0.0.0 lets others in.",
    ),
    common.config_option,
    common.env_option,
    common.data_dir_option,
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="How much to tell; at error, only failed requests are logged.",
    ),
)


@click.command()
@_run_options
def dev(**options: Any) -> None:
    """Serve a worker, and reload it when it changes.

    For working on a script: that of FOLDER (default: here). When a Python file beside it changes, the hosts are replaced one by
    one: objects keep what they have stored, requests wait for a moment. A script that does not
    load is shown and not used; the one before goes on. Errors answer with a page that has the
    traceback.

    Ctrl-C finishes what is under way and stops; a second one stops at once.

    \b
    Examples:
      roost dev
      roost dev --port 9000 --hosts 2
      roost dev examples/rooms --env staging
    """
    _run("dev", **options)


@click.command()
@_run_options
def serve(**options: Any) -> None:
    """Serve a worker for production.

    The one in FOLDER (default: here). Like dev, but nothing is reloaded, and errors answer with an incident id, under which the log
    has the traceback. Put a reverse proxy in front of it for TLS. SIGTERM finishes what is under
    way (up to grace_s of [roost], 30 seconds) and stops. A host that dies is replaced at once.

    \b
    Examples:
      roost serve
      roost serve --hosts 8 --data-dir /var/lib/rooms
      roost serve --ip 0.0.0.0 --port 80 --log-level error
    """
    _run("serve", **options)


def _run(
    mode: Literal["dev", "serve"],
    *,
    folder: Path | None,
    config: Path | None,
    env: str | None,
    hosts: int | None,
    gateways: int | None,
    ip: str | None,
    port: int | None,
    data_dir: Path | None,
    log_level: str,
) -> None:
    if folder is not None and config is not None:
        raise click.UsageError("give FOLDER or --config, not both")
    _log_at(log_level)
    place = folder or config
    read = common.load_config(place, env)
    count = hosts or read.hosts or os.cpu_count() or 1
    final = replace(
        read,
        ip=ip if ip is not None else read.ip,
        port=port if port is not None else read.port,
        hosts=count,
        gateways=gateways or read.gateways,
    )
    for warning in final.warnings:
        _log.warning("%s", warning)
    data = common.data_directory(place, data_dir)
    directories = claim(data, hosts=count, slots=final.slots)
    try:
        for line in migrate(final, data):
            _log.warning("%s", line)
        listeners = _listen(final)
        worker = Worker(final, None, ())
        _preload(final)
        supervisor = _supervisor(mode, worker, directories, listeners, quiet=log_level == "error")
        gc.freeze()  # the pages of what is loaded stay shared with all children
        code = supervisor.run()
    finally:
        release(directories)
    if code:
        raise RoostError(supervisor.failure)


def _log_at(level: str) -> None:
    """Log to the error stream: Roost's events, what the script logs, and what libraries warn of."""
    logging.basicConfig(level=level.upper(), format="%(message)s", stream=sys.stderr, force=True)
    if level != "debug":
        logging.getLogger("watchfiles").setLevel(logging.WARNING)


def _supervisor(
    mode: Literal["dev", "serve"],
    worker: Worker,
    directories: Directories,
    listeners: list[socket.socket],
    *,
    quiet: bool,
) -> Supervisor:
    config = worker.config
    gateways = [
        Gateway(
            listener,
            directories,
            mode,
            config.limits.request_body,
            config.limits.grace_s,
            quiet=quiet,
            websockets=config.websockets,
            number=number,
        )
        for number, listener in enumerate(listeners)
    ]
    extras: dict[str, list[Callable[[socket.socket, int], None]]] = {
        "gateway": [partial(run_gateway, gateway) for gateway in gateways]
    }
    if mode == "dev" and config.main is not None:
        extras["watcher"] = [partial(run_watcher, config.main.parent, time.time())]
    port = listeners[0].getsockname()[1]
    return Supervisor(
        worker,
        directories,
        config.hosts or 1,
        extras=extras,
        fronts=listeners,
        on_ready=lambda: _greet(mode, config, directories, port),
    )


def _listen(config: Config) -> list[socket.socket]:
    """Return a listening socket for each gateway, all on one port; the kernel shares clients out."""
    family = socket.AF_INET6 if ":" in config.ip else socket.AF_INET
    several = config.gateways > 1
    listeners: list[socket.socket] = []
    port = config.port
    try:
        if several:  # a port that others share would not be refused below
            with socket.create_server((config.ip, port), family=family) as alone:
                port = alone.getsockname()[1]
        for _ in range(config.gateways):
            listener = socket.create_server(
                (config.ip, port), family=family, backlog=2048, reuse_port=several
            )
            listener.setblocking(False)
            listeners.append(listener)
    except OSError as cause:
        raise ConfigError(
            f"cannot listen on {_shown(config.ip)}:{config.port}: {os.strerror(cause.errno or 0)}. "
            "Choose another with --port or --ip (--port 0 takes a free one)."
        ) from cause
    return listeners


def _preload(config: Config) -> None:
    """Import what hosts will need before they are forked, so that a new host has it at once."""
    for name in config.preload:
        try:
            importlib.import_module(name)
        except Exception as cause:
            raise ConfigError(
                f"`preload` names {name}, which cannot be imported: {type(cause).__name__}: {cause}"
            ) from cause
        if not only_one_thread():
            raise ConfigError(
                f"`preload` names {name}, which starts a thread when it is imported; a process "
                "with threads cannot be forked safely. Leave it out: hosts import it themselves."
            )


def _greet(
    mode: Literal["dev", "serve"], config: Config, directories: Directories, port: int
) -> None:
    anywhere = config.ip in {"0.0.0.0", "::"}  # noqa: S104  (only compared)
    host = "localhost" if anywhere or config.ip == "127.0.0.1" else _shown(config.ip)
    bindings = [f"{b.name} ({b.class_name})" for b in config.objects]
    bindings += [f"{kv.binding} (KV)" for kv in config.kv]
    bindings += [f"{name} (var)" for name in config.vars]
    click.echo(
        f"{click.style('roost', bold=True)} {mode}: {config.name} is ready on "
        f"{click.style(f'http://{host}:{port}', fg='cyan', underline=True)}"
        f"{' (and for other machines)' if anywhere else ''}"
    )
    click.echo(f"  bindings  {', '.join(bindings) or 'none'}")
    click.echo(f"  hosts     {config.hosts}")
    click.echo(f"  data      {common.short(directories.data)}")
    if mode == "dev" and config.main is not None:
        click.echo(f"  reloads   when a Python file in {common.short(config.main.parent)} changes")
    click.echo("  stop it   with Ctrl-C")


def _shown(ip: str) -> str:
    """An address as it stands in a URL."""
    return f"[{ip}]" if ":" in ip else ip
