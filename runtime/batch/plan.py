"""What a map was asked to do, checked before anything is read or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.wire.runs import ItemId

IN_FLIGHT: Final = 10_000
"""Items that are read and not yet yielded, at most, unless another number is given."""

RETRIES: Final = 5
"""How often an item is sent again, unless another number is given."""

OnError: TypeAlias = "str | Callable[..., object]"


@dataclass(frozen=True, slots=True)
class Plan:
    """See `DurableObjectNamespace.map` for what the fields mean."""

    method: str
    key: Callable[[Any], Any] | None = None
    """None: the items are (key, item) already."""
    item_id: Callable[[Any], ItemId] | None = None
    batch: int = 1
    ordered: bool = False
    in_flight: int = IN_FLIGHT
    errors: OnError = "raise"
    retries: int = RETRIES
    timeout: float | None = None
    progress: bool = False
    checkpoint: str | None = None
    title: str = ""
    """What people know the method by; its name, unless it is a function."""
    shared: int = 0
    """Not objects but a stateless function: so many runs at a time, whatever the keys."""

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise TypeError(
                f"the method of map() is the name of one, not {type(self.method).__name__}"
            )
        if not (self.errors in {"raise", "collect"} if isinstance(self.errors, str) else True):
            raise ValueError(
                f'errors= of map() is "raise", "collect" or a callable, not {self.errors!r}'
            )
        if not isinstance(self.errors, str) and not callable(self.errors):
            raise TypeError('errors= of map() is "raise", "collect" or a callable')
        for name, least in (("batch", 1), ("in_flight", 1), ("retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}= of map() is an integer from {least}, not {value!r}")
        if self.timeout is not None and not (
            isinstance(self.timeout, int | float) and self.timeout > 0
        ):
            raise ValueError(f"timeout= of map() is a number of seconds, not {self.timeout!r}")
        if self.checkpoint is not None and not isinstance(self.checkpoint, str):
            raise TypeError(f"checkpoint= of map() is a name, not {type(self.checkpoint).__name__}")
        if self.item_id is not None and not callable(self.item_id):
            raise TypeError("item_id= of map() is a function that returns the id of an item")
