"""An object's alarm: when `alarm()` is to be called, and how often that has failed.

Times are whole milliseconds since 1970, as in the original. Semantics and errors are
Cloudflare's, https://developers.cloudflare.com/durable-objects/api/alarms/
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BACKOFF_MS", "MOST_RETRIES", "Alarm", "AlarmInfo", "alarm_time", "past_time", "retry"]

MOST_RETRIES: Final = 6
"""How often a call of `alarm()` that failed is made again."""

BACKOFF_MS: Final = 2000
"""How long to wait for the first retry; each later one waits twice as long."""

_JITTER: Final = 0.25
_LATEST: Final = 1 << 62


class Alarm(NamedTuple):
    """One alarm. A later alarm of the same object differs in `scheduled`."""

    scheduled: int
    """The time that the object asked for."""
    due: int
    """When `alarm()` is to be called next: later than `scheduled` while it is being retried."""
    retries: int = 0
    """How many calls have failed."""


class AlarmInfo:
    """What `alarm(alarm_info)` is given."""

    __slots__ = ("retry_count", "scheduled_time")

    retry_count: int
    """How many attempts failed."""
    scheduled_time: int
    """When it was to ring, in milliseconds since 1970."""

    def __init__(self, retry_count: int, scheduled_time: int) -> None:
        self.retry_count = retry_count
        self.scheduled_time = scheduled_time

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt failed."""
        return self.retry_count > 0

    @property
    def isRetry(self) -> bool:
        """See `is_retry`."""
        return self.retry_count > 0

    @property
    def retryCount(self) -> int:
        """See `retry_count`."""
        return self.retry_count

    @property
    def scheduledTime(self) -> int:
        """See `scheduled_time`."""
        return self.scheduled_time

    def __repr__(self) -> str:
        return f"AlarmInfo(retry_count={self.retry_count}, scheduled_time={self.scheduled_time})"


def alarm_time(when: Any) -> int:
    """Return what `setAlarm()` was given as milliseconds since 1970; a naive datetime is local.

    Raises TypeError for what is no time, and for a time at or before 1970.
    """
    when = _milliseconds(when, "setAlarm()")
    if when <= 0:
        raise TypeError("setAlarm() cannot be called with an alarm time <= 0")
    # Rounded up, because it must never ring before its time.
    return -int(-when // 1)


def past_time(when: Any) -> int:
    """Return what `getBookmarkForTime()` was given as milliseconds since 1970. Raises TypeError."""
    return int(_milliseconds(when, "getBookmarkForTime()"))


def _milliseconds(when: Any, who: str) -> float:
    if isinstance(when, datetime):
        when = when.timestamp() * 1000
    try:
        usable = not isinstance(when, bool | str | bytes) and isfinite(when)
    except (TypeError, OverflowError):
        usable = False
    if not usable or when > _LATEST:
        raise TypeError(
            f"{who} takes milliseconds since 1970 or a datetime, not "
            f"{when if isinstance(when, int | float) else type(when).__name__}"
        )
    return when  # type: ignore[no-any-return]


def retry(failed: Alarm, now: int, random: Callable[[], float], *, counts: bool) -> Alarm | None:
    """Return when to call again after a call failed, or None to give up.

    A failure that was not the object's own does not count, and begins the waiting anew.
    """
    retries = failed.retries + 1 if counts else 0
    if retries > MOST_RETRIES:
        return None
    wait = BACKOFF_MS << max(retries - 1, 0)
    return failed._replace(due=now + int(wait * (1 + _JITTER * random())), retries=retries)
