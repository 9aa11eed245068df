"""A program whose objects, arguments and exceptions are of classes from everywhere."""

import asyncio
import enum
import json
import sys
from dataclasses import dataclass

from neighbour import Parcel, Scales

from runtime import Runtime
from workers import DurableObject, Response, WorkerEntrypoint


class Colour(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: int


class OutOfPaintError(Exception):
    def __init__(self, colour, left):
        super().__init__(f"no {colour.name} left")
        self.colour = colour
        self.left = left


RATE = 3


class Painter(DurableObject):
    def move(self, point):
        assert isinstance(point, Point)
        return Point(point.x + RATE, point.y)

    def paint(self, colour):
        if colour is Colour.RED:
            raise OutOfPaintError(colour, left=[Point(0, 1)])
        return colour


def make(factor):
    class Multiplier(DurableObject):
        def times(self, value):
            return helper(value)

    def helper(value):
        return value * factor

    return Multiplier


class Front(WorkerEntrypoint):
    async def fetch(self, request):
        return Response.json([await self.env.MULTIPLIERS.getByName("a").times(2), request.url])


said = {}
with Runtime(
    objects={"PAINTERS": Painter, "SCALES": Scales, "MULTIPLIERS": make(7)},
    entrypoint=Front,
    data_dir=sys.argv[1],
    hosts=2,
) as rt:
    painter = rt.env.PAINTERS.getByName("a")
    moved = painter.move(Point(1, 2))
    said["an instance"] = type(moved) is Point and moved == Point(4, 2)
    try:
        painter.paint(Colour.RED)
    except OutOfPaintError as error:
        said["an exception"] = [str(error), error.colour is Colour.RED, error.left == [Point(0, 1)]]
        said["its traceback"] = "in paint" in error.remote_traceback
        said["its object"] = error.durable_object_id == str(painter.id)
    said["a module"] = rt.env.SCALES.getByName("a").weigh([Parcel(1), Parcel(2)]) == Parcel(3)
    said["a function"] = rt.env.MULTIPLIERS.getByName("a").times(6)
    said["an entrypoint"] = asyncio.run(rt.fetch("http://house/path").json())
print(json.dumps(said))
