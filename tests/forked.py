"""Runs `roost` commands in forks of a process that has imported them.

Each is the real command in a process of its own, with its folder, environment, input, output and exit
code; it is spared the imports, most of what a short command takes. Run as a program, this is the process
that forks, one command after the other.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

ROOST = str(Path(sys.executable).with_name("roost"))


class Forks:
    """Starts the process that forks; `run` is `subprocess.run` for `roost`."""

    def __init__(self):
        self._lock = threading.Lock()
        self._connection, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            cwd="/",
            # Tests of what is left behind look for processes by their run directory.
            env={name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def run(self, arguments, *, cwd, env, input=b"", stdout=None, timeout):  # noqa: A002
        """Run a command to its end; `stdout` may be a descriptor that takes the output."""
        request = {"arguments": [*map(os.fsdecode, arguments)], "cwd": str(cwd), "env": env}
        with TemporaryFile() as asked, TemporaryFile() as out, TemporaryFile() as err, self._lock:
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            reading, writing = os.pipe()
            taking = out.fileno() if stdout is None else stdout
            given = [reading, taking, err.fileno(), asked.fileno()]
            self._connection.settimeout(timeout)
            socket.send_fds(self._connection, [b"\0"], given)
            os.close(reading)
            writer = threading.Thread(target=_write, args=(writing, input))
            writer.start()
            code = json.loads(self._connection.recv(64))
            writer.join()
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def close(self):
        """End the process that forks, and a command that did not end."""
        self._connection.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _write(descriptor, data):
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as pipe:
        pipe.write(data)


def _serve(connection):
    """Return in each fork, when all is as its command wants it; in this process never."""
    while True:
        said, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not said:
            sys.exit()
        if os.fork() == 0:
            connection.close()
            with os.fdopen(descriptors[3], "rb") as asked:
                request = json.load(asked)
            for target, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, target)
                os.close(descriptor)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            time.tzset()
            sys.argv[:] = [ROOST, *request["arguments"]]
            return
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.wait()
        connection.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(ROOST).parent))
    import roost
    from runtime.cli import _COMMANDS

    for module in _COMMANDS.values():
        import_module(f"runtime.cli.{module}")
    _serve(socket.socket(fileno=int(sys.argv[1])))
    roost.main()
