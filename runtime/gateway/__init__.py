"""The gateway: HTTP from the outside, calls to the inside.

`build_app` makes the ASGI application, `Protocol` is what uvicorn should run it under.
"""

from runtime.gateway.access_log import AccessLog
from runtime.gateway.app import build_app
from runtime.gateway.protocol import Protocol

__all__ = ["AccessLog", "Protocol", "build_app"]
