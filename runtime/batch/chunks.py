"""Functions of several arguments over chunks of items, as an Executor's `map` wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def apply_all(function: Callable[..., Any], chunk: list[Any]) -> list[Any]:
    """Call a function with each of several tuples of arguments."""
    return [function(*args) for args in chunk]
