"""Two tabs of a real browser chat, while the process of their room is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.server import started

from .browser import CHROMIUM, DRIVER, MISSING, browser
from .conftest import Rooms

CHAT = Path(__file__).parents[2] / "examples" / "chat"

SEES = "[...document.querySelectorAll('#log p')].some(p => p.textContent === arguments[0])"
CONNECTED = "document.body.dataset.connections === '1'"
HERE = "document.querySelectorAll('#people li').length === arguments[0]"
NOTHING_PENDING = "document.querySelectorAll('.pending').length === 0"


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)
async def test_two_tabs_go_on_without_reconnecting_when_a_host_is_killed(tmp_path: Path) -> None:
    with started(CHAT, tmp_path / "data", 2) as server, browser() as chromium:
        chat = Rooms(server.url, tmp_path / "data", tmp_path)
        ada = chromium.open(f"{server.url}/?room=tea&name=Ada")
        bea = chromium.open(f"{server.url}/?room=tea&name=Bea")
        chromium.wait(CONNECTED)
        chromium.wait(HERE, 2)
        chromium.turn_to(ada)
        chromium.type("#text", "the kettle is on")
        chromium.turn_to(bea)
        chromium.wait(SEES, "the kettle is on")

        async with chat.runtime() as runtime:
            pids = [host.pid for host in runtime.status()]
        for pid in pids:
            await chat.kill(pid)

        chromium.type("#text", "and the room has a new process")
        chromium.turn_to(ada)
        chromium.wait(SEES, "and the room has a new process")
        chromium.type("#text", "so it has")
        chromium.turn_to(bea)
        chromium.wait(SEES, "so it has")
        for tab in (ada, bea):
            chromium.turn_to(tab)
            chromium.wait(NOTHING_PENDING)
            chromium.wait(HERE, 2)
            assert chromium.run(f"return {CONNECTED}"), "it never had to connect again"
        chromium.screenshot(tmp_path / "chat.png")
