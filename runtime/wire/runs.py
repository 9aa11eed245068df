"""Runs: several items for one object, or for one function, in a single call.

The items of a key have to be applied one after another, and a call for each would wait for a round
trip and a disk sync each time. A run takes all that wait at once: the host applies them in order,
commits them together and answers together.

Items may carry ids. An item whose effects were committed is not applied again when its run is sent
again; the object returns the result that it stored (see runtime/host/ledger.py).
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from runtime.wire.codec import PLAIN, Ready, pack
from runtime.wire.messages import RESULT_PACKED, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ItemId: TypeAlias = int | str | bytes
"""What tells an item from the others of its job."""

GIVEN: Final = ""
"""The job of items whose ids the caller chose; those of all callers are one set an object."""

PASSING: Final = "~"
"""Begins the names of jobs that have no checkpoint: nobody can take them up again."""

EACH: Final = 0
"""Each item is the argument of a call of its own."""
TOGETHER: Final = 1
"""The list of all items is the argument of one call."""
ALONE: Final = 2
"""The one item is (args, kwargs); what the method returns or raises is the answer of the call."""


FUNCTIONS: Final = "functions"
"""Where in the run directory callers store functions, each under the hash of its pickle."""


class Run(NamedTuple):
    """What a RUN message carries, pickled."""

    mode: int
    items: Sequence[Any]
    ids: Sequence[ItemId] | None = None
    """An id an item; None when the object need not remember them."""
    job: str = GIVEN
    """To what the ids belong."""
    answered: int = 0
    """Items of a job that is counted below this one will never be sent again."""
    timeout: float | None = None
    """Seconds that the call of an item may wait."""


class RunReply(NamedTuple):
    """How a run ended, a value and perhaps an error a call, in order."""

    values: list[Any]
    """None where the call failed. Shorter than the calls when one failed with a retryable error:
    those after it did not start."""
    errors: Mapping[int, bytes]
    """Packed errors by position in `values`."""
    groups: list[tuple[int, ...]] | None
    """Of TOGETHER: which items a value is of, by their position in the run."""
    seconds: float
    """How long it took at the host."""


def pack_reply(reply: RunReply) -> Any:
    """Return the reply of a run, packed as a call's result. Raises TypeError for what cannot be sent."""
    if PLAIN.issuperset(map(type, reply.values)):
        return pickle.dumps(tuple(reply), 5)
    return Ready((RESULT_PACKED, *pack(tuple(reply))))


def unpack_reply(result: Any) -> RunReply:
    """Return the reply that is a call's result."""
    return RunReply(*(pickle.loads(result) if type(result) is bytes else result))


def ready(run: Run) -> Ready:
    """Pack a run, as it is now. Raises TypeError when an item cannot be sent."""
    if PLAIN.issuperset(map(type, run.items)):
        return Ready((RUN, pickle.dumps(tuple(run), 5), []))  # 1 µs, and cloudpickle takes 8
    return Ready((RUN, *pack(tuple(run))))
