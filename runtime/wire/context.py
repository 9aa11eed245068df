"""The ZeroMQ context of a process.

A session whose peer has died is closed with the linger that its socket has at that moment. If that is
still ZeroMQ's default, for ever, as on a socket that is told its own only by `close()`, a message to
the dead peer keeps the context, and so the process, from ending (zeromq/libzmq#3252). So all sockets
are made with a finite one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from typing import TypeAlias

    Context: TypeAlias = zmq.Context[zmq.Socket[bytes]]

LINGER_MS = 200
"""Milliseconds that a closed socket keeps what it has not sent; a peer that lives takes it at once."""


def open_context() -> Context:
    """Return a context whose sockets never keep it from ending."""
    context: Context = zmq.Context()
    context.setsockopt(zmq.LINGER, LINGER_MS)
    return context
