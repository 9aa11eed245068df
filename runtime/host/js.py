"""The `js` module that scripts of the original import from: the WebSocket classes, and honest errors.

It exists only in the processes that load a script, never on the import path, so that it can hide
nothing. What is not here raises an ImportError that says what to use instead.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Final

from workers import WebSocket, WebSocketPair, WebSocketRequestResponsePair

_HERE: Final = {
    "WebSocket": WebSocket,
    "WebSocketPair": WebSocketPair,
    "WebSocketRequestResponsePair": WebSocketRequestResponsePair,
}

_INSTEAD: Final = {
    "Response": "from workers import Response",
    "Request": "from workers import Request",
    "Headers": "from workers import Headers",
    "FormData": "from workers import FormData",
    "fetch": "from workers import fetch",
    "JSON": "import json",
    "URL": "from urllib.parse import urlsplit",
    "Date": "from datetime import datetime",
    "console": "print()",
    "Object": "a dict",
    "setTimeout": "await asyncio.sleep()",
}


class _JS(ModuleType):
    """The module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        instead = _INSTEAD.get(name)
        hint = f": use `{instead}`" if instead else ""
        known = ", ".join(_HERE)
        # ImportError and not AttributeError: `from js import name` replaces the latter's text.
        raise ImportError(
            f"js.{name} is not part of Roost, whose scripts are plain Python{hint} (js has {known})",
            name="js",
        )


def provide_js() -> None:
    """Let scripts of this process import `js`, unless they have one of their own."""
    if "js" not in sys.modules:
        module = _JS("js", __doc__)
        vars(module).update(_HERE)
        sys.modules["js"] = module
