"""Many processes on one namespace: none is told to try again, none starves, none loses a write."""

import os
import shutil
import signal
import sqlite3
from concurrent.futures import Future
from contextlib import closing

import pytest

from runtime.kv import Entry, SyncKVNamespace, Write, open_store
from runtime.kv.write_lock import write_lock

PROCESSES = 10
PUTS = 30


def put_many(directory, number, done, say):
    kv = SyncKVNamespace(open_store(directory))
    say("ready")
    for count in range(PUTS):
        kv.put(f"{number}-{count}", str(count))
        kv.put("shared", f"{number}-{count}")
        os.write(done, bytes([number]))


def test_ten_processes_write_one_namespace_and_none_is_refused_or_starved(directory, start, open_):
    open_()
    reader, done = os.pipe()
    with write_lock(directory / "write.lock"):  # so that all begin together
        writers = [start(put_many, directory, number, done) for number in range(PROCESSES)]
        for writer in writers:
            assert writer.said.readline() == "ready\n"
    for writer in writers:
        writer.end()
    assert [writer.status for writer in writers] == [0] * PROCESSES
    order = os.read(reader, 2 * PROCESSES * PUTS)
    os.close(reader)
    os.close(done)
    assert sorted(order) == sorted(list(range(PROCESSES)) * PUTS)
    first = min(bytes(order).rfind(number) for number in range(PROCESSES))
    # When the first was through, nobody was left far behind.
    assert min(order[:first].count(number) for number in range(PROCESSES)) > PUTS // 3
    kv = SyncKVNamespace(open_())
    assert all(
        kv.get(f"{number}-{count}") == str(count)
        for number in range(PROCESSES)
        for count in range(PUTS)
    )
    assert kv.get("shared").endswith(f"-{PUTS - 1}")


def create(directory, go, say):
    os.read(go, 1)
    kv = SyncKVNamespace(open_store(directory))
    kv.put(str(os.getpid()), "there")
    say(os.getpid())


def test_many_processes_create_a_namespace_at_once(tmp_path, start):
    for round_ in range(5):
        directory = tmp_path / f"ns{round_}"
        reader, writer = os.pipe()
        children = [start(create, directory, reader) for _ in range(8)]
        os.write(writer, b"g" * 8)
        said = [child.end() for child in children]
        os.close(reader)
        os.close(writer)
        assert [child.status for child in children] == [0] * 8
        with closing(open_store(directory)) as store:
            keys = [item.name for item in SyncKVNamespace(store).list()["keys"]]
        assert sorted(keys) == sorted(line for lines in said for line in lines)
        assert directory.stat().st_mode & 0o777 == 0o700


def test_what_one_process_was_answered_all_others_read(directory, start, open_):
    def echo(say):
        kv = SyncKVNamespace(open_store(directory))
        for count in range(50):
            kv.put("k", str(count))
            say(count)
            os.read(go, 1)

    here = SyncKVNamespace(open_())
    go, went = os.pipe()
    child = start(echo)
    for count in range(50):
        assert child.said.readline() == f"{count}\n"
        assert here.get("k") == str(count)
        os.write(went, b"g")
    child.end()
    assert child.status == 0


def test_a_fork_in_the_midst_of_writing_leaves_both_sides_working(directory, start, open_):
    store = open_()
    kv = SyncKVNamespace(store)

    def child_(number, say):
        kv.put(f"child {number}", "v" * 200_000)
        say(kv.get("parent"))
        store.close()

    kv.put("parent", "1")
    for number in range(10):
        future = Future()
        store.submit(Write(b"under way", Entry(b"x" * 200_000, None, None), future=future))
        child = start(child_, number)
        future.result()
        kv.put("parent", "1")
        assert child.end() == ["1"]
        assert child.status == 0
    assert len(kv.list(prefix="child")["keys"]) == 10
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_fork_works_although_another_namespace_is_gone(directory, tmp_path, start, open_):
    gone, kv = open_(tmp_path / "gone"), SyncKVNamespace(open_())
    SyncKVNamespace(gone).put("k", "v")
    kv.put("k", "v")
    shutil.rmtree(tmp_path / "gone")
    child = start(lambda say: (kv.put("k", "child"), say(kv.get("k"))))
    assert child.end() == ["child"]
    assert kv.get("k") == "child"


def test_the_lock_of_a_process_dies_with_it_and_not_with_its_children(directory, start, open_):
    open_()

    def hold(say):
        with write_lock(directory / "write.lock"):
            child = os.fork()  # lives on, with nothing of the lock
            if child:
                say(child)
            signal.pause()

    holder = start(hold)
    child = int(holder.said.readline())
    os.kill(holder.pid, signal.SIGKILL)
    try:
        SyncKVNamespace(open_()).put("k", "v")
    finally:
        os.kill(child, signal.SIGKILL)


async def test_writes_to_a_closed_store_are_refused(kv, store):
    await kv.put("k", "v")
    store.close()
    with pytest.raises(Exception, match="settings is closed"):
        await kv.put("k", "w")
    assert await kv.get("k") == "v"
