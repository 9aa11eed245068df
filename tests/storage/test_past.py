"""Bookmarks, as an object meets them: what they name, what going back takes along, what is refused."""

import asyncio
import os
import shutil
import signal
import tracemalloc
from datetime import UTC, datetime

import pytest

from runtime import AsyncRuntime
from runtime.config import Limits
from runtime.storage import ObjectFiles, rebuild
from runtime.storage import past as past_module
from runtime.storage.object_file import ObjectFile
from workers import DurableObject
from workers.errors import HostLost, ObjectReset


class Journal(DurableObject):
    """Writes lines, and goes back."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS lines(text)")

    async def write(self, text):
        self.ctx.storage.sql.exec("INSERT INTO lines VALUES (?)", text)
        await self.ctx.storage.put("last", text)
        return await self.ctx.storage.getCurrentBookmark()

    async def read(self):
        lines = [row.text for row in self.ctx.storage.sql.exec("SELECT * FROM lines")]
        return lines, await self.ctx.storage.get("last")

    async def go_back(self, bookmark, *, abort=True):
        undo = await self.ctx.storage.onNextSessionRestoreBookmark(bookmark)
        if not abort:
            return undo
        await self.env.NOTES.put("undo", undo)
        self.ctx.abort("going back")
        return None


class Plain(DurableObject):
    async def bookmark(self):
        return await self.ctx.storage.get_current_bookmark()


async def test_an_object_goes_back_and_forth(tmp_path):
    async with AsyncRuntime(
        objects={"JOURNALS": Journal}, kv=["NOTES"], data_dir=tmp_path, hosts=1
    ) as rt:
        journal = rt.env.JOURNALS.getByName("a")
        first = await journal.write("one")
        second = await journal.write("two")
        assert first < second
        with pytest.raises(ObjectReset, match="going back"):
            await journal.go_back(first)
        assert await journal.read() == (["one"], "one")
        await journal.write("three")
        undo = await rt.env.NOTES.get("undo")
        await journal.go_back(undo, abort=False)
        assert await journal.read() == (["one", "three"], "three")  # not yet
        os.kill(rt.status()[0].pid, signal.SIGKILL)
        while True:
            try:
                assert await journal.read() == (["one", "two"], "two")
                break
            except HostLost:
                await asyncio.sleep(0)


async def test_an_undo_has_what_was_written_up_to_the_sessions_end(tmp_path):
    async with AsyncRuntime(
        objects={"JOURNALS": Journal}, kv=["NOTES"], data_dir=tmp_path, hosts=1
    ) as rt:
        journal = rt.env.JOURNALS.getByName("a")
        first = await journal.write("one")
        undo = await journal.go_back(first, abort=False)
        assert first < undo
        await journal.write("two")
        os.kill(rt.status()[0].pid, signal.SIGKILL)
        while True:
            try:
                assert await journal.read() == (["one"], "one")
                break
            except HostLost:
                await asyncio.sleep(0)
        last = await journal.write("three")
        assert undo < last
        redo = await journal.go_back(undo, abort=False)
        with pytest.raises(ObjectReset):
            await journal.go_back(undo)  # the newest order counts
        assert await journal.read() == (["one", "two"], "two")
        with pytest.raises(ObjectReset):
            await journal.go_back(redo)
        assert await journal.read() == (["one", "three"], "three")


async def test_it_goes_back_after_a_restart_too(tmp_path):
    options = {"objects": {"JOURNALS": Journal}, "kv": ["NOTES"], "data_dir": tmp_path, "hosts": 1}
    async with AsyncRuntime(**options) as rt:
        journal = rt.env.JOURNALS.getByName("a")
        first = await journal.write("one")
        await journal.write("two")
        await journal.go_back(first, abort=False)
    async with AsyncRuntime(**options) as rt:
        journal = rt.env.JOURNALS.getByName("a")
        assert await journal.read() == (["one"], "one")
        await journal.write("three")
    async with AsyncRuntime(**options) as rt:
        assert await rt.env.JOURNALS.getByName("a").read() == (["one", "three"], "three")


@pytest.fixture
def marked(sqlite, commit):
    """Write a number, and return the bookmark after it."""

    async def marked_(number):
        await sqlite.put("n", number)
        sqlite.sql.exec("CREATE TABLE IF NOT EXISTS t(x)")
        commit(sqlite)
        return await sqlite.getCurrentBookmark()

    return marked_


@pytest.fixture
def count(commit):
    """Write numbers one after the other, each in a commit of its own."""

    async def count_(storage, numbers):
        for number in numbers:
            await storage.put("n", number)
            commit(storage)

    return count_


@pytest.fixture
def again(sqlite, open_storage, object_files):
    """The storage of the object's next session."""
    return lambda name="a", **more: open_storage(sqlite.file, name, files=object_files, **more)


async def test_an_order_is_taken_back_by_its_own_undo(sqlite, commit, marked, again):
    first = await marked(1)
    await marked(2)
    undo = await sqlite.onNextSessionRestoreBookmark(first)
    await sqlite.onNextSessionRestoreBookmark(undo)
    await sqlite.put("n", 3)
    commit(sqlite)
    assert await again().get("n") == 3


async def test_an_undo_that_is_in_a_history_no_more_is_refused(
    sqlite, commit, marked, again, reopen
):
    first = await marked(1)
    undo = await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)
    following = again()
    assert await following.get("n") == 1
    await following.deleteAll()
    await following.put("kept", 1)  # so that the file stays
    commit(following)
    with pytest.raises(ValueError, match="too old"):
        await following.onNextSessionRestoreBookmark(undo)
    assert await reopen(days=0).list() == {"kept": 1}  # its history ends
    later = reopen()
    await later.onNextSessionRestoreBookmark(await later.getCurrentBookmark())
    commit(later)
    again_later = reopen()
    assert await again_later.list() == {"kept": 1}
    with pytest.raises(ValueError, match="not of this object, or of a time before"):
        await again_later.onNextSessionRestoreBookmark(undo)


async def test_what_an_order_needs_is_kept(sqlite, commit, marked, again):
    now = [0.0]
    sqlite.database()._past._clock = lambda: now[0]
    first = await marked(1)
    await sqlite.onNextSessionRestoreBookmark(first)
    for day in range(1, 40):
        now[0] = day * 86_400.0
        await marked(day)
        sqlite.database()._checkpoint("RESTART")
    assert await again().get("n") == 1


async def test_going_back_takes_bounded_memory(sqlite, commit, marked, again, monkeypatch):
    monkeypatch.setattr(rebuild, "HELD_BYTES", 1 << 20)
    sqlite.sql.exec("CREATE TABLE big(body)")
    first = await marked(1)
    for body in (os.urandom(1 << 20), b"a" * (1 << 20)):
        for _ in range(16):
            sqlite.sql.exec("INSERT INTO big VALUES (?)", body)
        commit(sqlite)
        sqlite.database()._checkpoint("RESTART")
        await sqlite.onNextSessionRestoreBookmark(first)
        commit(sqlite)
        tracemalloc.start()
        try:
            following = again()
            assert await following.get("n") == 1
            assert tracemalloc.get_traced_memory()[1] < 6 << 20
        finally:
            tracemalloc.stop()
        following.database()._checkpoint("TRUNCATE")


async def test_the_alarm_stays_as_it_is(sqlite, commit, marked, again):
    first = await marked(1)
    await sqlite.setAlarm(1 << 50)
    commit(sqlite)
    await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)
    following = again()
    assert await following.get("n") == 1
    assert await following.getAlarm() == 1 << 50


async def test_an_object_without_sql_gets_a_file_by_its_first_bookmark(sqlite, commit, again):
    await sqlite.put("n", 1)
    await sqlite.getCurrentBookmark()
    commit(sqlite)
    first = await sqlite.getCurrentBookmark()
    await sqlite.put("n", 2)
    await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)
    assert await again().get("n") == 1


async def test_a_time_gives_the_last_commit_up_to_it(sqlite, commit, marked, again, monkeypatch):
    now = [1000.0]
    sqlite.database()._past._clock = lambda: now[0]
    marks = {}
    for second in (1000, 1010, 1020):
        now[0] = float(second)
        marks[second] = await marked(second)
        sqlite.database()._checkpoint("TRUNCATE")  # each into a segment of its own
    for second, found in ((1000, 1000), (1009.999, 1000), (1010, 1010), (1015, 1010), (1020, 1020)):
        place = await sqlite.getBookmarkForTime(int(second * 1000))
        await sqlite.onNextSessionRestoreBookmark(place)
        assert place == marks[found] or place < marks[found]
    assert await sqlite.getBookmarkForTime(
        datetime.fromtimestamp(1010, UTC)
    ) == await sqlite.getBookmarkForTime(1_010_000)
    with pytest.raises(ValueError, match="does not go back to that time"):
        await sqlite.getBookmarkForTime(999_000)
    with pytest.raises(ValueError, match="into the future"):
        await sqlite.getBookmarkForTime(1_021_000)
    with pytest.raises(TypeError, match=r"getBookmarkForTime\(\) takes milliseconds"):
        await sqlite.getBookmarkForTime("yesterday")
    commit(sqlite)


async def test_what_is_no_bookmark_of_the_object_is_refused(sqlite, commit, marked, again):
    first = await marked(1)
    other = again("b")
    other.sql.exec("CREATE TABLE t(x)")
    commit(other)
    foreign = await other.getCurrentBookmark()
    head = first.split("-")
    for wrong, error in (
        (foreign, "not of this object"),
        ("-".join([head[0], "00000fff", *head[2:]]), "not of this object"),
        ("yesterday", "is no bookmark"),
        ("", "is no bookmark"),
    ):
        with pytest.raises(ValueError, match=error):
            await sqlite.onNextSessionRestoreBookmark(wrong)
    with pytest.raises(TypeError, match="a bookmark is a str, not int"):
        await sqlite.onNextSessionRestoreBookmark(1)
    future = past_module.bookmark(sqlite._id.raw, sqlite.database()._era(), past_module.Place(9, 9))
    with pytest.raises(ValueError, match="lies in its future"):
        await sqlite.onNextSessionRestoreBookmark(future)
    commit(sqlite)
    assert await again().get("n") == 1


async def test_within_a_transaction_there_are_none(again):
    storage = again(alone=lambda body: body())

    async def body(txn):
        await storage.getCurrentBookmark()

    with pytest.raises(RuntimeError, match="not within a transaction"):
        await storage.transaction(body)


async def test_delete_all_ends_the_history(sqlite, commit, marked, again, object_files):
    first = await marked(1)
    await sqlite.deleteAll()
    commit(sqlite)
    with pytest.raises(ValueError, match="before all of it was deleted"):
        await sqlite.onNextSessionRestoreBookmark(first)
    second = await marked(2)
    await sqlite.deleteAll()
    await sqlite.put("kept", 1)  # so that the file stays
    commit(sqlite)
    with pytest.raises(ValueError, match="too old"):
        await sqlite.onNextSessionRestoreBookmark(second)
    third = await marked(3)
    await marked(4)
    await sqlite.onNextSessionRestoreBookmark(third)
    commit(sqlite)
    assert await again().list() == {"kept": 1, "n": 3}


async def test_the_oldest_goes_when_the_history_is_too_large(
    sqlite, commit, marked, again, monkeypatch
):
    monkeypatch.setattr(past_module, "BUDGET_BYTES", 20_000)
    monkeypatch.setattr(past_module, "BUDGET_TIMES", 0)
    first = await marked(1)
    for _ in range(30):
        await sqlite.put("random", os.urandom(3000))
        last = await marked(2)
        sqlite.database()._checkpoint("RESTART")
    assert sqlite.database()._past._history.size < 60_000
    with pytest.raises(ValueError, match="too old: the history of this object is kept for 30 days"):
        await sqlite.onNextSessionRestoreBookmark(first)
    await sqlite.onNextSessionRestoreBookmark(last)
    commit(sqlite)
    assert await again().get("n") == 2


async def test_what_is_too_old_goes(sqlite, commit, marked, monkeypatch):
    now = [0.0]
    sqlite.database()._past._clock = lambda: now[0]
    first = await marked(1)
    for day in range(1, 70):
        now[0] = day * 86_400.0
        await marked(day)
        sqlite.database()._checkpoint("RESTART")
    oldest = min(found.ended for found, _ in sqlite.database()._past._history.segments())
    assert 9 * 86_400_000 <= oldest <= 39 * 86_400_000  # half of it may be too old
    with pytest.raises(ValueError, match="too old"):
        await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)


async def test_history_days_0_keeps_none(tmp_path, open_file, open_storage, commit):
    files = ObjectFiles(tmp_path / "objects", "relaxed", Limits(history_days=0))
    storage = open_storage(open_file(durability="relaxed"), files=files)
    storage.sql.exec("CREATE TABLE t(x)")
    commit(storage)
    with pytest.raises(ValueError, match="`history_days` is 0"):
        await storage.getCurrentBookmark()
    files.close()
    assert len(list(tmp_path.glob("objects/*/*"))) == 1


async def test_a_log_that_cannot_be_archived_is_kept(sqlite, commit, marked, caplog, monkeypatch):
    monkeypatch.setattr(ObjectFile, "CHECKPOINT_PAGES", 3)
    first = await marked(1)
    file = sqlite.database()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file._past, "_fdatasync", full)
    for number in range(2, 20):
        await marked(number)
    assert "cannot be archived yet" in caplog.text
    monkeypatch.undo()
    file._checkpoint("RESTART")
    await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)


async def test_the_key_value_backend_has_none(storage, tmp_path):
    for call in (
        storage.getCurrentBookmark(),
        storage.getBookmarkForTime(1),
        storage.onNextSessionRestoreBookmark("x"),
    ):
        with pytest.raises(RuntimeError, match=r"back-end does not implement point-in-time"):
            await call


async def test_no_time_is_before_an_objects_first_commit(sqlite, commit, marked, again):
    now = [1000.0]
    sqlite.database()._past._clock = lambda: now[0]
    await sqlite.put("n", 0)
    commit(sqlite)
    now[0] = 1000.05  # too close to tell commits apart
    await sqlite.put("n", 1)
    commit(sqlite)
    sqlite.database()._checkpoint("RESTART")
    place = await sqlite.getBookmarkForTime(1_000_020)
    await sqlite.onNextSessionRestoreBookmark(place)
    commit(sqlite)
    assert await again().get("n") == 0


async def test_bookmarks_keep_their_order_and_meaning_when_a_checkpoint_fails(
    sqlite, commit, marked, again, monkeypatch
):
    file = sqlite.database()

    def failing(_mode):
        raise OSError(5, "Input/output error")

    await marked(1)
    monkeypatch.setattr(file, "_bring_in_log", failing)
    file._checkpoint("RESTART")
    between = await marked(1.5)
    file._checkpoint("RESTART")
    first = await sqlite.getCurrentBookmark()
    monkeypatch.undo()
    file._checkpoint("RESTART")
    marks = [between, first, *[await marked(number) for number in range(2, 12)]]
    assert marks == sorted(marks)
    await sqlite.onNextSessionRestoreBookmark(first)
    commit(sqlite)
    assert await again().get("n") == 1.5


async def test_bookmarks_go_on_in_their_order_after_a_kill(
    sqlite, commit, marked, open_storage, object_files, tmp_path
):
    marks = [await marked(number) for number in range(3)]
    shutil.copytree(tmp_path / "objects", tmp_path / "killed")  # the log is not brought in
    files = ObjectFiles(tmp_path / "killed", "relaxed", Limits())
    following = open_storage(sqlite.file, files=files)
    for number in range(20):
        await following.put("n", number)
        commit(following)
        marks.append(await following.getCurrentBookmark())
    assert marks == sorted(set(marks))
    files.close()


@pytest.fixture
def reopen(tmp_path, open_storage, object_files, sqlite):
    """Close the object's file, and return its storage in a house that keeps so many days."""
    opened = [object_files]

    def reopen_(days=30):
        opened[-1].close()
        opened.append(ObjectFiles(tmp_path / "objects", "relaxed", Limits(history_days=days)))
        return open_storage(sqlite.file, files=opened[-1])

    yield reopen_
    opened[-1].close()


async def test_a_history_that_was_not_gone_on_with_is_over(
    sqlite, commit, count, marked, reopen, tmp_path
):
    first = await marked(1)
    silent = reopen(days=0)
    await silent.put("n", 2)
    commit(silent)
    later = reopen()
    await count(later, range(3, 20))
    with pytest.raises(ValueError, match="not of this object, or of a time before"):
        await later.onNextSessionRestoreBookmark(first)
    last = await later.getCurrentBookmark()
    await later.put("n", 20)
    await later.onNextSessionRestoreBookmark(last)
    commit(later)
    assert await reopen().get("n") == 19


async def test_a_copy_without_its_history_takes_no_older_bookmark(
    sqlite, commit, count, marked, reopen, tmp_path
):
    first = await marked(1)
    reopen()
    (history,) = tmp_path.glob("objects/*/*-history")
    history.unlink()
    copied = reopen()
    await count(copied, range(2, 20))
    with pytest.raises(ValueError, match="not of this object, or of a time before"):
        await copied.onNextSessionRestoreBookmark(first)
    commit(copied)


async def test_a_damaged_history_leaves_the_object_as_it_is(
    sqlite, commit, marked, reopen, tmp_path, caplog
):
    first = await marked(1)
    for number in range(2, 9):
        await sqlite.put("big", os.urandom(20_000))
        await marked(number)
    later = reopen()
    await later.onNextSessionRestoreBookmark(first)
    commit(later)
    (path,) = tmp_path.glob("objects/*/*-history")
    history = later.database()._past._history
    (segment, start), *_ = history.segments()
    events = list(history.events(segment, start))
    spoilt = [
        event._replace(delta=event.delta ^ 0xFF << 20) if hasattr(event, "delta") else event
        for event in events
    ]
    path.unlink()
    history._last = None
    history.append(segment, spoilt)
    following = reopen()
    assert await following.get("n") == 8
    assert "its history is damaged" in caplog.text
    commit(following)
    assert await reopen().get("n") == 8


async def test_a_deleted_object_leaves_nothing_behind(sqlite, commit, marked, tmp_path):
    await marked(1)
    path = sqlite.database().path
    for added in ("-history-new", "-restoring"):  # as a kill leaves them
        path.with_name(path.name + added).touch()
    await sqlite.deleteAll()
    commit(sqlite)
    assert list(tmp_path.glob("objects/*/*")) == []
