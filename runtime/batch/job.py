"""One map under way: the pump, the input it is fed from, its checkpoint and its progress.

What both shells share. They call `read_some` or `feed`, send `pump.flights()`, hand in the answers,
and call `turn` in between; at the end, whichever it is, `close`.
"""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from runtime.batch.checkpoint import EVERY, Checkpoint, Purpose
from runtime.batch.pump import Pump
from runtime.batch.source import check_item_id, pieces, read, read_any, total
from runtime.wire.runs import PASSING
from workers.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator

    from runtime.batch.place import Place
    from runtime.batch.plan import Plan
    from runtime.batch.progress import Progress
    from runtime.batch.source import Key
    from runtime.wire.messages import Target

PORTION: Final = 1024
PORTION_SECONDS: Final = 0.005
"""Items read, and time spent on that, before answers and results have their turn."""

SLOW_SECONDS: Final = 0.01
"""A portion that took longer had to wait for one of its items."""

STARVED_SECONDS: Final = 0.02
"""How often to look at an input that has nothing now."""

UNSAVED: Final = 256
"""Items with chosen ids that are read and not yielded, and those yielded before a checkpoint is saved.
A rerun sends all of them again, and an object remembers no more than 1,024 chosen ids."""

TARGETS: Final = 65_536
"""Addresses of objects that are remembered."""


def _progress(plan: Plan, place: Place, items: Any) -> Progress | None:
    from runtime.batch.progress import Progress, shows  # noqa: PLC0415  (30 ms for what few maps show)

    return Progress(plan, place.roster, total(items)) if shows() else None


class Job:
    """See the module's text."""

    def __init__(
        self,
        plan: Plan,
        items: Any,
        key: Key | None,
        class_name: str,
        target_of: Callable[[Any], Target | None],
        place: Place,
    ) -> None:
        self.items: Iterator[Any] | AsyncIterable[Any]
        self._key_of: Callable[[Any], Any] | None
        if key is None:  # no objects, no keys
            self.items, self._key_of = read_any(items), _no_key
        else:
            self.items, self._key_of = read(items, key, plan.batch)
        self._key = key
        self._unseen = isinstance(key, str) and self._key_of is not None
        """Whether the first item is yet to tell whether the input is one of tables."""
        self._tables = False
        self._batch = plan.batch
        self._would_block: Callable[[], bool] | None = getattr(items, "would_block", None)
        self.starved = False
        """Whether there is room for items, and the input, which can say so, has none now."""
        self.slow = False
        """Whether the last portion had to be waited for."""
        if plan.item_id is not None and plan.checkpoint is not None:
            plan = replace(plan, in_flight=min(plan.in_flight, UNSAVED))
        if self._key_of is None:
            self.plan = _by_tables(plan)
        else:
            self.plan = plan
        self.checkpoint: Checkpoint | None = None
        if plan.checkpoint is not None:
            self.checkpoint = Checkpoint(
                place.data, plan.checkpoint, Purpose(class_name, plan.method)
            )
        self.maps = place.maps
        self._item_id = plan.item_id
        self._targets: dict[Any, Target | None] = {}
        self._target_of = target_of
        self._saved_at = time.monotonic()
        self._every = EVERY
        self._failed_saved = 0
        self._done_saved = 0
        self.input_error: BaseException | None = None
        """What ended the input, if it did not end by itself."""
        self.on_close: Callable[[], object] = lambda: None
        self.closed = False
        try:
            kept = self.checkpoint
            self.pump = Pump(
                self.plan,
                kept.job if kept is not None else f"{PASSING}{secrets.token_hex(8)}",
                self._target,
                time.monotonic,
                random.random,
                kept.done if kept is not None else None,
            )
            if kept is not None:
                self.pump.answered = lambda: kept.saved_low
            counted = items if self._key_of is not None else None  # not rows, but tables
            self.progress = _progress(plan, place, counted) if plan.progress else None
        except BaseException:
            if self.checkpoint is not None:
                self.checkpoint.close()
            raise

    def _target(self, key: Any) -> Target | None:
        targets = self._targets
        target = targets.get(key)
        if target is None:
            if len(targets) >= TARGETS:
                targets.clear()
            target = targets[key] = self._target_of(key)
        return target

    # --- reading ---------------------------------------------------------------------------------

    def feed(self, item: Any) -> None:
        """Take an item. Raises CheckpointError."""
        self._feed_all((item,))

    def parts(self, item: Any) -> Iterable[Any]:
        """Return what of the input is to be fed: the item itself, or the pieces of a table."""
        if self._unseen:
            self._unseen = False
            self._tables = pieces(item, self._key, self._batch) is not None
            if self._tables and self._batch > 1:
                self._key_of, self.plan = None, _by_tables(self.plan)
                self.pump.follow(self.plan)
        if not self._tables:
            return (item,)
        made = pieces(item, self._key, self._batch)
        if made is None:
            raise TypeError(f"an input that begins with tables goes on with {type(item).__name__}")
        return made

    def _look(self, items: Iterator[Any]) -> None:
        """Read the first item, which tells whether they are tables."""
        try:
            for first in items:
                self.parts(first)
                rest = chain((first,), items)
                self.items = chain.from_iterable(map(self.parts, rest)) if self._tables else rest
                break
        except Exception as error:
            self.input_failed(error)
        self._unseen = False

    def _feed_all(self, items: Iterable[Any]) -> int | None:
        """Take all items and return how many they were; None when the time is up before.

        All in one place, because every call of a function costs an item 0.05 µs. So does a look at
        the clock: it is looked at after 1, 2, 4 items and so on, because the input may be slow.
        """
        key_of, id_of, feed = self._key_of, self._item_id, self.pump.feed
        saw = None if self.checkpoint is None else self.checkpoint.saw
        item_id = None
        end = time.monotonic() + PORTION_SECONDS
        count, look = 0, 1
        try:
            for item in items:
                if key_of is None:
                    key, item = item  # noqa: PLW2901
                else:
                    key = key_of(item)
                if id_of is not None:
                    item_id = check_item_id(id_of(item))
                if saw is not None:
                    saw(key if key_of is not None else (key, len(item)))
                feed(key, item, item_id)
                count += 1
                if count == look:
                    if time.monotonic() > end:
                        return None
                    look += min(look, 32)
        except CheckpointError:
            raise
        except Exception as error:  # of the input, of the key function, or of what is no key
            self.input_failed(error)
            return None
        return count

    def read_some(self) -> bool:
        """Take a portion of items as far as there is room; returns whether any was taken."""
        if self._unseen and self._would_block is None:
            self._look(self.items)  # type: ignore[arg-type]
        room = min(self.pump.room, PORTION)
        if room <= 0:
            return False
        items: Iterator[Any] = islice(self.items, room)  # type: ignore[arg-type]
        if self._would_block is not None:
            items = self._there(items, self._would_block)
        began = time.monotonic()
        taken = self._feed_all(items)
        self.slow = time.monotonic() - began > SLOW_SECONDS
        if taken is not None and taken < room and not self.starved:
            self.input_ended()
        return True

    def _there(self, items: Iterator[Any], would_block: Callable[[], bool]) -> Iterator[Any]:
        """Yield items as long as the next one is there: who waits for results shall have those."""
        self.starved = False
        while not would_block():
            item = next(items, items)
            if item is items:
                return
            yield item
        self.starved = True

    def input_failed(self, error: BaseException) -> None:
        """Take note that the input broke: what came before it is applied, then it is raised."""
        self.pump.exhausted = True
        if isinstance(error, StopIteration | StopAsyncIteration):  # it would look like the end
            error = RuntimeError(f"the key function raised {type(error).__name__}")
        name = self.plan.title or f"map({self.plan.method!r})"
        error.add_note(f"in {name}, reading item {self.pump.tally.read} of the input (from 0)")
        self.input_error = error

    def input_ended(self) -> None:
        """Take note that there are no more items."""
        if self.checkpoint is not None:
            self.checkpoint.ended(self.pump.tally.read)
        self.pump.exhausted = True

    # --- in between ------------------------------------------------------------------------------

    def turn(self) -> None:
        """Save and show how it stands, if it is time to."""
        now = time.monotonic()
        if self.checkpoint is not None and (
            now - self._saved_at >= self._every
            or (self._item_id is not None and self.pump.tally.done - self._done_saved >= UNSAVED)
        ):
            self.save()
        if self.progress is not None:
            self.progress.show(self.pump.tally, self.pump.open_items, now)

    def wait(self) -> float | None:
        """Return how many seconds to wait for an answer at most, before the next turn."""
        waits = [self.pump.wait()]
        if self.checkpoint is not None:
            waits.append(max(0.05, self._saved_at + self._every - time.monotonic()))
        if self.progress is not None:
            waits.append(0.2)
        if self.starved:
            waits.append(STARVED_SECONDS)
        return min((wait for wait in waits if wait is not None), default=None)

    def save(self) -> None:
        """Save the checkpoint."""
        kept = self.checkpoint
        assert kept is not None
        began = time.monotonic()
        self._done_saved = self.pump.tally.done
        if self.plan.errors != "raise":  # what is raised is not done, and comes again
            kept.failed += self.pump.tally.failed - self._failed_saved
            self._failed_saved = self.pump.tally.failed
        kept.save()
        self._saved_at = time.monotonic()
        self._every = max(EVERY, 20 * (self._saved_at - began))

    def close(self) -> None:
        """Save what is done, and free everything. Again: does nothing."""
        if self.closed:
            return
        self.closed = True
        try:
            if self.checkpoint is not None:
                self.save()
        finally:
            if self.checkpoint is not None:
                self.checkpoint.close()
            if self.progress is not None:
                self.progress.close(self.pump.tally, finished=self.pump.finished)
            self.on_close()

    def where(self) -> str:
        """Say where the map stands, for one that was stopped."""
        tally = self.pump.tally
        name = self.plan.title or f"map({self.plan.method!r})"
        text = f"{name} stopped with {tally.done + tally.skipped:,} items done"
        if self.pump.open_items:
            text += f" and {self.pump.open_items:,} under way"
        if self.plan.checkpoint is not None:
            text += f"; run it again to go on (checkpoint {self.plan.checkpoint!r})"
        return text


def _no_key(_item: Any) -> None:
    return None


def _by_tables(plan: Plan) -> Plan:
    """Return the plan of a map over tables by key: each is a call of its own."""
    return replace(plan, batch=1, in_flight=max(16, plan.in_flight // plan.batch))
