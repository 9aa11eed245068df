"""The gateway: HTTP from the outside, calls to the inside."""

from runtime.gateway.access_log import AccessLog
from runtime.gateway.server import Server

__all__ = ["AccessLog", "Server"]
