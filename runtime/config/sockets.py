"""The `[roost.websockets]` table: how many WebSockets, of whom, and how much each may take."""

from dataclasses import dataclass
from typing import Final

from runtime.config.table import Table

__all__ = ["SocketLimits", "read_socket_limits"]

_KEYS: Final = frozenset(
    {"buffer_bytes", "compress", "connections", "lossy", "message_bytes", "origins", "ping_s"}
)


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """How much of a thing a gateway's WebSockets may have."""

    connections: int = 50_000
    """Sockets of one gateway; one more is refused with 503."""
    message_bytes: int = 32 * 1024 * 1024
    """Size of a received message; a larger one closes with 1009. Cloudflare's is the same."""
    compress: bool = False
    """Whether messages are compressed (permessage-deflate) for clients that offer it."""
    lossy: tuple[str, ...] = ()
    """Tags whose sockets lose the oldest messages that wait, where others would be closed."""
    buffer_bytes: int = 1024 * 1024
    """Bytes that wait for one client to read them, before it is closed with 1013."""
    ping_s: float = 30.0
    """Seconds between pings; a client silent from one to the next is cut off. 0: never."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may connect; empty: all. Clients that are no browsers send none."""


def read_socket_limits(roost: Table) -> SocketLimits:
    """Read the table, which may be missing."""
    if "websockets" not in roost:
        return SocketLimits()
    table = roost.table("websockets")
    table.allow(_KEYS)
    defaults = SocketLimits()
    return SocketLimits(
        connections=table.integer("connections", defaults.connections, 1),
        message_bytes=table.integer("message_bytes", defaults.message_bytes, 1),
        buffer_bytes=table.integer("buffer_bytes", defaults.buffer_bytes, 1024),
        ping_s=table.seconds("ping_s", defaults.ping_s),
        compress=table.flag("compress", default=defaults.compress),
        lossy=table.texts("lossy", "a tag of acceptWebSocket()", _is_tag),
        origins=table.texts("origins", "an origin such as 'https://example.com'", _is_origin),
    )


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 256


def _is_origin(text: str) -> bool:
    scheme, found, host = text.partition("://")
    return bool(scheme and found and host) and "/" not in host
