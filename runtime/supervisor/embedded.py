"""The supervisor of an embedding program: a fresh child process of it, that dies with it.

The program starts `python -c` with this module's `main`, sends what to run as a pickle on standard
input, and keeps the other end of a control connection; when that closes, everything ends.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import socket
import sys
from typing import TYPE_CHECKING

from runtime import control
from runtime.directories import claim, release
from runtime.migrations import migrate
from runtime.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from runtime.boot import Boot

_log = logging.getLogger("roost")


def main(descriptor: int) -> None:
    """Run an instance for the program at the other end of the connection."""
    parent = socket.socket(fileno=descriptor)
    parent.set_inheritable(False)
    boot: Boot = pickle.loads(sys.stdin.buffer.read())
    logging.basicConfig(level=boot.log_level.upper(), format="roost: %(message)s")
    config = boot.worker.config
    try:
        directories = claim(boot.data, hosts=boot.hosts, slots=config.slots)
        try:
            for line in migrate(config, directories.data):
                _log.warning("%s", line)
        except BaseException:
            release(directories)
            raise
    except Exception as error:
        control.say(parent, "refused", pickle.dumps(error).hex())
        os._exit(1)
    parent.setblocking(False)
    try:
        supervisor = Supervisor(boot.worker, directories, boot.hosts, parent=parent)
        gc.freeze()
        code = supervisor.run()
    finally:
        release(directories)
    os._exit(code)
