"""A headless Chromium, driven over the WebDriver protocol, in the few words that a test needs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "no browser here: install chromium and chromedriver (Debian: chromium, chromium-driver)"

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1100,800",
)


class Browser:
    """One session of a browser, with as many tabs as are opened."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        options = {"binary": CHROMIUM, "args": list(_ARGUMENTS)}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = self._call("POST", "session", wanted)["sessionId"]
        self._session = f"session/{session}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._driver}/{path}", data, method=method)
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> str:
        """Open a page in a new tab; returns the tab."""
        tab: str = self._call("POST", f"{self._session}/window/new", {"type": "tab"})["handle"]
        self.turn_to(tab)
        self._call("POST", f"{self._session}/url", {"url": url})
        return tab

    def turn_to(self, tab: str) -> None:
        """Look at a tab."""
        self._call("POST", f"{self._session}/window", {"handle": tab})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; returns what it returns."""
        body = {"script": script, "args": arguments}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def wait(self, condition: str, *arguments: Any) -> None:
        """Wait until an expression of the page is true."""
        until = time.monotonic() + 20
        while not self.run(f"return {condition}", *arguments):
            if time.monotonic() > until:
                raise AssertionError(f"{condition} {arguments}:\n{self.text()}")
            time.sleep(0.01)

    def text(self) -> str:
        """What the page shows, as text."""
        shown: str = self.run("return document.body.innerText")
        return shown

    def type(self, selector: str, text: str) -> None:
        """Type into a field, and press Enter at the end."""
        find = {"using": "css selector", "value": selector}
        (element,) = self._call("POST", f"{self._session}/element", find).values()
        value = {"text": text + "\ue007"}
        self._call("POST", f"{self._session}/element/{element}/value", value)

    def screenshot(self, path: Path) -> None:
        """Save what the tab looks like."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        """End the session and its processes."""
        self._call("DELETE", self._session)


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser until the end of the block."""
    assert DRIVER is not None
    with subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        assert driver.stdout is not None
        try:
            for line in driver.stdout:
                if "on port" in line and "successfully" in line:
                    port = int(line.rstrip().rstrip(".").rpartition(" ")[2])
                    break
            else:
                raise RuntimeError("chromedriver did not start")
            session = Browser(f"http://127.0.0.1:{port}")
            try:
                yield session
            finally:
                session.close()
        finally:
            driver.terminate()
