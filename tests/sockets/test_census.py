"""The table that tells a host whether an object may have sockets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.wire.sockets import Census, census_path, gateway_number, gateways_of

if TYPE_CHECKING:
    from pathlib import Path


def test_readers_see_what_the_gateway_counts_and_its_successor_begins_anew(tmp_path: Path) -> None:
    path = census_path(tmp_path, 3)
    gateway = Census.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(gateways_of(tmp_path)) == [3]
    host = Census.open(path)
    one, other = (bytes(8) + bytes([1, n]) + os.urandom(22) for n in (0, 1))
    gateway.add(one, 1)
    gateway.add(one, 1)
    assert (host.count(one), host.count(other)) == (2, 0)
    gateway.add(one, -1)
    assert host.count(one) == 1
    Census.create(path)
    assert host.count(one) == 0, "it is the same file, so who has mapped it sees the new one"


def test_only_gateways_have_a_gateways_number() -> None:
    assert gateway_number(b"g12-00ff") == 12
    assert gateway_number(b"h12-00ff") is None
