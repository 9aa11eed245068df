"""`roost dev` and `roost serve`: the roost process becomes the supervisor of an instance."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import socket
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from runtime.cli import common
from runtime.directories import claim, release
from runtime.gateway.process import Gateway, run_gateway
from runtime.host.process import Worker
from runtime.supervisor.supervisor import Supervisor, only_one_thread
from runtime.supervisor.trial import run_trial, run_watcher
from workers.errors import ConfigError, RoostError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.config import Config
    from runtime.directories import Directories

_log = logging.getLogger("roost")


@click.command()
@common.worker_options
@common.run_options
def dev(folder: Path, env: str | None, **options: object) -> None:
    """Serve the worker in FOLDER (default: here) and reload it when its files change.

    Objects keep their stored state over a reload. Errors answer with a page that shows the
    traceback. Press Ctrl-C to finish what is under way and stop; twice to stop at once.
    """
    _run("dev", folder, env, **options)  # type: ignore[arg-type]


@click.command()
@common.worker_options
@common.run_options
def serve(folder: Path, env: str | None, **options: object) -> None:
    """Serve the worker in FOLDER (default: here) for production.

    Like dev, but nothing is reloaded, and errors answer with an incident id, whose traceback is in
    the log. Put a reverse proxy in front of it for TLS.
    """
    _run("serve", folder, env, **options)  # type: ignore[arg-type]


def _run(
    mode: Literal["dev", "serve"],
    folder: Path,
    env: str | None,
    *,
    hosts: int | None,
    ip: str | None,
    port: int | None,
    data_dir: Path | None,
    log_level: str,
) -> None:
    logging.basicConfig(
        level=log_level.upper(), format="%(message)s", stream=sys.stderr, force=True
    )
    config = common.load_config(folder, env)
    config = replace(
        config,
        ip=ip if ip is not None else config.ip,
        port=port if port is not None else config.port,
        hosts=hosts or config.hosts or os.cpu_count() or 1,
    )
    for warning in config.warnings:
        _log.warning("%s", warning)
    assert config.hosts is not None
    data = data_dir or config.root / ".roost"
    directories = claim(data, hosts=config.hosts, slots=config.slots)
    try:
        listener = _listen(config)
        worker = Worker(config, None, ())
        _preload(config)
        supervisor = _supervisor(mode, worker, directories, listener, quiet=log_level == "error")
        gc.freeze()  # the pages of what is loaded stay shared with all children
        code = supervisor.run()
    finally:
        release(directories)
    if code:
        raise RoostError(supervisor.failure)


def _supervisor(
    mode: Literal["dev", "serve"],
    worker: Worker,
    directories: Directories,
    listener: socket.socket,
    *,
    quiet: bool,
) -> Supervisor:
    config = worker.config
    gateway = Gateway(
        listener,
        directories,
        mode,
        config.limits.request_body,
        config.limits.grace_s,
        quiet=quiet,
    )
    extras: dict[str, Callable[[socket.socket, int], None]] = {
        "gateway": partial(run_gateway, gateway)
    }
    if mode == "dev" and config.main is not None:
        extras["watcher"] = partial(run_watcher, config.main.parent)
    port = listener.getsockname()[1]
    return Supervisor(
        worker,
        directories,
        config.hosts or 1,
        extras=extras,
        trial=partial(run_trial, worker, directories.data),
        on_ready=lambda: _greet(mode, config, directories, port),
    )


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.ip else socket.AF_INET
    try:
        listener = socket.create_server((config.ip, config.port), family=family, backlog=2048)
    except OSError as cause:
        raise ConfigError(
            f"cannot listen on {config.ip}:{config.port}: {cause.strerror}. Choose another with "
            "--port or --ip (--port 0 takes a free one)."
        ) from cause
    listener.setblocking(False)
    return listener


def _preload(config: Config) -> None:
    """Import what hosts will need before they are forked, so that a new host has it at once."""
    for name in config.preload:
        try:
            importlib.import_module(name)
        except ImportError as cause:
            raise ConfigError(
                f"`preload` names {name}, which cannot be imported: {cause}"
            ) from cause
        if not only_one_thread():
            raise ConfigError(
                f"`preload` names {name}, which starts a thread when it is imported; a process "
                "with threads cannot be forked safely. Leave it out: hosts import it themselves."
            )


def _greet(mode: str, config: Config, directories: Directories, port: int) -> None:
    host = f"[{config.ip}]" if ":" in config.ip else config.ip
    bindings = [f"{b.name} ({b.class_name})" for b in config.objects]
    bindings += [f"{kv.binding} (KV)" for kv in config.kv]
    bindings += [f"{name} (var)" for name in config.vars]
    click.echo(
        f"{click.style('roost', bold=True)} {mode}: {config.name} is ready on "
        f"{click.style(f'http://{host}:{port}', fg='cyan', underline=True)}"
    )
    click.echo(f"  bindings  {', '.join(bindings) or 'none'}")
    click.echo(f"  hosts     {config.hosts}")
    click.echo(f"  data      {common.short(directories.data)}")
