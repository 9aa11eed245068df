"""Find texts that are nearly the same, with MinHash, without comparing all with all.

`python -m examples.cookbook.near_duplicates [TEXTS]`. A text is cut into overlapping triples of words and
gets a signature, the smallest of 16 hashes of them, in 4 bands of 4. Texts that share a band meet in the
object of that band.
"""

from __future__ import annotations

import random
import sys
import tempfile
from typing import TypeAlias
from zlib import crc32

from runtime import Runtime
from workers import DurableObject

ROWS, BANDS = 4, 4
WORDS = 40
COPIED = 10
"""Every 10th text is a copy of one before it, with another last word."""

Text: TypeAlias = "tuple[int, str]"
"""A number and the words."""


def signature(text: str) -> list[int]:
    """Return the smallest of each hash; two texts agree in as many as they have triples in common."""
    words = text.split()
    triples = {" ".join(words[n : n + 3]).encode() for n in range(max(1, len(words) - 2))}
    return [min(crc32(triple, seed) for triple in triples) for seed in range(ROWS * BANDS)]


def bands(text: Text) -> list[tuple[str, int]]:
    """Return the blocks that a text belongs to, with its number."""
    number, words = text
    whole = signature(words)
    return [(f"{band}:{whole[band * ROWS :][:ROWS]}", number) for band in range(BANDS)]


class Block(DurableObject):
    """The texts that share a band: it keeps what it has seen, so more can come any day."""

    async def meet(self, item: tuple[str, int]) -> list[tuple[int, int]]:
        """Take a text; return the pairs that it makes with those before."""
        _, number = item
        seen = await self.ctx.storage.get("seen") or []
        await self.ctx.storage.put("seen", [*seen, number])
        return [(min(other, number), max(other, number)) for other in seen]


def texts(count: int) -> list[Text]:
    """Make up texts, some of them copies."""
    dice = random.Random(1)
    made: list[str] = []
    for number in range(count):
        words = [f"w{dice.randrange(1000)}" for _ in range(WORDS)]
        if number % COPIED == COPIED - 1:
            words = [*made[number - dice.randrange(1, COPIED)].split()[:-1], "copied"]
        made.append(" ".join(words))
    return list(enumerate(made))


def main(count: int = 2_000) -> None:
    """Find the copies."""
    with (
        tempfile.TemporaryDirectory() as data,
        Runtime(objects={"BLOCKS": Block}, data_dir=data, hosts=2) as rt,
    ):
        placed = (item for items in rt.run(bands, texts(count)) for item in items)
        met = rt.env.BLOCKS.map("meet", placed, key=lambda item: item[0])
        found = {pair for _, pairs in met for pair in pairs}
    print(f"{len(found)} of {count // COPIED} copies were found, the first of text {min(found)[0]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
