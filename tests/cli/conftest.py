"""The real command in processes of its own, on free ports and in temporary folders."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.forked import ROOST

SECONDS = 60
"""What nothing takes; a test that waits so long has failed."""


def environment(**more: str) -> dict[str, str]:
    """The tests' environment, without what would change the command's ways."""
    kept = {k: v for k, v in os.environ.items() if k not in {"CLOUDFLARE_ENV", "PYTHONPATH"}}
    return kept | more


class Ran:
    """A command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.raw = done.stdout
        self.err = done.stderr.decode()

    @property
    def out(self) -> str:
        return self.raw.decode()

    def failed(self) -> str:
        """The one line that a failed command says."""
        assert self.code == 1, (self.code, self.raw, self.err)
        assert self.raw == b""
        (line,) = self.err.splitlines()
        assert line.startswith("roost: ")
        return line

    def worked(self) -> str:
        """The output of a command that did what it was asked."""
        assert self.code == 0, (self.code, self.raw, self.err)
        return self.out


class Instance:
    """A running `roost dev` or `roost serve`, and all that it has said."""

    def __init__(self, arguments: list[str], folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [ROOST, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._seen = 0
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def hear(self, pattern: str) -> re.Match[str]:
        """Wait for the next line with a pattern; the lines before it are passed over."""
        with self._said:
            while True:
                while self._seen < len(self._lines):
                    line = self._lines[self._seen]
                    self._seen += 1
                    if found := re.search(pattern, line):
                        return found
                assert not self._ended, f"ended without {pattern!r}:\n{self.said}"
                assert self._said.wait(SECONDS), f"no {pattern!r} in:\n{self.said}"

    @property
    def said(self) -> str:
        return "".join(self._lines)

    def ready(self) -> "Instance":
        """Wait until it serves."""
        self.url = self.hear(r"is ready on (http://\S+)")[1]
        self.hear("stop it")
        return self

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and return the exit code; by then all has been said."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code


@pytest.fixture
def run():
    """Run `roost` or `python` to its end in a folder, and return what it said as text."""
    programs = {"roost": ROOST, "python": sys.executable}

    def run_(command, folder, **env):
        program, *arguments = command.split()
        return subprocess.run(
            [programs[program], *arguments],
            cwd=folder,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    run_.programs = programs
    return run_


@pytest.fixture
def roost(tmp_path, forks):
    """Run a command to its end, in the test's folder unless another is given."""

    def run(*arguments, cwd=tmp_path, stdin=b"", stdout=None, env=None):
        return Ran(
            forks.run(
                arguments,
                cwd=cwd,
                env=environment(**(env or {})),
                input=stdin,
                stdout=stdout,
                timeout=SECONDS,
            )
        )

    return run


def configure(folder, namespaces='{ binding = "KV", id = "id" }', more=""):
    """Write the config of a worker with these KV namespaces."""
    text = f'name = "w"\nkv_namespaces = [{namespaces}]\n{more}\n'
    (folder / "wrangler.toml").write_text(text)


@pytest.fixture
def kv(tmp_path, roost):
    """Run `roost kv` in a folder whose worker has one namespace."""
    configure(tmp_path)

    def run(*arguments, **options):
        return roost("kv", *arguments, **options)

    return run


@pytest.fixture
def start(tmp_path):
    """Start an instance; whatever still runs at the end of the test is ended."""
    instances = []

    def start_(*arguments, cwd=tmp_path, hosts=2):
        given = [*arguments, "--port", "0", "--hosts", str(hosts)]
        instance = Instance(given, cwd, environment())
        instances.append(instance)
        return instance

    yield start_
    for instance in instances:
        if instance.process.poll() is None:
            instance.end(signal.SIGTERM)


@pytest.fixture(scope="session")
def starter(tmp_path_factory):
    """What `roost init` writes, once for all tests."""
    folder = tmp_path_factory.mktemp("starter") / "project"
    subprocess.run([ROOST, "init", folder], check=True, stdout=subprocess.DEVNULL, timeout=SECONDS)
    return folder


@pytest.fixture
def project(tmp_path, starter):
    """A folder with the worker that `roost init` writes."""
    return Path(shutil.copytree(starter, tmp_path / "project"))
