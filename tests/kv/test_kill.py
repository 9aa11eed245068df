"""What was answered survives SIGKILL of a writer at any point, and no orphan stays."""

import random
from contextlib import closing

from runtime.kv import SyncKVNamespace, open_store

from .conftest import die_at_line

OLD, NEW = "o" * 150_000, "n" * 150_000
ROUNDS = 12


def write_for_ever(directory, number, say):
    kv = SyncKVNamespace(open_store(directory))
    while True:
        number += 1
        kv.put("large", f"{number:06}" * 25_000)
        kv.put(f"n{number:06}", f"{number}", metadata=number)
        kv.delete(f"n{number - 20:06}")
        say(number)


def test_every_answered_write_is_there_after_a_kill(fast_directory, start):
    chance, last, answered, unsure = random.Random(3), 0, set(), set()
    for _ in range(ROUNDS):
        writer = start(write_for_ever, fast_directory, last)
        said = [writer.said.readline() for _ in range(chance.randint(1, 30))] + writer.kill()
        answered.update(map(int, said))
        last = max(answered)
        with closing(open_store(fast_directory)) as store:
            kv = SyncKVNamespace(store)
            assert kv.get("large") in (f"{last:06}" * 25_000, f"{last + 1:06}" * 25_000)
            assert kv.get(f"n{last:06}") == f"{last}"
            there = {int(item.name[1:]) for item in kv.list(prefix="n")["keys"]}
            store.tidy()
            assert len(list((fast_directory / "values").iterdir())) == 1
        gone = {number - 20 for number in answered}
        assert not there & gone
        last += 1  # may be half written: its key, or the delete of another
        unsure |= {last, last - 20}
        assert there - unsure == answered - gone - unsure


def overwrite(directory, line, say):
    kv = SyncKVNamespace(open_store(directory))
    die_at_line(line)
    kv.put("k", NEW, metadata="new")
    say("answered")


def test_a_kill_at_any_line_leaves_the_old_value_or_the_new_and_one_file(fast_directory, start):
    directory, line, outcomes = fast_directory, 0, set()
    while True:
        line += 2
        with closing(open_store(directory)) as store:
            SyncKVNamespace(store).put("k", OLD, metadata="old")
        writer = start(overwrite, directory, line)
        answered = writer.end() == ["answered"]
        with closing(open_store(directory)) as store:
            found = SyncKVNamespace(store).get_with_metadata("k")
            assert found.value == {"old": OLD, "new": NEW}[found.metadata]
            assert found.metadata == "new" or not answered
            store.tidy()
            assert len(list((directory / "values").iterdir())) == 1
        outcomes.add((found.metadata, answered))
        if writer.status == 0:
            break
    # Kills met both sides of the commit, and the time between it and the answer.
    assert outcomes == {("old", False), ("new", False), ("new", True)}


def create(directory, line, say):
    die_at_line(line, this_thread=True)
    with closing(open_store(directory)) as store:
        SyncKVNamespace(store).put("k", "v")


def test_a_kill_at_any_line_of_creation_hinders_nobody(fast_directory, start):
    line, status = 0, None
    while status != 0:
        line += 3
        directory = fast_directory / f"ns{line}"
        creator = start(create, directory, line)
        creator.end()
        status = creator.status
        with closing(open_store(directory)) as store:
            kv = SyncKVNamespace(store)
            assert kv.get("k") in (None, "v")
            kv.put("k", "w")
            assert kv.get("k") == "w"
    assert line > 100
