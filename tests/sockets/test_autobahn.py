"""The Autobahn test suite's own cases against the gateway, each message by way of an object.

Left out are part 9, which measures, and parts 12 and 13, each case of which sends a thousand
compressed messages: `test_compression.py` looks at those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kosoku import run_fuzzingclient

from .conftest import CONFIG, WORKER, started

if TYPE_CHECKING:
    from pathlib import Path

ECHO: Final = '''

class Room(Room):
    """Says everything back, and nothing else."""

    def webSocketMessage(self, ws, message):
        ws.send(message)

    def webSocketClose(self, ws, code, reason, wasClean):
        pass
'''

CASES: Final = [f"{part}.*" for part in (1, 2, 3, 4, 5, 6, 7, 10)]


async def test_all_cases_of_the_autobahn_suite_pass(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER.read_text() + ECHO)
    # A ping that the server sends on its own is none of the events that a case expects.
    config = CONFIG.format(idle_s=10, gateways=1, websockets="ping_s = 0")
    (tmp_path / "wrangler.toml").write_text(config)
    with started(tmp_path, tmp_path / "data", 1) as server:
        # Raises an error that names those which do not.
        results = await run_fuzzingclient(server.url.replace("http", "ws"), CASES, concurrency=4)
    parts = {result.case_id.partition(".")[0] for result in results}
    assert parts == {"1", "2", "3", "4", "5", "6", "7", "10"}
