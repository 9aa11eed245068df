"""What a process has said to others that are dead never keeps it from ending."""

import zmq

from runtime.wire.context import LINGER_MS, open_context


def test_every_socket_has_a_finite_linger_from_its_making_on():
    context = open_context()
    for kind in (zmq.DEALER, zmq.ROUTER):
        with context.socket(kind) as socket:
            assert socket.getsockopt(zmq.LINGER) == LINGER_MS
    context.term()
