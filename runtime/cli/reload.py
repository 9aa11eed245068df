"""`roost reload`: replace the hosts of a running instance one by one.

What `roost dev` does by itself when a file changes; for `roost serve` it is the rolling restart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from runtime.cli import common
from runtime.client.sync_runtime import connect

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@common.options(common.config_option, common.data_dir_option)
def reload(config: Path | None, data_dir: Path | None) -> None:
    """Replace the hosts of a running instance one by one.

    The new ones have the script as it is now. Nothing is cut off: what runs in a host ends before the host does, new requests and calls go to its
    successor, WebSockets stay connected, and what objects have stored stays. What they keep in memory
    alone is gone, as after an eviction. Events that run on longer than the grace period (30 s) are ended.

    A script that does not load is refused, with its traceback; the instance goes on as it was, and the
    exit code is 1. Changes of the configuration and of modules in `preload` need a restart.

    \b
    Examples:
      roost reload
      roost reload --data-dir /var/lib/rooms
    """
    began = time.monotonic()
    with connect(common.data_directory(config, data_dir)) as rt:
        rt.reload()
        hosts = len(rt.status())
    took = time.monotonic() - began
    click.echo(f"reloaded the script in {hosts} host{'s' * (hosts != 1)}, in {took:.1f} s")
