"""The base class of a worker's stateless entrypoints.

The subclass named `Default` answers the worker's HTTP requests (`fetch`), crons (`scheduled`) and
queues (`queue`); others are reached by name through service bindings. An instance lives for one
event, so that state kept on it is lost: state belongs in a Durable Object or in KV.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.bindings import Context

__all__ = ["WorkerEntrypoint"]


class WorkerEntrypoint:
    """A worker's entrypoint: subclass it as `Default`, with an async or plain `fetch(request)`.

    Its public methods can be called through service bindings.
    """

    ctx: "Context"
    """The event's context: `self.ctx.waitUntil(awaitable)`."""

    env: Any
    """The worker's bindings, such as `self.env.ROOMS`."""

    def __init__(self, ctx: "Context", env: Any) -> None:
        self.ctx = ctx
        self.env = env
