"""What an instance is to run, as those who ask for it and those who do it pass it on.

Records only: a program that embeds an instance makes them without loading the engine, which runs in
processes of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.config import Config


@dataclass(frozen=True, slots=True)
class Worker:
    """What a host runs."""

    config: Config
    classes: bytes | None
    """Pickled classes of an embedding program; None when the script's file is to be loaded."""
    path: tuple[str, ...]
    """Where the embedding program imports modules from."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What an embedding program asks for."""

    worker: Worker
    data: Path
    hosts: int
    log_level: str
