"""What Roost promises of the rooms, checked against what the clients were told.

Pure functions of the answers. Each returns the ways in which its promise was broken, as sentences;
an empty list is a promise kept.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Final

from runtime.ids import NamespaceKey, slot_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from examples.demo.clients import Answer, Round

ROOMS: Final = NamespaceKey("rooms-Room")
"""Makes the ids of the class Room of the worker rooms."""


def by_room(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Return the answers of each room, in the order of its visits."""
    rooms = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: answer.visits):
        rooms[answer.room].append(answer)
    return dict(rooms)


def owner(room: str, owned: Sequence[Collection[int]]) -> int:
    """Return the number of the host that a room belongs to, by its name and the slots of each host."""
    slot = slot_of(ROOMS.from_name(room).raw, sum(map(len, owned)))
    return next(host for host, slots in enumerate(owned) if slot in slots)


def one_live_instance(answers: Iterable[Answer]) -> list[str]:
    """Every room has one instance, and no instance is two rooms."""
    broken = []
    seen: dict[str, str] = {}
    for room, own in by_room(answers).items():
        instances = {answer.instance for answer in own}
        if len(instances) != 1:
            broken.append(f"room {room} was {len(instances)} instances")
        broken += [f"rooms {room} and {seen[i]} were one" for i in instances if i in seen]
        seen |= dict.fromkeys(instances, room)
    return broken


def where_its_slot_says(
    answers: Iterable[Answer], pids: Sequence[set[int]], owned: Sequence[Collection[int]]
) -> list[str]:
    """Every answer came from the host that the room's id belongs to.

    `pids` are the processes that were each host, by its number; `owned` are its slots.
    """
    broken = []
    for room, own in by_room(answers).items():
        expected = str(ROOMS.from_name(room))
        host = owner(room, owned)
        broken += [f"room {room} has the id {a.id}" for a in own if a.id != expected]
        broken += [
            f"room {room} of host {host} answered from process {answer.pid}"
            for answer in own
            if answer.pid not in pids[host]
        ]
    return broken


def every_visit_counted(before: Mapping[str, int], round_: Round) -> list[str]:
    """Every visit got a number of its own and none is missing, starting from those `before`.

    A request that got no answer may have been counted or not, so so many numbers may be missing.
    """
    broken = []
    for room, own in by_room(round_.answers).items():
        first, failed = before.get(room, 0) + 1, round_.failed[room]
        numbers = [answer.visits for answer in own]
        if len(set(numbers)) != len(numbers):
            broken.append(f"room {room} gave a number twice")
        if numbers[0] < first:
            broken.append(f"room {room} had {first - 1} visits and then gave number {numbers[0]}")
        missing = numbers[-1] - (first - 1) - len(numbers)
        if missing > failed:
            broken.append(f"room {room} skipped {missing} numbers for {failed} failed requests")
    return broken


def only_lost_rooms_began_anew(
    before: Iterable[Answer], after: Iterable[Answer], old: int, new: int
) -> list[str]:
    """Rooms of the process that died (`old`) have one new instance, in `new`; others are as before.

    A lost room may have answered from its old process first, but never again after the new one.
    """
    broken = []
    was = {room: _who(own[-1]) for room, own in by_room(before).items()}
    for room, own in by_room(after).items():
        history = [who for who, _ in groupby(own, _who)]
        if was[room][1] != old:
            holds = history == [was[room]]
        else:
            begun = history[1:] if history[0] == was[room] else history
            holds = len(begun) == 1 and begun[0][0] != was[room][0] and begun[0][1] == new
        if not holds:
            broken.append(f"room {room} was {was[room]}, then {history}")
    return broken


def _who(answer: Answer) -> tuple[str, int]:
    return answer.instance, answer.pid
