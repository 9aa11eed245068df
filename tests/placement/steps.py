"""Stops the processes of an instance at each step of a slot's move, so that a test can kill one there.

`install` is called by a supervisor, whose hosts inherit it, and by a caller. A process that comes to a
step says so to the test, on the socket that `STEPS` names in the environment, and waits until it is told
to go on.
"""

import functools
import os
import socket

from runtime import control, roster
from runtime.host.alarms import Alarms
from runtime.host.handover import Handover
from runtime.host.slots import Slots
from runtime.roster import Roster
from runtime.storage.slot_file import SlotFile
from runtime.supervisor import restarts
from runtime.wire.parked import Placement

SLOT = 3
"""The slot that moves."""


def step(name):
    with socket.socket(socket.AF_UNIX) as test:
        try:
            test.connect(os.environ["STEPS"])
            test.sendall(f"{os.getpid()} {name}\n".encode())
            test.recv(1)
        except OSError:  # the test has ended
            pass


def stop(owner, attribute, before="", after="", *, when=lambda *_: True):
    """Make a function a step, or two, where its arguments concern the slot."""
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def stopping(*args, **kwargs):
        concerned = when(*args)
        if concerned and before:
            step(before)
        result = function(*args, **kwargs)
        if concerned and after:
            step(after)
        return result

    setattr(owner, attribute, stopping)


class Count:
    """What writes the count of the slot table's changes: a struct's own functions cannot be replaced."""

    def __init__(self, count):
        self.unpack_from = count.unpack_from
        self.pack_into = count.pack_into


def install():
    """Make the steps."""
    supervise()
    give()
    take()


def supervise():
    def says(*which):
        return lambda _to, verb, text="": (verb, text.isdigit()) == which

    stop(control, "say", "orders it", "has ordered it", when=says("give", True))
    stop(Roster, "set_owner", "writes the table")
    roster._CHANGES = Count(roster._CHANGES)
    stop(roster._CHANGES, "pack_into", "counts the change")
    stop(control, "say", "tells the old host", "has told the old host", when=says("moved", True))
    stop(control, "say", "tells who asked", "has told who asked", when=says("moved", False))
    restarts.QUICK = 0.0  # so many are killed


def give():
    stop(Handover, "give", "is told to give")
    stop(Handover, "_begin", after="refuses calls")
    stop(Handover, "_given", "has nothing under way")
    stop(Slots, "release", "lets go", "has let go")
    stop(SlotFile, "_closing", "catches up", "has caught up", when=is_its_file)
    stop(control, "say", "says so", "has said so", when=lambda _to, verb, *_: verb == "gave")
    stop(Handover, "moved", "hears that it is gone", "has answered all")
    stop(Handover, "fence", "is asked for its last word", "was asked for its last word")


def take():
    def parks(placement, slot):
        return slot == SLOT and slot not in placement.parked

    def finds(alarms, slot):
        return slot == SLOT and slot not in alarms._heaps and alarms._slots.owns(slot)

    stop(Placement, "_park", "parks its calls", when=parks)
    stop(Placement, "_settled", "sends its calls", "has sent its calls")
    stop(Alarms, "_heap", "finds it", when=finds)
    stop(SlotFile, "__init__", "opens it", "has opened it", when=is_its_path)


def is_its_file(file):
    return is_its_path(file, file.path)


def is_its_path(_file, path):
    return path.stem == f"{SLOT:05}"
