"""What travels between processes: batches of small tuples, each led by its kind.

A batch is one ZeroMQ message: the pickled list of its tuples (on its way to a host objects and methods
may be numbers in the pickle: see `numbers`), then the large buffers that its
packed values refer to, a frame each, in order. Plain tuples and not dataclasses, because a call
is decoded in a microsecond or not at all: building a dataclass a message costs as much as the
whole decoding of its batch (0.25 against 0.21 µs a message, measured at 64 a batch).

Callers speak through a DEALER to the ROUTER of a host. Only processes that can open the run
directory (0700) can connect at all, which is why both sides may unpickle.

| kind | fields after it | from | meaning |
|---|---|---|---|
| HELLO | version | caller | the first message of every connection |
| WELCOME | 0 | host | the first message back; without it nothing of the connection was heard |
| CALL | call, target, method, args, kwargs or None | caller | plain arguments, as they are |
| CALL_PACKED | call, target, method, data, buffers | caller | pickled (args, kwargs) |
| FETCH | call, target, method, url, headers, body | caller | an HTTP request for fetch() |
| RUN | call, target, method, data, buffers | caller | a pickled Run: several items, see `runs` |
| TIMED | call, target, method, envelope, buffers | caller | a CALL or CALL_PACKED that tells where its time goes, see `timed` |
| OBJECTS | call, slot, limit, class name or None | caller | which objects of a slot have storage |
| TEND | call, slot, verb, arguments | caller | look after objects: see `runtime.host.tending` |
| CANCEL | call | caller | nobody waits for this call any more |
| RESULT | call, value | host | a plain result |
| RESULT_PACKED | call, data, buffers | host | a pickled result |
| RESPONSE | call, status, status_text, headers, body | host | what fetch() answered |
| ERROR | call, packed error | host | the call failed |
| TIMES | call, queue, run, commit | host | where the time of a TIMED has gone, in ns; its answer follows |
| ITEMS | call, stream | host | the method is a generator; its items are the stream's |
| REFUSED | call | host | not started, because the host is leaving: send it to the next one |
| MOVED | call | host | not started, because the object's slot leaves the host, or has: see `parked` |
| FENCE | call, slot | caller | answered when the host knows whose the slot is; it refuses no call after this for one before |
| GOODBYE | | host | the last message of a connection |
| PULL | stream, bytes | reader | the writer of the stream may send so many bytes more |
| CHUNK | stream, bytes | writer | a piece of a body |
| END | stream, packed error or None | writer | the body is complete, or broke |
| STOP | stream | reader | the reader wants no more |
| LEAVE | | caller | the last message of a connection |

WebSockets are kept by gateways; a number names a socket within its gateway (`runtime.wire.sockets`):

| kind | fields after it | from | meaning |
|---|---|---|---|
| UPGRADE | as RESPONSE, then an offer | host | what fetch() answered: a WebSocket |
| SAID | call, target, handler, socket, arguments | gateway | what happened to a socket |
| ATTACH | call, target, "upgrade", pair, socket or None, package | gateway | the offered pair is this socket; None: is nobody's |
| ASK | id | host | which sockets does an object have; a word that is no id: is all heard that came before this |
| ADOPT | id, sockets, automatic answer | gateway | these |
| SEND | sockets, message | host | a message for sockets |
| SHUT | socket, code or None, reason | host | close a socket |
| KEEP | socket, attachment | host | keep its attachment |
| AUTO | target, automatic answer or None | host | answer a message without the object |
| NEWS | id, list of (socket, ms or None, count) | gateway | when one was last so answered, and how many it has missed |

`target` is `(class name, id, name or None)`, or None for the worker's entrypoint; of a RUN without
target, `method` is the digest of a function. A body is None,
bytes, or the number of a stream, which its writer chooses.
"""

from __future__ import annotations

from typing import Any, TypeAlias

VERSION = 4
"""Peers of different versions refuse each other."""

HELLO = 0
CALL = 1
CALL_PACKED = 2
FETCH = 3
CANCEL = 4
RESULT = 5
RESULT_PACKED = 6
RESPONSE = 7
ERROR = 8
REFUSED = 9
GOODBYE = 10
PULL = 11
CHUNK = 12
END = 13
STOP = 14
OBJECTS = 15
WELCOME = 16
MOVED = 17
FENCE = 18
RUN = 20
ITEMS = 40
LEAVE = 41
TEND = 42
TIMED = 43
TIMES = 44

UPGRADE = 30
SAID = 31
ATTACH = 32
ASK = 33
ADOPT = 34
SEND = 35
SHUT = 36
KEEP = 37
AUTO = 38
NEWS = 39

SOCKETS = frozenset({ASK, SEND, SHUT, KEEP, AUTO})
"""What a host says to a gateway about its sockets."""

CALLS = frozenset({CALL, CALL_PACKED, FETCH, OBJECTS, TEND, RUN, TIMED, SAID, ATTACH, FENCE})
"""What a host answers, once, by the number of the call."""

OF_SLOTS = frozenset({OBJECTS, TEND, FENCE})
"""Calls of a slot, and of no object."""

PACKED = frozenset({CALL_PACKED, RUN, TIMED})
"""Calls whose arguments are pickled: data, and how many large buffers belong to it."""

Target: TypeAlias = tuple[str, bytes, str | None]
"""Class name, id and name of an object; one tuple a stub, so that a batch holds it once."""

Message: TypeAlias = tuple[Any, ...]
Batch: TypeAlias = list[Message]
