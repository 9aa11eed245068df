"""A leaderboard that is written all the time and read by everybody: an alarm publishes it now and then.

`python -m examples.cookbook.leaderboard [SCORES]`. Each game is an object that keeps its players' best
scores. The first new score sets an alarm; when it rings, the best ten go to Workers KV, where a read
takes a microsecond and asks no object. So a thousand scores cost one publication.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from runtime import Runtime
from workers import DurableObject

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISH_MS = 100
"""How old a published board may be."""
TOP = 10
GAMES, PLAYERS = 4, 500


class Board(DurableObject):
    """The scores of one game."""

    async def score(self, played: dict[str, Any]) -> None:
        """Take a score; the player's best counts."""
        storage = self.ctx.storage
        count = await storage.get("count") or 0
        key = f"best:{played['player']}"
        best = max(played["points"], await storage.get(key) or 0)
        await storage.put({"count": count + 1, key: best})
        if await storage.getAlarm() is None:
            await storage.setAlarm(time.time() * 1000 + PUBLISH_MS)

    async def alarm(self) -> None:
        """Publish the best. Should the host die in it, it rings again."""
        bests = await self.ctx.storage.list(prefix="best:")
        ranked = sorted(bests.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP]
        top = [[key.removeprefix("best:"), points] for key, points in ranked]
        board = {"scores": await self.ctx.storage.get("count"), "top": top}
        await self.env.BOARDS.put(self.ctx.id.name, json.dumps(board))


def scores(count: int) -> Iterator[dict[str, Any]]:
    """Make up games that were played."""
    dice = random.Random(1)
    for number in range(count):
        player = f"p{dice.randrange(PLAYERS)}"
        yield {"game": f"g{number % GAMES}", "player": player, "points": dice.randrange(1_000_000)}


def main(count: int = 20_000) -> None:
    """Take all scores, and print who leads when all of them are published."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"GAMES": Board}, kv=["BOARDS"], data_dir=data, hosts=2) as rt,
    ):
        for _ in rt.env.GAMES.map("score", scores(count), key="game"):
            pass
        while True:
            boards = [rt.env.BOARDS.get(f"g{n}", "json") or {"scores": 0} for n in range(GAMES)]
            if sum(board["scores"] for board in boards) == count:
                break
            time.sleep(PUBLISH_MS / 1000)
    for number, board in enumerate(boards):
        player, points = board["top"][0]
        print(f"g{number}: {player} leads with {points} points, after {board['scores']} scores")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
