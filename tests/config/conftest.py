"""A project folder whose configuration a test writes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.config import Config, load

ROOMS = """
name = "rooms"
main = "src/worker.py"
kv_namespaces = [{ binding = "SETTINGS", id = "settings" }]
[durable_objects]
bindings = [{ name = "ROOMS", class_name = "Room" }]
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""

Load = Callable[..., Config]


@pytest.fixture
def rooms() -> str:
    return ROOMS


@pytest.fixture
def toml(tmp_path: Path) -> Load:
    """Load a text as wrangler.toml, in an environment if one is named."""

    def load_text(text: str, env: str | None = None) -> Config:
        path = tmp_path / "wrangler.toml"
        path.write_text(text)
        return load(path, env)

    return load_text
