"""A worker whose history of classes a test writes, and the instance that runs it."""

from pathlib import Path

import pytest

from runtime import Runtime

CLASSES = ("Chat", "Room", "Hall", "Other")

SCRIPT = """
from workers import DurableObject

class Base(DurableObject):
    async def put(self, value):
        await self.ctx.storage.put("value", value)

    async def get(self):
        return type(self).__name__, await self.ctx.storage.get("value")

    async def put_sql(self, value):
        await self.put(value)
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t(value)")
        self.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", value)

    def get_sql(self):
        return self.ctx.storage.sql.exec("SELECT value FROM t").one().value

    async def wake_at(self, when):
        await self.ctx.storage.setAlarm(when)

    async def wakes_at(self):
        return await self.ctx.storage.getAlarm()

    async def alarm(self):
        await self.ctx.storage.put("value", "rang")
"""


class Worker:
    """A worker's folder and data directory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / ".roost"
        classes = "".join(f"\nclass {name}(Base):\n    pass\n" for name in CLASSES)
        (folder / "worker.py").write_text(SCRIPT + classes)

    def bind(self, bound: str, *steps: str) -> Path:
        """Write the config: classes that are bound, each by its own name, and the migrations."""
        bindings = ", ".join(f"{{name='{name}', class_name='{name}'}}" for name in bound.split())
        tables = "".join(
            f"[[migrations]]\ntag = 'v{number}'\n{step}\n" for number, step in enumerate(steps, 1)
        )
        head = "name = 'w'\nmain = 'worker.py'\n"
        config = self.folder / "wrangler.toml"
        config.write_text(f"{head}durable_objects.bindings = [{bindings}]\n{tables}")
        return config

    def run(self, bound: str, *steps: str) -> Runtime:
        """Start an instance with these classes and migrations."""
        return Runtime(self.bind(bound, *steps), hosts=1)


@pytest.fixture
def worker(tmp_path):
    return Worker(tmp_path)
