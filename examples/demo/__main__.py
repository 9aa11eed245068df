"""`python -m examples.demo`: serve the rooms example, drive it, and hold it to what Roost promises.

It starts `roost dev` like a user, visits 100 rooms with 64 concurrent clients, kills a host amid a
second round of visits, stops the server, and tells after each step which promises were kept. Exit
code 1 if one was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from examples.demo import promises
from examples.demo.clients import Round, refusal, visit
from examples.demo.server import NotServingError, Server, started
from examples.demo.story import Story
from examples.demo.traces import Traces
from runtime import Runtime, connect
from runtime.directories import mark_of, run_directory

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER: Final = Path(__file__).parents[1] / "rooms"
ROOMS: Final = [f"room-{number}" for number in range(100)]
CLIENTS: Final = 64
HOSTS: Final = 2
THEME: Final = "dark"


def main() -> int:
    """Tell the whole story; return the exit code."""
    began = time.monotonic()
    story = Story()
    with (
        tempfile.TemporaryDirectory(prefix="roost-demo-") as folder,
        contextlib.ExitStack() as ends,
    ):
        data = Path(folder) / "data"
        try:
            server = ends.enter_context(started(FOLDER, data, HOSTS))
        except NotServingError as error:
            story.promise("roost dev comes up", [error])
            return story.end(time.monotonic() - began)
        traces = Traces(run_directory(data), mark_of(data))
        ends.callback(traces.close)
        story.step("roost dev", f"in {os.path.relpath(FOLDER)}, with {HOSTS} hosts")
        story.fact(f"ready on {server.url} after {time.monotonic() - began:.2f} s")
        with connect(data) as runtime:
            first = visit_rooms(story, server, runtime)
            kill_a_host(story, server, runtime, first, traces)
        stop(story, server, traces)
    return story.end(time.monotonic() - began)


def visit_rooms(story: Story, server: Server, runtime: Runtime) -> Round:
    """Let all clients visit all rooms, and check what they were told."""
    story.step(f"{CLIENTS} clients visit {len(ROOMS)} rooms", "GET /?roomId=room-0 and so on")
    runtime.env.SETTINGS.put("theme", THEME)
    round_ = _drive(story, server)
    answers = round_.answers
    hosts = runtime.status()
    owned = [host.owned for host in hosts]
    _tell_speed(story, round_)

    instances = {answer.instance for answer in answers}
    story.promise(
        "every room has exactly one live instance",
        promises.one_live_instance(answers),
        f"{len(instances)} instances in {len(answers):,} answers",
    )
    owners = Counter(promises.owner(room, owned) for room in ROOMS)
    story.promise(
        "it lives on the host that its slot says",
        promises.where_its_slot_says(answers, [{host.pid} for host in hosts], owned),
        ", ".join(f"{owners[host.host]} on host {host.host}" for host in hosts),
    )
    story.promise(
        "every visit is counted, and once",
        promises.every_visit_counted({}, round_),
        f"numbers 1 to {CLIENTS} in every room",
    )
    last = runtime.env.SETTINGS.get("last-room")
    story.promise(
        "rooms read and write Workers KV",
        [f"theme is {a.theme!r} in {a.room}" for a in answers if a.theme != THEME]
        + [f"last-room is {last!r}" for _ in range(last not in {a.id for a in answers})],
        f"theme: {THEME}",
    )
    status, text = asyncio.run(refusal(server.url))
    story.promise(
        "a request without a room is refused",
        [] if (status, "roomId" in text) == (400, True) else [f"{status} {text}"],
        f"{status}, {text[:11]}",
    )
    return round_


def kill_a_host(
    story: Story, server: Server, runtime: Runtime, first: Round, traces: Traces
) -> None:
    """Kill a host while all clients visit all rooms again, and check that it is made good."""
    hosts = runtime.status()
    victim = hosts[0]
    story.step("kill -9 of host 0", "while the same clients visit the same rooms again")
    traces.note(server.process.pid)
    killed = 0.0

    def kill() -> None:
        nonlocal killed
        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()

    round_ = _drive(story, server, at=CLIENTS * len(ROOMS) // 3, then=kill)
    answers = round_.answers
    traces.note(server.process.pid)
    successor = runtime.status()[0]
    owned = [host.owned for host in hosts]

    back = [answer.at - killed for answer in answers if answer.pid == successor.pid]
    story.promise(
        "its successor answers for its rooms",
        [] if back and successor.generation == 2 else [f"host 0 is {successor}"],
        f"{min(back, default=0) * 1000:.0f} ms later",
    )
    failed = round_.failed.total()
    before = {room: own[-1].visits for room, own in promises.by_room(first.answers).items()}
    story.promise(
        "no acknowledged visit is lost",
        promises.every_visit_counted(before, round_),
        f"{failed} unanswered ones made again",
    )
    pids = [{host.pid} for host in hosts]
    pids[0].add(successor.pid)
    story.promise(
        "every room is still where its slot says",
        promises.where_its_slot_says(answers, pids, owned),
        f"host 0 was pid {victim.pid}, is {successor.pid}",
    )
    new = len({a.instance for a in answers} - {a.instance for a in first.answers})
    story.promise(
        "only the lost rooms began anew, and once",
        promises.only_lost_rooms_began_anew(first.answers, answers, victim.pid, successor.pid),
        f"{new} new instances",
    )


def stop(story: Story, server: Server, traces: Traces) -> None:
    """Stop the server and look for what it left behind."""
    story.step("SIGTERM", "and a look at what it leaves behind")
    assert traces.run.is_dir()
    began = time.monotonic()
    code = server.stop()
    story.promise(
        "it ends in order",
        [] if code == 0 else [f"exit code {code}", *server.said],
        f"exit code {code} after {time.monotonic() - began:.2f} s",
    )
    story.promise("no process is left", traces.alive(), f"there were {traces.processes}")
    story.promise("the run directory is gone", [traces.run] * traces.run.exists(), traces.run.name)
    story.promise("nothing of it is left in /dev/shm", traces.shared_left())


def _drive(
    story: Story, server: Server, at: int = 0, then: Callable[[], None] = lambda: None
) -> Round:
    """Let the clients visit all rooms; call `then` when so many answers have come."""
    progress, move = story.bar(CLIENTS * len(ROOMS))

    def on_answer(answers: int) -> None:
        if answers % CLIENTS == 0:
            move(answers)
        if answers == at:
            then()

    with progress:
        return asyncio.run(visit(server.url, ROOMS, CLIENTS, on_answer))


def _tell_speed(story: Story, round_: Round) -> None:
    times = sorted(answer.seconds * 1000 for answer in round_.answers)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    story.fact(
        f"{len(times) / round_.seconds:,.0f} requests/s, latency p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
