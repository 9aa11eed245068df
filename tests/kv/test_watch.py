"""Who watches a namespace gets every change, in the order of the commits, or is told what it missed."""

import asyncio
import gc
import os
import threading
from contextlib import closing

import pytest

from runtime import Runtime
from runtime.kv import Change, SyncKVNamespace, open_store
from runtime.kv import changes as changes_module
from runtime.kv import watch as watch_module
from runtime.kv.changes import DELETE, PUT, Changed, Publisher, Subscription
from workers import DurableObject
from workers.errors import KVError

from .conftest import die_at_line

MISSED = Change("missed", None)


async def take(watch, count):
    return [await anext(watch) for _ in range(count)]


async def all_of(watch):
    return [change async for change in watch]


def folder_of(directory):
    return directory / "watching"


@pytest.fixture
def impatient(monkeypatch):
    """What nobody tells is looked for all the time."""
    monkeypatch.setattr(watch_module, "LOOK_SECONDS", 0.005)


@pytest.fixture
def channel(store, directory):
    """Tell, and hear, without a thread between."""
    words = store._trust.words
    subscription = Subscription(directory, words)
    yield Publisher(directory, words), subscription
    subscription.close()


@pytest.fixture
def before_hearing(monkeypatch):
    """Have something happen when the thread of the watches is about to take what has come."""
    hear = Subscription.hear

    def arrange(function):
        to_do = [function]

        def hear_(subscription):
            if to_do:
                to_do.pop()()
            return hear(subscription)

        monkeypatch.setattr(Subscription, "hear", hear_)

    return arrange


# --- what a watch gives --------------------------------------------------------------------------


async def test_a_watch_gives_the_changes_of_its_prefix_since_it_began(kv):
    await kv.put("a1", "before")
    watch = kv.watch("a")
    await kv.put("a1", "v")
    await kv.put("b", "v")
    await kv.put("aé", "v", expiration=2_000_000_000)
    await kv.delete("a1")
    assert await take(watch, 3) == [
        Change("put", "a1"),
        Change("put", "aé", 2_000_000_000),
        Change("delete", "a1"),
    ]


def test_a_blocking_watch_gives_them_too(sync_kv):
    with sync_kv.watch() as watch:
        sync_kv.put("k", "v")
        sync_kv.delete_bulk(["k", "l"])
        assert [next(watch) for _ in range(3)] == [
            Change("put", "k"),
            Change("delete", "k"),
            Change("delete", "l"),
        ]


async def test_many_watch_at_once_and_each_gets_its_own(kv):
    watches = [kv.watch(f"{number % 10}/") for number in range(200)]
    await asyncio.gather(*(kv.put(f"{number}/k", "v") for number in range(10)))
    for number, watch in enumerate(watches):
        assert await anext(watch) == Change("put", f"{number % 10}/k")


def write_numbers(directory, cache, count, say):
    kv = SyncKVNamespace(open_store(directory, cache=cache, cache_bytes=1 << 24))
    for number in range(1, count + 1):
        kv.put("k", f"{number}", expiration=2_000_000_000 + number)


def test_who_reads_after_a_change_of_another_process_finds_that_value_or_a_later_one(
    directory, open_, cache, start
):
    kv = SyncKVNamespace(open_())
    with kv.watch("k") as watch:
        writer = start(write_numbers, directory, cache, 300)
        number = 0
        while number < 300:
            change = next(watch)
            number += 1
            assert change == Change("put", "k", 2_000_000_000 + number)
            assert int(kv.get("k")) >= number
    writer.end()
    assert writer.status == 0


async def test_who_watches_and_then_reads_misses_nothing_in_between(kv):
    for number in range(50):
        put = asyncio.create_task(kv.put("k", f"{number}"))
        await asyncio.sleep(0)  # it is on its way
        watch = kv.watch("k")
        if await kv.get("k") != f"{number}":
            assert (await anext(watch)).kind in ("put", "missed")
        await put


async def test_expired_entries_are_told_when_they_are_due(kv, clock, impatient):
    await kv.put("early", "v", expirationTtl=60)
    watch = kv.watch()
    await kv.put("late", "v", expirationTtl=70)
    assert (await anext(watch)).key == "late"
    clock.now += 60
    assert await anext(watch) == Change("expired", "early")
    clock.now += 10
    assert await anext(watch) == Change("expired", "late")


async def test_expired_entries_that_a_later_write_removes_are_told(kv, clock):
    await kv.put("e", "v", expirationTtl=60)
    watch = kv.watch()
    clock.now += 60
    await kv.put("k", "v")
    assert sorted([change.kind for change in await take(watch, 2)]) == ["expired", "put"]


def test_a_watch_that_begins_while_others_hear_gets_what_changes_from_then_on(
    sync_kv, before_hearing
):
    begun = []

    def begin():
        begun.append(sync_kv.watch("b"))
        sync_kv.put("b1", "v")

    before_hearing(begin)
    first = sync_kv.watch("a")
    sync_kv.put("a", "v")
    assert next(first).key == "a"
    sync_kv.put("b2", "v")
    assert [next(begun[0]).key for _ in range(2)] == ["b1", "b2"]


def test_a_prefix_too_long_is_refused(sync_kv):
    with pytest.raises(KVError, match="414"):
        sync_kv.watch("x" * 513)


# --- what is missed ------------------------------------------------------------------------------


async def test_a_reader_who_is_too_slow_is_told_so_and_gets_what_comes_later(kv, store):
    watch = kv.watch()
    behind = watch_module.KEPT + 10
    await asyncio.gather(*(kv.put(f"k{number}", "v") for number in range(behind)))
    fence = kv.watch()
    await kv.put("fence", "v")
    while await anext(fence) != Change("put", "fence"):  # all of it has been handed on
        pass
    assert await anext(watch) == MISSED
    rest = [await anext(watch)]
    while rest[-1].key != "fence":
        rest.append(await anext(watch))
    assert len(rest) <= watch_module.KEPT
    assert MISSED not in rest


def test_a_process_that_is_too_slow_knows_that_it_missed_something(channel):
    publisher, subscription = channel
    room = changes_module._ROOM // 500
    for number in range(room + 100):
        publisher.begin()
        publisher.tell([Changed(PUT, b"%06d" % number + b"x" * 500)])
    told, missed = subscription.hear()
    assert missed
    assert 100 < len(told) <= room
    publisher.begin()
    publisher.tell([Changed(DELETE, b"k")])
    assert subscription.hear() == ([Changed(DELETE, b"k")], False)


def test_a_commit_larger_than_a_piece_is_told_whole(channel):
    publisher, subscription = channel
    many = [Changed(PUT, b"%03d" % number + b"k" * 509, 5.5) for number in range(900)]
    publisher.begin()
    publisher.tell(many)
    assert subscription.hear() == (many, False)


async def test_a_commit_that_fails_may_have_been_missed(kv, store, monkeypatch, impatient):
    watch = kv.watch()

    def fail(*_):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(store._durable, "commit", fail)
        with pytest.raises(KVError):
            await kv.put("k", "v")
    assert await anext(watch) == MISSED


def overwrite(directory, line, say):
    kv = SyncKVNamespace(open_store(directory))
    die_at_line(line)
    kv.put("k", "new")


def test_of_a_writer_killed_at_any_line_nothing_is_missed_unknown(fast_directory, start):
    line, outcomes, status = 0, set(), None
    with closing(open_store(fast_directory)) as store:
        kv, words = SyncKVNamespace(store), store._trust.words
        while status != 0:
            line += 2
            kv.put("k", "old")
            with closing(Subscription(fast_directory, words)) as subscription:
                writer = start(overwrite, fast_directory, line)
                writer.end()
                status = writer.status
                subscription.look_for_the_dead()
                told, missed = subscription.hear()
            new = kv.get("k") == "new"
            outcomes.add((new, bool(told), missed))
            assert told == [Changed(PUT, b"k")] if told else missed or not new
    assert {(False, False, False), (True, False, True), (True, True, False)} <= outcomes


# --- who does not watch --------------------------------------------------------------------------


async def test_nobody_who_watches_costs_a_writer_nothing(kv, directory, monkeypatch):
    monkeypatch.setattr(Publisher, "_send", None)  # would be an error if called
    await kv.put("k", "v")
    assert not folder_of(directory).exists()


async def test_writers_forget_who_has_ended(kv, directory, store, impatient):
    watch = kv.watch()
    assert len(list(folder_of(directory).iterdir())) == 1
    thread = store._watching._thread
    del watch
    gc.collect()
    await asyncio.to_thread(thread.join)
    assert list(folder_of(directory).iterdir()) == []
    await kv.put("k", "v")
    assert store._trust.words[changes_module._WATCHED] == 0
    again = kv.watch()
    await kv.put("k", "v")
    assert await anext(again) == Change("put", "k")


def watch_until_killed(directory, say):
    watch = SyncKVNamespace(open_store(directory)).watch()
    say(next(watch).key)
    next(watch)


def test_writers_forget_who_was_killed(directory, open_, start, store):
    watcher = start(watch_until_killed, directory)
    kv = SyncKVNamespace(open_())
    while not (folder_of(directory).is_dir() and list(folder_of(directory).iterdir())):
        assert watcher.status is None
    kv.put("k", "v")
    assert watcher.said.readline() == "k\n"
    watcher.kill()
    assert len(list(folder_of(directory).iterdir())) == 1
    kv.put("k", "v")
    assert list(folder_of(directory).iterdir()) == []


def test_a_child_of_one_that_watches_watches_for_itself(directory, start, open_, impatient):
    store = open_()
    kv = SyncKVNamespace(store)
    watch = kv.watch()

    def in_child(say):
        mine = kv.watch()
        say("watching")
        say(next(mine).key)
        os._exit(0)

    child = start(in_child)
    assert child.said.readline() == "watching\n"
    kv.put("k", "v")
    assert next(watch).key == "k"
    assert child.said.readline() == "k\n"
    child.end()
    watch.close()
    thread = store._watching._thread
    if thread is not None:
        thread.join()
    assert len(list(folder_of(directory).iterdir())) <= 1  # the child's, until the next write
    kv.put("k", "v")
    assert list(folder_of(directory).iterdir()) == []


# --- how a watch ends ----------------------------------------------------------------------------


async def test_closing_ends_the_iteration(kv, store):
    async with kv.watch() as watch:
        waiting = asyncio.create_task(all_of(watch))
        await asyncio.sleep(0)
    assert await waiting == []
    other = kv.watch()
    store.close()
    assert await all_of(other) == await all_of(kv.watch()) == []


def test_closing_ends_a_blocking_iteration(sync_kv):
    watch = sync_kv.watch()
    reader = threading.Thread(target=lambda: list(watch))
    reader.start()
    watch.close()
    reader.join()
    assert list(watch) == []


def test_an_end_is_not_missed_while_changes_are_heard(sync_kv, store, before_hearing, monkeypatch):
    """The thread would wait for a second more, and with it whoever closes the namespace."""
    waits = []
    wait = Subscription.wait
    monkeypatch.setattr(Subscription, "wait", lambda *args: waits.append(1) or wait(*args))
    before_hearing(store.end_watches)
    watch = sync_kv.watch()
    sync_kv.put("k", "v")
    assert list(watch) == []
    store.close()
    assert len(waits) == 1


async def test_a_cancelled_reader_loses_nothing(kv):
    watch = kv.watch()
    reader = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    reader.cancel()
    await kv.put("k", "v")
    assert await anext(watch) == Change("put", "k")


class Board(DurableObject):
    """Tells what changes."""

    async def follow(self, prefix):
        watch = self.env.KV.watch(prefix)
        yield "watching"
        async for change in watch:
            yield f"{change.kind} {change.key} {await self.env.KV.get(change.key)}"

    def remain(self):
        self.ctx.waitUntil(self._remain())

    async def _remain(self):
        async for _ in self.env.KV.watch():
            pass

    async def write(self, key, value):
        await self.env.KV.put(key, value)


def test_an_object_tells_what_changed_whoever_changed_it(tmp_path):
    with Runtime(objects={"BOARDS": Board}, kv=["KV"], hosts=2, data_dir=tmp_path / "data") as rt:
        lines = rt.env.BOARDS.getByName("a").follow("p/")
        assert next(lines) == "watching"
        with rt.env.KV.watch("p/") as watch:
            rt.env.KV.put("p/1", "program")
            assert next(lines) == "put p/1 program"
            for name in "bcde":
                rt.env.BOARDS.getByName(name).write(f"p/{name}", name)
                assert next(lines) == f"put p/{name} {name}"
            assert [next(watch).key for _ in range(5)] == ["p/1", "p/b", "p/c", "p/d", "p/e"]
        rt.env.BOARDS.getByName("f").remain()
        ended = rt.env.KV.watch()
    # Nobody's watch kept the instance from stopping.
    assert list(ended) == []
