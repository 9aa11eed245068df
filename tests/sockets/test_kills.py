"""Promises that hold while hosts are killed and objects evicted: see `storm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .storm import storm

if TYPE_CHECKING:
    from pathlib import Path


async def test_no_socket_order_or_acknowledged_message_is_lost_under_kills_and_evictions(
    tmp_path: Path,
) -> None:
    found = await storm(tmp_path, clients=100, blows=12, pause=0.02, hosts=2)
    assert found["acknowledged"] >= 200
