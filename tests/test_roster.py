"""The shared table: two halves a row, each with one writer; seen by everybody at once."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.roster import End, Figures, HotObject, Identity, Roster, State, describe_loss, endpoint
from runtime.status import status_of

words = st.integers(0, 2**32 - 1)
longs = st.integers(0, 2**64 - 1)
identities = st.builds(Identity, words, words, st.sampled_from(State), st.sampled_from(End), words)
figures = st.builds(Figures, *[longs] * 6)


@pytest.fixture
def roster(tmp_path):
    roster = Roster.create(tmp_path / "roster", hosts=3, slots=16)
    yield roster
    roster.close()


def write(roster, host, row):
    roster.set_figures(
        host,
        row.calls,
        row.activations,
        row.waiting,
        row.busy_ns,
        row.event_started_ns,
        row.beat_ns,
    )


def test_a_new_table_says_who_made_it_and_that_nobody_is_up(roster):
    assert (roster.hosts, roster.slots, roster.supervisor) == (3, 16, os.getpid())
    for host in range(3):
        assert roster.identity(host) == Identity(0, 0, State.DOWN, End.DIED)
        assert roster.figures(host) == Figures()


@given(st.data())
def test_what_one_process_writes_the_others_see_and_no_half_disturbs_another(
    tmp_path_factory, data
):
    path = tmp_path_factory.mktemp("roster") / "roster"
    supervisor = Roster.create(path, hosts=3, slots=4)
    reader = Roster.open(path)
    who = [Identity(0, 0, State.DOWN, End.DIED)] * 3
    how = [Figures()] * 3
    for _ in range(data.draw(st.integers(1, 10))):
        host = data.draw(st.integers(0, 2))
        if data.draw(st.booleans()):
            who[host] = data.draw(identities)
            supervisor.set_identity(host, who[host])
        else:
            how[host] = data.draw(figures)
            write(Roster.open(path), host, how[host])
        assert [reader.identity(number) for number in range(3)] == who
        assert [reader.figures(number) for number in range(3)] == how
    assert (reader.hosts, reader.slots) == (3, 4)


def test_the_table_is_its_user_s_alone_and_made_once(tmp_path, roster):
    path = tmp_path / "roster"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Roster.create(path, 1, 1)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\0" * 128, b"roost-r0" + b"\0" * 120, b"x" * 4096]
)
def test_what_is_no_roster_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  the system's words for an empty file
        Roster.open(path)


def test_a_table_that_is_not_whole_or_not_there_is_refused(tmp_path, roster):
    path = tmp_path / "roster"
    (tmp_path / "part").write_bytes(path.read_bytes()[:256])
    with pytest.raises(ValueError, match="not whole"):
        Roster.open(tmp_path / "part")
    with pytest.raises(FileNotFoundError):
        Roster.open(tmp_path / "none")


def test_the_end_of_a_host_is_told_as_it_was():
    died = Identity(0, 3, State.DOWN, End.DIED)
    overran = Identity(0, 3, State.DOWN, End.OVERRAN)
    assert describe_loss(1, 2, died) == "host 1 died"
    assert describe_loss(1, 1, overran) == "host 1 died"  # it is a later one that overran
    assert "ran over its CPU limit (`cpu_ms`)" in describe_loss(1, 2, overran)


def test_generations_that_left_one_after_the_other_all_left_in_order():
    now = Identity(0, 5, State.DOWN, End.LEFT, left_from=3)
    assert [g for g in range(1, 7) if now.left_in_order(g)] == [3, 4]
    assert not Identity(0, 5, State.DOWN, End.DIED, left_from=3).left_in_order(4)


def test_a_call_asks_only_which_generation_takes_calls(roster):
    for state in State:
        roster.set_identity(2, Identity(1, 7, state, End.DIED))
        assert roster.generation_up(2) == (7 if state is State.UP else 0)


def test_each_generation_listens_at_a_place_of_its_own(tmp_path):
    places = {endpoint(tmp_path, host, generation) for host in (0, 1, 11) for generation in (1, 11)}
    assert len(places) == 6
    assert all(place.startswith(f"ipc://{tmp_path}/") for place in places)


def test_slots_are_dealt_out_in_turn_and_who_looks_sees_what_has_moved(tmp_path, roster):
    reader = Roster.open(tmp_path / "roster")
    assert list(reader.owners) == [slot % 3 for slot in range(16)]
    assert reader.changes == 0
    roster.set_owner(4, 2)
    roster.set_owner(15, 1)
    assert reader.changes == 2
    assert [(slot, host) for slot, host in enumerate(reader.owners) if host != slot % 3] == [
        (4, 2),
        (15, 1),
    ]
    assert [row.slots for row in status_of(reader)] == [5, 5, 6]
    assert reader.identity(2) == Identity(0, 0, State.DOWN, End.DIED)
    reader.close()


def test_the_busiest_objects_of_each_host_are_told(roster, tmp_path):
    hot = [HotObject("Room", bytes([n] * 32).hex(), f"room {n}", 1 / n) for n in range(1, 6)]
    unnamed = HotObject("Räume", "ff" * 32, None, 0.25)
    roster.set_hot(1, hot)
    roster.set_hot(2, [unnamed])
    roster.busy[3] += 7
    reader = Roster.open(tmp_path / "roster")
    assert [reader.hot(host) for host in range(3)] == [[], hot, [unnamed]]
    assert [row.busiest for row in status_of(reader)] == [(), tuple(hot), (unnamed,)]
    assert list(reader.busy) == [0, 0, 0, 7] + [0] * 12
    roster.set_hot(1, hot[:1])
    assert reader.hot(1) == hot[:1]
    roster.set_hot(2, [HotObject("Room", "ff" * 32, "é" * 100, 0.5)])
    assert reader.hot(2)[0].name.startswith("é" * 20)
    assert list(reader.owners) == [slot % 3 for slot in range(16)]
    reader.close()


def test_status_shows_both_halves_in_seconds_and_words(roster):
    roster.set_identity(1, Identity(77, 2, State.UP, End.DIED))
    write(roster, 1, Figures(calls=5, activations=4, waiting=3, busy_ns=1_500_000_000))
    rows = status_of(roster)
    assert [row.host for row in rows] == [0, 1, 2]
    assert [row.slots for row in rows] == [6, 5, 5]
    row = rows[1]
    assert (row.pid, row.generation, row.state) == (77, 2, "up")
    assert (row.calls, row.objects, row.waiting, row.busy_s, row.event_s) == (5, 4, 3, 1.5, 0.0)
    write(roster, 1, Figures(event_started_ns=1))
    assert status_of(roster)[1].event_s > 0
