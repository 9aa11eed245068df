"""Promises that hold while hosts die: see `storm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .storm import storm

if TYPE_CHECKING:
    from pathlib import Path


async def test_no_socket_order_or_acknowledged_message_is_lost_while_hosts_are_killed(
    tmp_path: Path,
) -> None:
    found = await storm(tmp_path, clients=60, rooms=6, kills=8, pause=0.1, hosts=3)
    assert found["acknowledged"] >= 60
