"""The event that is running now: the one thread by which module-level names reach the engine.

`env`, `wait_until` and `fetch` are imported at a script's top level, yet act for whichever event
runs. The engine sets `current_event` around each event (a context variable, so that interleaved
events and the tasks they start never see each other's), and sets the default env once per process,
for code that runs outside of any event. This module owns both and knows nothing of who sets them.
"""

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Event", "current_event", "default_env", "set_default_env"]


class Event(Protocol):
    """What the engine lets module-level functions ask of the running event."""

    @property
    def env(self) -> Any:
        """The bindings of the worker that the event belongs to."""

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Keep the event alive until `awaitable` is done; its result is dropped, errors logged."""

    def confirm(self) -> Awaitable[None] | None:
        """Cloudflare's output gate: what to await before anything leaves the object.

        None when no write is unconfirmed. Otherwise an awaitable that ends when every storage write
        made before this call is durable, and that raises when one of them failed.
        """


current_event: ContextVar[Event | None] = ContextVar("current_event", default=None)

_default_env: Any = None


def set_default_env(env: Any) -> None:
    """Set the env that is seen outside of events, such as at a script's top level."""
    global _default_env  # noqa: PLW0603 - one per process, owned by this module
    _default_env = env


def default_env() -> Any:
    """The env that is seen outside of events, or None when none was set."""
    return _default_env
