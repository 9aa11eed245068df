"""The base class of Durable Objects.

An object is a class with state: one instance for each id, alive in one process at a time. Its public
methods are its RPC methods; `fetch`, `alarm`, `webSocketMessage`, `webSocketClose` and
`webSocketError` are called by the engine when they exist. The base class holds the two things
that the engine gives, and nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.bindings import DurableObjectContext

__all__ = ["DurableObject"]


class DurableObject:
    """A Durable Object: subclass it, and bind the class in wrangler.toml.

    A subclass that has a constructor takes `(ctx, env)` and passes them on. The constructor runs
    whenever the object wakes, and no event is delivered before it has ended.
    """

    ctx: "DurableObjectContext"
    """The object's id, storage, gates and WebSockets."""

    env: Any
    """The worker's bindings, such as `self.env.SETTINGS`."""

    def __init__(self, ctx: "DurableObjectContext", env: Any) -> None:
        self.ctx = ctx
        self.env = env
