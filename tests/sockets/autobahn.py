"""The Autobahn test suite's cases against the gateway: `python -m tests.sockets.autobahn WSTEST`.

The suite, as it is published, needs Python 2.7, so it is no part of the tests: WSTEST is its command
in an environment of its own (`pip install autobahntestsuite`). Every message passes through an
object, which sends it back. Prints how many cases behaved how, names those that failed, and exits
with 1 if there are any.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from examples.demo.server import started

from .conftest import CONFIG

WORKER = """
from workers import DurableObject, Response, WebSocketPair, WorkerEntrypoint


class Room(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    def webSocketMessage(self, ws, message):
        ws.send(message)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.ROOMS.getByName("echo").fetch(request)
"""

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""Non-strict: as the RFC allows, but later or earlier than the suite would like."""


def run(wstest: list[str], cases: list[str]) -> dict[str, dict[str, str]]:
    """Run cases; returns what the suite says of each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "worker.py").write_text(WORKER)
        config = CONFIG.format(idle_s=10, gateways=1, websockets="compress = true")
        (folder / "wrangler.toml").write_text(config)
        with started(folder, folder / "data", 1) as server:
            spec = {
                "outdir": str(folder / "report"),
                "servers": [{"agent": "Roost", "url": server.url.replace("http", "ws")}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            (folder / "spec.json").write_text(json.dumps(spec))
            command = [*wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, dict[str, str]] = json.loads((folder / "report/index.json").read_text())[
            "Roost"
        ]
        return found


def main(wstest: str, *cases: str) -> int:
    """Run the suite and say what came of it."""
    found = run([wstest], list(cases) or ["*"])
    for what in ("behavior", "behaviorClose"):
        sys.stdout.write(f"{what}: {dict(Counter(case[what] for case in found.values()))}\n")
    failed = [
        f"{name} {case['behavior']}, close: {case['behaviorClose']}"
        for name, case in found.items()
        if not {case["behavior"], case["behaviorClose"]} <= GOOD
    ]
    sys.stdout.write("\n".join([f"{len(found)} cases, {len(failed)} failed", *failed, ""]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
