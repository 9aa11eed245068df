"""The objects of the storage benchmark."""

from __future__ import annotations

from typing import Any

from workers import DurableObject


class Durable(DurableObject):
    """Counts in storage, the way everybody writes it."""

    async def increment(self, by: int) -> int:
        """Add and return the total."""
        total: int = (await self.ctx.storage.get("total") or 0) + by
        await self.ctx.storage.put("total", total)
        return total

    async def peek(self) -> int:
        """Return the total."""
        total: int = await self.ctx.storage.get("total") or 0
        return total


class Table(DurableObject):
    """Keeps rows with SQL."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS rows(id INTEGER PRIMARY KEY, n INTEGER)")

    def insert_and_select(self, n: int) -> int:
        """Insert a row, and read it."""
        sql = self.ctx.storage.sql
        sql.exec("INSERT INTO rows(n) VALUES (?)", n)
        found: int = sql.exec("SELECT n FROM rows ORDER BY id DESC LIMIT 1").one()["n"]
        return found
