"""Cut a stream of events into sessions: a gap of half an hour ends one.

`python -m examples.cookbook.sessions [EVENTS]`. A user's object keeps the session that is open, and
returns the one that an event has closed.
"""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING, Any

from runtime import Runtime
from workers import DurableObject

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP = 30 * 60
"""Seconds."""
USERS = 20
VISIT = 25
"""Events of a user, a minute apart, before it is away for an hour."""


class User(DurableObject):
    """One user's events, in their order."""

    async def event(self, event: dict[str, Any]) -> dict[str, int] | None:
        """Take the next event; return the session before, if this one begins another."""
        session = await self.ctx.storage.get("open")
        closed = None
        if session is not None and event["at"] - session["last"] > GAP:
            closed, session = session, None
        if session is None:
            session = {"first": event["at"], "last": 0, "events": 0}
        session["last"] = event["at"]
        session["events"] += 1
        await self.ctx.storage.put("open", session)
        return closed


def events(count: int) -> Iterator[dict[str, Any]]:
    """Make up the events of all users, as they come in."""
    for number in range(count):
        turn, user = divmod(number, USERS)
        away = turn // VISIT * 3600
        yield {"user": f"u{user}", "at": turn * 60 + away}


def main(count: int = 20_000) -> None:
    """Print the sessions that were closed."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"USERS": User}, data_dir=data, hosts=2) as rt,
    ):
        results = rt.env.USERS.map("event", events(count), key="user")
        closed = [session for _, session in results if session is not None]
    longest = max(session["last"] - session["first"] for session in closed)
    print(f"{len(closed)} sessions were closed, the longest after {longest // 60} minutes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
