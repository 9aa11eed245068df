"""Whose calls a stub makes that came with a call's arguments, with its result, or out of storage.

A stub travels as the class and id of its object. Where it arrives, its calls are those of the event
that makes them, so that they wait for that object's writes as all it says does; outside of events, in a
program, those of the one open runtime that has such objects. Found at each call: a stub that was not
sent never comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from workers.current import current_event, default_env
from workers.errors import InvalidId

if TYPE_CHECKING:
    from runtime.wire.messages import Target
    from workers import Request

programs: WeakSet[Any] = WeakSet()
"""The `env` of every open runtime of this process."""


class Whoever:
    """The `Calls` of whoever makes them.

    Raises InvalidId when nobody here has such objects, RuntimeError when several runtimes have.
    """

    def call(self, target: Target | None, *call: Any) -> Any:
        """Call a method: the result, or an awaitable of it."""
        return _calls_of(target).call(target, *call)

    def submit(self, target: Target | None, *call: Any) -> Any:
        """Call a method without waiting: a future of the result."""
        return _calls_of(target).submit(target, *call)

    def fetch(self, target: Target | None, request: Request) -> Any:
        """Send an HTTP request: the response, or an awaitable of it."""
        return _calls_of(target).fetch(target, request)

    def way_to(self, _target: Target) -> Self:
        """Return what makes the calls of an object: this, because others may make the next."""
        return self


def _calls_of(target: Target | None) -> Any:
    assert target is not None  # a stub is of an object
    event = current_event.get()
    env = default_env() if event is None else event.env
    envs = list(programs) if env is None else [env]
    found = [calls for each in envs if (calls := each._calls_to(target)) is not None]  # noqa: SLF001
    if not found:
        raise InvalidId(
            f"this stub is of an object of {target[0]} ({target[1].hex()}) that does not belong to the "
            "worker here: only stubs of its own namespaces can be used"
        )
    if len(found) > 1:
        raise RuntimeError(
            f"several open runtimes have objects of {target[0]}: say which one's this stub is, with "
            "rt.env.NAME.get(stub.id)"
        )
    return found[0]
