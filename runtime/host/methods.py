"""Which attributes of an instance callers may call, and how."""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from workers.errors import RoostError

if TYPE_CHECKING:
    from collections.abc import Callable


def relaxed(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Let `fetch(self)` and `alarm(self)` be called with what they leave out, as the original does."""
    function = getattr(handler, "__func__", None)
    if function is not None and _takes_only_self(function):
        return lambda *_: handler()
    return handler


@lru_cache(maxsize=256)
def _takes_only_self(function: Callable[..., Any]) -> bool:
    """Whether a method has no parameter beside `self`. Looked up once: it takes 10 µs."""
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in parameters) == 1


def check_method(cls: type, name: str) -> None:
    """Check that callers may call a method of a class. Raises what they get when they may not.

    Names with two underscores in front are Python's or the class' own; attributes of `type` and of
    instances are no methods.
    """
    known = not name.startswith("__") and (
        name in cls.__dict__ or any(name in base.__dict__ for base in cls.__mro__)
    )
    found = getattr(cls, name, None) if known else None
    if name == "fetch" and found is None:
        raise RoostError("Handler does not export a fetch() function.")
    if not callable(found):
        raise TypeError(f'The RPC receiver does not implement the method "{name}".')


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a method is an `async def`: calling it runs nothing of it."""
    if type(function) is not MethodType or type(function.__func__) is not FunctionType:
        return False
    return bool(function.__func__.__code__.co_flags & inspect.CO_COROUTINE)
