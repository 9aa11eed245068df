"""The settings of a runtime: how many processes, how durable, how much of everything.

The same names stand in the `[roost]` table of a file and among the keywords of `Runtime`; each has
one reader here, so that both are checked alike.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, cast

from runtime.config.table import Table

__all__ = [
    "Durability",
    "Limits",
    "Settings",
    "read_durability",
    "read_hosts",
    "read_ip",
    "read_limits",
    "read_port",
    "read_preload",
    "read_slots",
]

Durability = Literal["strict", "relaxed"]

_MOST_SLOTS: Final = 65_536
_MOST_VALUE_BYTES: Final = 999_900_000
"""A row of SQLite has at most 10⁹ bytes, the key among them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a thing there may be."""

    cpu_ms: int = 30_000
    """CPU time of one event, in milliseconds. Cloudflare's limit; here it may exceed 300,000."""
    mailbox: int = 10_000
    """Events that may wait for one object."""
    value_bytes: int = 64 * 1024 * 1024
    """Size of one stored value of an object."""
    request_body: int = 100 * 1024 * 1024
    """Bytes of an HTTP request's body."""
    min_kv_ttl: int = 60
    """Shortest time to live of a KV entry, in seconds; Cloudflare's is 60."""
    idle_s: float = 10.0
    """Seconds without an event after which an object leaves memory."""
    grace_s: float = 30.0
    """Seconds that running events get to finish when a host stops."""
    history_days: int = 30
    """For how long an object with SQL can go back to what it was; 0 keeps no history."""
    kv_cache_bytes: int = 256 * 1024 * 1024
    """Shared memory that caches KV, of the instance with all its namespaces; 0 is none."""


class Settings(TypedDict, total=False):
    """Settings as keyword arguments of `Runtime`; what is left out or None has its default."""

    hosts: int | None
    balance: bool | None
    gateways: int | None
    durability: Durability | None
    slots: int | None
    preload: Sequence[str] | None
    ip: str | None
    port: int | None
    cpu_ms: int | None
    mailbox: int | None
    value_bytes: int | None
    request_body: int | None
    min_kv_ttl: int | None
    history_days: int | None
    kv_cache_bytes: int | None
    idle_s: float | None
    grace_s: float | None
    websockets: Mapping[str, object] | None


def read_ip(table: Table) -> str:
    """The address to listen at; loopback unless another is asked for."""
    if "ip" not in table:
        return "127.0.0.1"
    ip = table.text("ip", "an IP address or 'localhost'", _is_ip)
    return {"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(ip, ip)  # noqa: S104


def read_port(table: Table) -> int:
    """The port to listen at; 0 lets the system choose."""
    return table.integer("port", 8787, 0, 65_535)


def read_hosts(table: Table) -> int | None:
    """The number of hosts: no more than slots, where both are given."""
    hosts = table.integer("hosts", None, 1)
    slots = read_slots(table)
    if hosts is not None and slots is not None and hosts > slots:
        raise table.expected("hosts", f"at most one host a slot ({slots})")
    return hosts


def read_slots(table: Table) -> int | None:
    """The number of slots of a new data directory."""
    slots = table.integer("slots", None, 1, _MOST_SLOTS)
    if slots is not None and slots.bit_count() != 1:
        raise table.expected("slots", "a power of two")
    return slots


def read_durability(table: Table) -> Durability:
    """How much a confirmed write survives."""
    if "durability" not in table:
        return "strict"
    what = "'strict' or 'relaxed'"
    return cast("Durability", table.text("durability", what, ("strict", "relaxed").__contains__))


def read_preload(table: Table) -> tuple[str, ...]:
    """The modules to import before hosts are forked."""
    return table.texts("preload", "the name of a module", _is_module)


def read_limits(roost: Table, limits: Table) -> Limits:
    """All limits; `limits` is the table that holds Cloudflare's `cpu_ms`."""
    defaults = Limits()
    return Limits(
        cpu_ms=limits.integer("cpu_ms", defaults.cpu_ms, 1),
        mailbox=roost.integer("mailbox", defaults.mailbox, 1),
        value_bytes=roost.integer("value_bytes", defaults.value_bytes, 1, _MOST_VALUE_BYTES),
        request_body=roost.integer("request_body", defaults.request_body, 0),
        min_kv_ttl=roost.integer("min_kv_ttl", defaults.min_kv_ttl, 1),
        history_days=roost.integer("history_days", defaults.history_days, 0),
        kv_cache_bytes=roost.integer("kv_cache_bytes", defaults.kv_cache_bytes, 0),
        idle_s=roost.seconds("idle_s", defaults.idle_s),
        grace_s=roost.seconds("grace_s", defaults.grace_s),
    )


def _is_ip(text: str) -> bool:
    try:
        return text in {"localhost", "*"} or bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _is_module(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
