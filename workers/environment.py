"""`env`, `wait_until` and `patch_env` at module level: the bindings without an instance at hand.

`from workers import env` gives one object for good, which looks a binding up when it is read: first
in what `patch_env` overrides, then in the running event's env, then in the worker's. It can
therefore be imported at a script's top level. Overrides live in a context variable, so that one
test's never reach another's.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from workers.current import current_event, default_env

__all__ = ["Environment", "env", "missing_binding", "patch_env", "wait_until"]

_overrides: ContextVar[Mapping[str, Any]] = ContextVar("overrides", default=MappingProxyType({}))


class Environment:
    """The worker's bindings as attributes.

    Reading a binding that is not declared raises AttributeError with how to declare it; bindings
    cannot be set, see `patch_env`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        overrides = _overrides.get()
        if name in overrides:
            return overrides[name]
        current = _current_env()
        try:
            return getattr(current, name)
        except AttributeError:
            if name.startswith("__"):  # Python asks for these itself, for example when copying
                raise
        if current is None:
            raise AttributeError(
                f"env.{name} was read outside of a running worker. In a test, give it a value with "
                f"`with patch_env({name}=...):`"
            )
        raise missing_binding(name, dir(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"env.{name} cannot be set: bindings are declared in wrangler.toml. "
            f"In a test, use `with patch_env({name}=...):`"
        )

    def __dir__(self) -> list[str]:
        names = {name for name in dir(_current_env()) if not name.startswith("_")}
        return sorted(names | _overrides.get().keys())

    def __repr__(self) -> str:
        return f"env({', '.join(dir(self))})"

    def __reduce__(self) -> str:
        return "env"  # the one of the process that reads it


env = Environment()


def _current_env() -> Any:
    event = current_event.get()
    return default_env() if event is None else event.env


def missing_binding(name: str, declared: Iterable[str]) -> AttributeError:
    """The error for a binding that the configuration does not declare; the engine raises it too."""
    known = ", ".join(declared) or "none"
    return AttributeError(
        f"env has no binding {name!r} (it has: {known}). Declare it in wrangler.toml, "
        f'for a KV namespace as `kv_namespaces = [{{ binding = "{name}", id = "..." }}]`, '
        f"for a Durable Object class under [durable_objects] as "
        f'`bindings = [{{ name = "{name}", class_name = "..." }}]`, '
        f'or for a plain value under [vars] as `{name} = "..."`.',
        name=name,
    )


def wait_until(awaitable: Awaitable[object]) -> None:
    """Let `awaitable` run on after the current event has answered.

    Its result is dropped; what it raises is logged. Raises RuntimeError outside of an event.
    """
    event = current_event.get()
    if event is None:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # a coroutine that never runs would warn besides
        raise RuntimeError(
            "wait_until() was called outside of an event: there is nothing to extend"
        )
    event.wait_until(awaitable)


@contextmanager
def patch_env(
    d: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, **bindings: Any
) -> Iterator[None]:
    """Give bindings of `workers.env` other values within a `with` block, for tests.

    Blocks nest. Only the code that runs within the block, and the tasks it starts, see the values;
    `self.env` of an object stays as it is.
    """
    token = _overrides.set({**_overrides.get(), **dict(d or {}), **bindings})
    try:
        yield
    finally:
        _overrides.reset(token)
