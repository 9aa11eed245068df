"""Renamed classes keep their objects; deleted ones lose them; both happen once, whatever is killed."""

import json
import signal
import subprocess
import sys
import time

import pytest

from runtime import Runtime
from runtime.config import load
from runtime.ids import NamespaceKey
from runtime.migrations import migrate
from workers.errors import ConfigError

CHAT = "new_sqlite_classes = ['Chat']"
KV_CHAT = "new_classes = ['Chat']"
TO_ROOM = "renamed_classes = [{from = 'Chat', to = 'Room'}]"
TO_HALL = "renamed_classes = [{from = 'Room', to = 'Hall'}]"
GONE = "deleted_classes = ['Chat']"
FAR = 4_000_000_000_000
NAMES = [f"n{number}" for number in range(40)]


def fill(rt, binding="Chat", names=NAMES):
    """Store something in objects; in every second one with SQL, in every fourth an alarm."""
    for number, name in enumerate(names):
        stub = rt.env[binding].getByName(name)
        if number % 2:
            stub.put_sql(name)
        else:
            stub.put(name)
        if number % 4 < 2:
            stub.wake_at(FAR)


def check(rt, binding, names=NAMES):
    """What `fill` stored is there."""
    for number, name in enumerate(names):
        stub = rt.env[binding].getByName(name)
        assert stub.get() == (binding, name)
        if number % 2:
            assert stub.get_sql() == name
        assert stub.wakes_at() == (FAR if number % 4 < 2 else None)


def listed(rt):
    return {(record.class_name, record.name) for record in rt.objects()}


def test_a_renamed_class_has_the_objects_of_the_old_one(worker):
    with worker.run("Chat", CHAT) as rt:
        fill(rt)
        ids = [str(rt.env.Chat.idFromName(name)) for name in NAMES]
        unique = rt.env.Chat.newUniqueId()
        rt.env.Chat.get(unique).put("unique")
    with worker.run("Room", CHAT, TO_ROOM) as rt:
        assert [str(rt.env.Room.idFromName(name)) for name in NAMES] == ids
        check(rt, "Room")
        assert rt.env.Room.get(rt.env.Room.idFromString(str(unique))).get() == ("Room", "unique")
        assert listed(rt) == {("Room", name) for name in (*NAMES, None)}
    with worker.run("Hall", CHAT, TO_ROOM, TO_HALL) as rt:  # and once more
        check(rt, "Hall")


def test_an_alarm_rings_in_the_renamed_class(worker):
    with worker.run("Chat", CHAT) as rt:
        rt.env.Chat.getByName("a").put_sql("before")
        rt.env.Chat.getByName("a").wake_at(int(time.time() * 1000) + 500)
    with worker.run("Room", CHAT, TO_ROOM) as rt:
        a = rt.env.Room.getByName("a")
        while a.get() != ("Room", "rang"):
            pass


def test_a_deleted_class_leaves_nothing(worker):
    with worker.run("Chat Room", CHAT, "new_sqlite_classes = ['Room']") as rt:
        fill(rt)
        rt.env.Room.getByName("stays").put_sql("here")
    steps = CHAT, "new_sqlite_classes = ['Room']", GONE
    with worker.run("Room", *steps) as rt:
        assert listed(rt) == {("Room", "stays")}
        assert rt.env.Room.getByName("stays").get_sql() == "here"
    (own,) = worker.data.glob("objects/*/*.sqlite")
    assert own.stem == str(NamespaceKey("w-Room").from_name("stays"))
    with worker.run("Chat Room", *steps, CHAT) as rt:  # the name may be used again
        assert rt.env.Chat.getByName("n1").get() == ("Chat", None)
        assert rt.env.Chat.getByName("n1").wakes_at() is None


def test_a_class_may_change_its_backend_by_being_deleted(worker):
    with worker.run("Chat", KV_CHAT) as rt:
        fill(rt, names=NAMES[:1])
    with worker.run("Chat", KV_CHAT, f"{GONE}\n{CHAT}") as rt:
        assert rt.env.Chat.getByName("n0").get() == ("Chat", None)
        rt.env.Chat.getByName("n0").put_sql("new")
    with worker.run("Chat", KV_CHAT, f"{GONE}\n{CHAT}") as rt:  # once, not at every start
        assert rt.env.Chat.getByName("n0").get_sql() == "new"


def test_classes_may_exchange_their_names_and_a_name_may_have_a_new_class(worker):
    both = "new_sqlite_classes = ['Chat', 'Room']"
    swap = (
        "renamed_classes = [{from='Chat', to='T'}, {from='Room', to='Chat'}, {from='T', to='Room'}]"
    )
    with worker.run("Chat Room", both) as rt:
        rt.env.Chat.getByName("a").put("was chat")
        rt.env.Room.getByName("a").put("was room")
    with worker.run("Chat Room", both, swap) as rt:
        assert rt.env.Chat.getByName("a").get() == ("Chat", "was room")
        assert rt.env.Room.getByName("a").get() == ("Room", "was chat")
    on = "renamed_classes = [{from='Room', to='Hall'}]\nnew_sqlite_classes = ['Room']"
    with worker.run("Chat Room Hall", both, swap, on) as rt:
        assert rt.env.Hall.getByName("a").get() == ("Hall", "was chat")
        assert rt.env.Chat.getByName("a").get() == ("Chat", "was room")
        assert rt.env.Room.getByName("a").get() == ("Room", None)
        ids = {str(rt.env[name].idFromName("a")) for name in ("Chat", "Room", "Hall")}
        assert len(ids) == 3


def test_a_history_that_is_written_down_later_takes_the_objects_that_are_there(worker):
    with worker.run("Chat") as rt:
        fill(rt, names=NAMES[:4])
    (worker.data / "migrations.json").unlink()  # also those of a version that kept no record
    with worker.run("Room", CHAT, TO_ROOM) as rt:
        check(rt, "Room", NAMES[:4])


def test_what_was_done_is_told_once(worker):
    with worker.run("Chat", CHAT) as rt:
        fill(rt, names=NAMES[:3])
    config = load(worker.bind("Room", CHAT, TO_ROOM))
    assert migrate(config, worker.data) == [
        "migrated: class Chat is renamed to Room, with 3 objects, their ids, data and alarms"
    ]
    assert migrate(config, worker.data) == []


def test_environments_share_a_directory_and_no_objects(worker):
    with worker.run("Chat", CHAT) as rt:
        fill(rt, names=NAMES[:2])
    config = worker.bind("Chat", CHAT)
    text = config.read_text().replace("name = 'w'", "name = 'w2'", 1)
    config.write_text(text)
    with Runtime(config, hosts=1) as rt:
        rt.env.Chat.getByName("n0").put("other")
    with worker.run("", CHAT, GONE):
        pass
    config.write_text(text)
    with Runtime(config, hosts=1) as rt:
        assert rt.env.Chat.getByName("n0").get() == ("Chat", "other")
        assert len(rt.objects()) == 1


# --- what is refused ------------------------------------------------------------------------------


REFUSED = {
    "a migration is gone": (
        ("Room", CHAT, TO_ROOM),
        ("Room", "new_sqlite_classes = ['Room']"),
        "migration 'v2' was applied in this data directory, and the config has it no more",
    ),
    "all are gone, and the ids would be others": (
        ("Room", CHAT, TO_ROOM),
        ("Room",),
        "the ids of class Room were made from 'Chat', and by this config",
    ),
    "to SQLite": (
        ("Chat", KV_CHAT),
        ("Chat", CHAT),
        "class Chat was created with new_classes, has",
    ),
    "from SQLite": (("Chat",), ("Chat", KV_CHAT), "class Chat was created with new_sqlite_cl"),
    "onto objects": (
        ("Chat Room",),
        ("Room", CHAT, TO_ROOM),
        "migration 'v2' renames Chat to Room, which has objects already",
    ),
}


@pytest.mark.parametrize(("before", "after", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_lose_objects_is_refused(worker, before, after, why):
    with worker.run(*before) as rt:
        for name in before[0].split():
            fill(rt, name, NAMES[:1])
    kept = (worker.data / "migrations.json").read_bytes()
    with pytest.raises(ConfigError, match=why):
        worker.run(*after)
    assert (worker.data / "migrations.json").read_bytes() == kept
    with worker.run(*before) as rt:
        for name in before[0].split():
            check(rt, name, NAMES[:1])


@pytest.mark.parametrize("case", ["to SQLite", "from SQLite", "onto objects"])
def test_it_is_not_refused_where_there_are_no_objects(worker, case):
    before, after, _ = REFUSED[case]
    worker.run(*before).close()
    with worker.run(*after) as rt:
        fill(rt, after[0], NAMES[:1])


def test_a_migration_put_before_one_that_was_applied_is_refused(worker):
    worker.run("Chat", CHAT).close()
    config = worker.bind("Chat", "new_classes = ['Other']", CHAT)
    text = config.read_text().replace("'v1'", "'v0'").replace("'v2'", "'v1'")
    config.write_text(text)
    with pytest.raises(ConfigError, match="'v0' stands before 'v1', which was applied"):
        migrate(load(config), worker.data)


def test_a_class_that_nobody_names_is_left_alone_and_told(worker):
    with worker.run("Chat Room") as rt:
        fill(rt, names=NAMES[:2])
    config = load(worker.bind("Room"))
    for _ in range(2):
        (line,) = migrate(config, worker.data)
        assert line.startswith("class Chat has objects in ")
    with worker.run("Chat Room") as rt:
        check(rt, "Chat", NAMES[:2])
    config = load(worker.bind("Chat"))  # Room never had an object
    assert migrate(config, worker.data) == []


def test_a_record_that_cannot_be_read_is_refused(worker):
    worker.run("Chat", CHAT).close()
    path = worker.data / "migrations.json"
    kept = json.loads(path.read_bytes())
    path.write_text(json.dumps(kept | {"format": 99}))
    with pytest.raises(ConfigError, match="was written by a newer Roost"):
        worker.run("Chat", CHAT)
    for broken in ("{", "[]", '{"format": 1, "workers": {"w": {"applied": []}}}'):
        path.write_text(broken)
        with pytest.raises(ConfigError, match="cannot be read"):
            worker.run("Chat", CHAT)


# --- kills ----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import runtime.migrations as migrations
import runtime.storage.slot_file as slot_file
from runtime import Runtime
from runtime.config import load
left = [int(sys.argv[3])]

def killing(function):
    def wrapped(*args, **kwargs):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*args, **kwargs)
    return wrapped

migrations._AT_ONCE = 1
for owner, name in [
    (migrations, "save"), (migrations, "remove_parts"), (migrations, "sync_directory"),
    (slot_file.SlotFile, "commit"), (slot_file.SlotFile, "rename"), (slot_file.SlotFile, "shrink"),
]:
    setattr(owner, name, killing(getattr(owner, name)))
migrations.migrate(load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("bound", "step"),
    [("Room", TO_ROOM), ("", GONE)],
    ids=["renaming", "deleting"],
)
def test_a_kill_at_any_step_is_finished_by_the_next_start(worker, bound, step):
    names = NAMES[:4]
    with worker.run("Chat Other", CHAT, "new_classes = ['Other']") as rt:
        fill(rt, names=names)
        rt.env.Other.getByName("o").put("here")
    old = load(worker.bind("Chat Other", CHAT, "new_classes = ['Other']"))
    after = (f"{bound} Other", CHAT, "new_classes = ['Other']", step)
    config = worker.bind(*after)
    program = [sys.executable, "-c", KILLED, config, worker.data]
    kills = 0
    while True:  # each attempt goes a step further than where the one before was killed
        done = subprocess.run([*program, str(kills)], check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        if kills > 1:  # something was begun: the old config would meet half of it
            with pytest.raises(ConfigError, match="'v3' was begun, and must be finished"):
                migrate(old, worker.data)
    assert kills > 4
    assert migrate(load(config), worker.data) == []
    with worker.run(*after) as rt:
        assert rt.env.Other.getByName("o").get() == ("Other", "here")
        if bound:
            check(rt, bound, names)
            assert len(rt.objects("Room")) == 4
        else:
            assert listed(rt) == {("Other", "o")}
            assert not list(worker.data.glob("objects/*/*"))
