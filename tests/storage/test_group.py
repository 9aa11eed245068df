"""Group commit: one transaction and one sync a file, and failures stay with their file."""

import os

import pytest

from runtime.storage import CommitGroup
from workers.errors import StorageError


@pytest.fixture
def group():
    return CommitGroup()


@pytest.fixture
def member(open_storage, group):
    """A storage that marks itself in the group when it writes."""

    def member_(file, name):
        storage = open_storage(file, name, on_write=lambda: group.mark(storage))
        return storage

    return member_


def transactions(file):
    """Count the commits of a file from here on."""
    commits = []
    file._connection.set_commit_hook(lambda: bool(commits.append(1)))
    return commits


async def test_a_round_is_one_transaction_and_one_sync_a_file(open_file, member, group):
    synced = []
    files = [open_file(f"{n}", fdatasync=lambda fd, n=n: synced.append(n)) for n in range(3)]
    storages = [member(file, f"{n}") for file in files[:2] for n in range(50)]
    commits = [transactions(file) for file in files]
    for storage in storages:
        for value in range(3):
            await storage.put("k", value)
    round_ = group.start_round()
    assert [len(made) for made in commits] == [1, 1, 0]
    assert round_.files == files[:2]
    assert round_.storages == storages
    assert round_.needs_sync
    assert synced == []
    round_.sync()
    assert synced == [0, 1]
    assert group.end_round(round_) == {}
    assert files[0].counts() == {"Room": 50}


async def test_writes_made_during_a_round_are_seen_at_once_and_go_with_the_next(
    open_file, member, group, open_storage
):
    file = open_file()
    storage = member(file, "a")
    await storage.put({"k": 1, "l": 1})
    first = group.start_round()
    await storage.put("k", 2)
    await storage.delete("l")
    assert await storage.list() == {"k": 2}
    assert await open_storage(file).list() == {"k": 1, "l": 1}
    with pytest.raises(RuntimeError, match="has not ended"):
        group.start_round()
    first.sync()
    assert group.end_round(first) == {}
    assert await storage.list() == {"k": 2}
    second = group.start_round()
    assert second.storages == [storage]
    second.sync()
    group.end_round(second)
    assert await open_storage(file).list() == {"k": 2}
    assert not group.start_round().needs_sync


async def test_a_relaxed_round_needs_no_sync(open_file, member, group):
    storage = member(open_file(durability="relaxed"), "a")
    await storage.put("k", 1)
    round_ = group.start_round()
    assert not round_.needs_sync
    assert group.end_round(round_) == {}


async def test_a_commit_that_fails_fails_the_storages_of_its_file_only(
    open_file, member, group, open_storage
):
    broken, sound = open_file("broken"), open_file("sound")
    lost = [member(broken, name) for name in "ab"]
    kept, bystander = member(sound, "c"), member(broken, "d")
    for storage in (*lost, kept):
        await storage.put("k", 1)
    broken._connection.set_commit_hook(lambda: True)  # makes every COMMIT fail
    round_ = group.start_round()
    assert round_.files == [sound]
    round_.sync()
    failed = group.end_round(round_)
    assert failed.keys() == {id(storage) for storage in lost}
    assert all(isinstance(cause, StorageError) for cause in failed.values())
    assert all(storage.has_failed for storage in lost)
    assert not kept.has_failed
    assert not bystander.has_failed
    broken._connection.set_commit_hook(None)
    assert await open_storage(broken, "a").get("k") is None
    assert await open_storage(sound, "c").get("k") == 1
    await bystander.put("k", 2)
    assert group.end_round(group.start_round()) == {}


async def test_a_sync_that_fails_fails_the_storages_of_its_file_only(open_file, member, group):
    def fail(fd):
        raise OSError(28, "No space left on device")

    broken, sound = open_file("broken", fdatasync=fail), open_file("sound")
    lost, kept = member(broken, "a"), member(sound, "b")
    await lost.put("k", 1)
    await kept.put("k", 1)
    round_ = group.start_round()
    round_.sync()
    assert round_.files == [sound]
    failed = group.end_round(round_)
    assert failed.keys() == {id(lost)}
    assert "No space left on device" in str(failed[id(lost)])
    assert lost.has_failed
    assert not kept.has_failed


async def test_a_sync_thread_that_dies_fails_the_whole_round(open_file, member, group):
    storage = member(open_file(), "a")
    await storage.put("k", 1)
    died = RuntimeError("cannot schedule new futures after shutdown")
    failed = group.end_round(group.start_round(), died)
    assert failed[id(storage)].__cause__ is died
    assert storage.has_failed


async def test_a_storage_reset_before_its_commit_fails_in_the_round_and_writes_nothing(
    open_file, member, group, open_storage
):
    file = open_file()
    storage, other = member(file, "a"), member(file, "b")
    await storage.put("k", 1)
    await other.put("k", 1)
    storage.failed()
    round_ = group.start_round()
    assert round_.storages == [other]
    round_.sync()
    assert group.end_round(round_).keys() == {id(storage)}
    assert await open_storage(file, "a").get("k") is None
    assert await open_storage(file, "b").get("k") == 1


async def test_a_round_is_ended_once(open_file, member, group):
    storage = member(open_file(fdatasync=os.fdatasync), "a")
    await storage.put("k", 1)
    round_ = group.start_round()
    group.end_round(round_)
    with pytest.raises(RuntimeError, match="not under way"):
        group.end_round(round_)
