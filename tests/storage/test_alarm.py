"""An object's alarm: its time, its place in the turn's commit, its retries."""

import time
from datetime import UTC, datetime

import pytest

from runtime.storage import Alarm, AlarmInfo, retry
from runtime.storage.alarm import alarm_time

NOW = 1_700_000_000_000


@pytest.fixture
def room(open_file, open_storage):
    """A storage whose clock stands still, and what the engine has heard of its alarm."""
    heard = []
    storage = open_storage(
        open_file(durability="relaxed"), clock=lambda: NOW / 1000, on_alarm=heard.append
    )
    return storage, heard


async def test_an_alarm_is_read_at_once_and_told_when_it_is_durable(room, commit, open_storage):
    storage, heard = room
    assert await storage.getAlarm() is None
    await storage.setAlarm(NOW + 5000)
    assert await storage.get_alarm() == NOW + 5000
    assert heard == []
    commit(storage)
    assert heard == [Alarm(NOW + 5000, NOW + 5000)]
    again = open_storage(storage.file)
    assert await again.getAlarm() == NOW + 5000
    assert [*storage.file.next_alarms((0, b""), 9)] == [(NOW + 5000, storage._id.raw)]
    assert storage.file.due_alarm(storage._id.raw) == ("Room", "a", heard[0])
    await again.deleteAlarm()
    assert await again.getAlarm() is None
    commit(again)
    assert storage.file.alarm(storage._id.raw) is None


async def test_an_object_with_an_alarm_alone_is_in_the_register(room, commit):
    storage, _ = room
    await storage.setAlarm(NOW)
    commit(storage)
    assert storage.file.counts() == {"Room": 1}


async def test_delete_all_deletes_the_alarm(room, commit):
    storage, heard = room
    await storage.setAlarm(NOW)
    commit(storage)
    await storage.deleteAll()
    assert await storage.getAlarm() is None
    commit(storage)
    assert heard[-1] is None
    assert storage.file.counts() == {}


async def test_deleting_an_alarm_that_is_not_there_is_no_write(room):
    storage, _ = room
    await storage.deleteAlarm()
    assert storage.take_changes() is None


async def test_a_time_that_has_passed_means_now(room):
    storage, _ = room
    await storage.setAlarm(1)
    assert await storage.getAlarm() == NOW


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (0, "setAlarm\\(\\) cannot be called with an alarm time <= 0"),
        (-5.0, "setAlarm\\(\\) cannot be called with an alarm time <= 0"),
        ("soon", "milliseconds since 1970 or a datetime, not str"),
        (None, "not NoneType"),
        (True, "not True"),
        (float("nan"), "not nan"),
        (float("inf"), "not inf"),
        (10**30, "not 1000"),
    ],
)
async def test_what_is_no_time_is_refused(room, when, text):
    storage, _ = room
    with pytest.raises(TypeError, match=text):
        await storage.setAlarm(when)
    assert storage.take_changes() is None


def test_times_are_rounded_up_to_milliseconds():
    assert alarm_time(1000.001) == 1001
    assert alarm_time(datetime(2024, 1, 1, tzinfo=UTC)) == 1_704_067_200_000
    local = datetime(2024, 1, 1)  # noqa: DTZ001 - naive datetimes are what is tested
    assert alarm_time(local) == time.mktime(local.timetuple()) * 1000


async def test_a_class_without_alarm_is_told_so(open_file, open_storage):
    storage = open_storage(open_file(), can_alarm=lambda: False)
    with pytest.raises(TypeError, match=r"must have an alarm\(\) handler in order to call setAl"):
        await storage.setAlarm(NOW)


async def test_while_it_rings_there_is_none_until_it_is_set_anew(room, commit):
    storage, heard = room
    await storage.setAlarm(NOW)
    commit(storage)
    (due,) = heard
    assert storage.ring(due)
    assert await storage.getAlarm() is None
    await storage.setAlarm(NOW)
    assert await storage.getAlarm() == NOW + 1  # another alarm, though for the same moment
    storage.rang(due, None)
    commit(storage)
    assert storage.file.alarm(storage._id.raw) == Alarm(NOW + 1, NOW + 1)


@pytest.mark.parametrize("then", [None, Alarm(NOW, NOW + 2000, 1)])
async def test_when_it_has_rung_it_is_gone_or_waits_for_its_retry(room, commit, then):
    storage, heard = room
    await storage.setAlarm(NOW)
    commit(storage)
    assert storage.ring(heard[0])
    storage.rang(heard[0], then)
    commit(storage)
    assert storage.file.alarm(storage._id.raw) == then
    assert await storage.getAlarm() == (then and NOW)


async def test_an_alarm_that_was_changed_meanwhile_does_not_ring(room, commit):
    storage, heard = room
    await storage.setAlarm(NOW)
    commit(storage)
    await storage.setAlarm(NOW + 9)
    assert not storage.ring(heard[0])
    assert await storage.getAlarm() == NOW + 9


async def test_an_early_row_of_an_object_with_its_own_file_is_put_right(sqlite, commit):
    sqlite.sql.exec("CREATE TABLE t(x)")
    later = int(time.time() * 1000) + 1_000_000
    await sqlite.setAlarm(later)
    commit(sqlite)
    early = Alarm(later - 5, later - 5)
    sqlite.file._cursor.execute("UPDATE alarms SET due = ?, scheduled = ?", early[:2])
    sqlite._writes.drop()
    assert not sqlite.ring(early)
    commit(sqlite)
    assert sqlite.file.alarm(sqlite._id.raw) == Alarm(later, later)


def test_retries_wait_twice_as_long_each_time_and_end():
    alarm, waits = Alarm(NOW, NOW), []
    while alarm is not None:
        waits.append(alarm.due - NOW)
        alarm = retry(alarm, NOW, lambda: 0.0, counts=True)
    assert waits == [0, 2000, 4000, 8000, 16000, 32000, 64000]


def test_a_failure_of_the_engine_does_not_count_and_jitter_is_at_most_a_quarter():
    failed = Alarm(NOW, NOW + 64000, 6)
    assert retry(failed, NOW, lambda: 0.0, counts=False) == Alarm(NOW, NOW + 2000, 0)
    assert retry(Alarm(NOW, NOW), NOW, lambda: 1.0, counts=True).due == NOW + 2500


def test_the_handler_is_told_which_attempt_it_is():
    info = AlarmInfo(2, NOW)
    assert (info.retryCount, info.isRetry, info.scheduledTime) == (2, True, NOW)
    assert (info.retry_count, info.is_retry) == (2, True)
    assert not AlarmInfo(0, NOW).isRetry
