"""The demonstration's judgement: what it must find wrong, it finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from examples.demo import promises
from examples.demo.clients import Answer, Round

OWNED = [range(8), range(8, 16)]
PIDS = [{100}, {101}]
NAMES = ["a", "b", "c", "d"]


def answer(room: str, visits: int, instance: str = "first") -> Answer:
    return Answer(
        room=room,
        id=str(promises.ROOMS.from_name(room)),
        instance=f"{instance} of {room}",
        pid=100 + promises.owner(room, OWNED),
        visits=visits,
        theme=None,
        at=float(visits),
        seconds=0.0,
    )


GOOD = [answer(room, visits) for visits in (1, 2, 3) for room in NAMES]
LOST = next(room for room in NAMES if promises.owner(room, OWNED) == 0)
KEPT = next(room for room in NAMES if promises.owner(room, OWNED) == 1)


def changed(room: str, visits: int, **to: object) -> list[Answer]:
    """The good answers, but one."""
    return [
        replace(each, **to) if (each.room, each.visits) == (room, visits) else each  # type: ignore[arg-type]
        for each in GOOD
    ]


def test_good_answers_break_no_promise() -> None:
    assert promises.one_live_instance(GOOD) == []
    assert promises.where_its_slot_says(GOOD, PIDS, OWNED) == []
    assert promises.every_visit_counted({}, Round(GOOD)) == []


def test_a_second_instance_of_a_room_is_found() -> None:
    assert promises.one_live_instance(changed("a", 2, instance="other")) == [
        "room a was 2 instances"
    ]


def test_an_instance_that_is_two_rooms_is_found() -> None:
    shared = [replace(each, instance="only") for each in GOOD if each.room in {"a", "b"}]
    assert promises.one_live_instance(shared) == ["rooms b and a were one"]


def test_an_answer_from_another_host_is_found() -> None:
    broken = promises.where_its_slot_says(changed(KEPT, 2, pid=100), PIDS, OWNED)
    assert broken == [f"room {KEPT} of host 1 answered from process 100"]


def test_a_wrong_id_is_found() -> None:
    broken = promises.where_its_slot_says(changed("a", 2, id="00"), PIDS, OWNED)
    assert broken == ["room a has the id 00"]


@pytest.mark.parametrize(
    ("before", "numbers", "failed", "broken"),
    [
        (0, [1, 2, 3], 0, []),
        (7, [8, 9], 0, []),
        (0, [1, 1, 2], 0, ["room a gave a number twice"]),
        (7, [7, 8], 0, ["room a had 7 visits and then gave number 7"]),
        (7, [1, 2], 0, ["room a had 7 visits and then gave number 1"]),
        (0, [1, 3], 1, []),
        (0, [2, 3], 1, []),
        (0, [1, 4], 1, ["room a skipped 2 numbers for 1 failed requests"]),
        (0, [1, 3], 0, ["room a skipped 1 numbers for 0 failed requests"]),
    ],
)
def test_a_visit_lost_or_counted_twice_is_found(
    before: int, numbers: list[int], failed: int, broken: list[str]
) -> None:
    round_ = Round([answer("a", number) for number in numbers], Counter(a=failed))
    assert promises.every_visit_counted({"a": before}, round_) == broken


def test_after_a_host_died_only_its_rooms_begin_anew() -> None:
    def broken(*after: Answer) -> list[str]:
        return promises.only_lost_rooms_began_anew(GOOD, after, old=100, new=200)

    old, kept = answer(LOST, 4), answer(KEPT, 4)
    new = replace(answer(LOST, 5, "second"), pid=200)
    assert broken(old, new, kept) == []
    assert broken(new, kept) == []
    for wrong in (
        [old],  # it never came back
        [new, replace(old, visits=6)],  # the dead one answered again
        [replace(new, pid=101)],
        [replace(new, instance=old.instance)],
        [new, replace(answer(LOST, 6, "third"), pid=200)],
        [replace(kept, instance="second")],  # another host's room began anew
        [replace(kept, pid=200)],
    ):
        assert len(broken(*wrong)) == 1
