"""`roost bench`: measure the calls of a worker's own objects."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import uvloop

from runtime.cli import common
from runtime.cli.gauge import Gauge
from runtime.cli.load import Load, Work
from runtime.cli.measured import Measured
from runtime.cli.script import bound, worker
from runtime.cli.table import say_json
from runtime.cli.used import Used
from runtime.client.async_runtime import AsyncRuntime, aconnect, started
from runtime.client.options import Options
from runtime.directories import DATA
from runtime.stubs import Method
from runtime.wire.link import Reply
from runtime.wire.timed import timed_caller
from workers.errors import RoostError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.config import Config

SECONDS: Final = 5.0
"""How long it measures, unless another time or a number of calls is asked for."""


@click.command()
@common.options(
    click.argument("script", type=click.Path(exists=True, path_type=Path)),
    click.option(
        "--object",
        "namespace",
        required=True,
        metavar="NAME",
        help="Whose method it is: a binding of the config, or the name of a class.",
    ),
    click.option("--method", required=True, metavar="NAME", help="What is called."),
    click.option(
        "--args",
        "arguments",
        default="[]",
        metavar="JSON",
        help="Arguments of every call: an array, or an object for those with names.",
    ),
    click.option(
        "--objects",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        metavar="N",
        help="How many objects are called.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        metavar="N",
        help="Calls under way at once.",
    ),
    click.option(
        "--rate",
        type=common.Number(min=0, min_open=True),
        metavar="N",
        help="Make so many calls a second, whatever becomes of those before.",
    ),
    click.option(
        "--random", "at_random", is_flag=True, help="Call objects at random, not in turn."
    ),
    click.option(
        "--duration",
        type=common.Number(min=0, min_open=True),
        metavar="SECONDS",
        help="How long. Default: 5, or until all --calls are answered.",
    ),
    click.option(
        "--calls", type=click.IntRange(min=1), metavar="N", help="End after so many calls."
    ),
    click.option(
        "--warmup",
        type=common.Number(min=0),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Before anything counts every object is called once, and then all for so long; 0: neither.",
    ),
    click.option(
        "--hosts", type=click.IntRange(min=1), metavar="N", help="Processes. Default: one a core."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    common.env_option,
    click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Where storage and KV live, and stay. Default: a new directory beside the config, for as "
        "long as it takes.",
    ),
)
def bench(script: Path, namespace: str, method: str, **given: Any) -> int:
    """Measure the calls of your own objects.

    Calls METHOD of many objects of SCRIPT, and says how many calls a second were answered and how
    long they took, what they cost of processor time, and where the time of a call goes.

    SCRIPT is a worker's folder, its config, or a Python file with Durable Object classes. Unless
    --data-dir names one, the data directory is a new one, on the same disk as yours and removed in
    the end, so that nothing that is stored is touched. The objects are named bench-0, bench-1 and so
    on. When an instance runs on the data directory that is named, its objects are called.

    The latency is from the making of a call to its answer, while as many calls as --concurrency says
    are always under way: a slow object is called less often. With --rate it is from when a call was
    due, which has the waiting of callers that do not wait for each other.

    \b
    wire        on the way, in both directions; with all that the caller does for it
    queue       in the host and the object's mailbox, until the method begins
    run         in the method, with all that it awaits
    commit      behind the output gate, until what the object wrote is durable
    late        with --rate: since it was due, because all places were taken

    Exit codes: 0 all calls returned, 1 some failed, or an error; 130 Ctrl-C, which ends it with what
    was measured so far.

    \b
    Examples:
      roost bench src/worker.py --object Counter --method increment
      roost bench . --object ROOMS --method score --args '[[1, 2, 3]]' --objects 1000
      roost bench . --object ROOMS --method score --concurrency 256 --duration 30 --hosts 8
      roost bench . --object ROOMS --method visit --args '{"who": "ada"}' --rate 2000 --json
    """
    if find_spec("hdrh") is None:
        raise RoostError("this needs the package hdrhistogram: pip install 'roost[measure]'")
    if method == "fetch":
        raise RoostError("methods are measured; of fetch(), see docs/performance.md for HTTP")
    config = worker(script, namespace, given["env"])
    bound(config, namespace)
    args, kwargs = _arguments(given["arguments"])
    return uvloop.run(_Bench(config, namespace, method, args, kwargs, given).run())


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that are given as JSON. Raises BadParameter."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="--args") from error
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    raise click.BadParameter(
        f"an array or an object is needed, such as [{text}]", param_hint="--args"
    )


@contextmanager
def _data(config: Config, given: Path | None) -> Iterator[Path]:
    """Return the data directory: the one that is given, or one that goes in the end."""
    if given is not None:
        yield given
        return
    root = config.root if os.access(config.root, os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix=f"{DATA}-bench-", dir=root, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@dataclass(slots=True)
class _Bench:
    """One run of the command."""

    config: Config
    namespace: str
    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    given: dict[str, Any]
    caught: int = 0
    """The signal that ends it."""
    load: Load | None = None
    """What is measured now."""

    async def run(self) -> int:
        """Do it. Returns the exit code."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, number, task)
        gauge, measured = Gauge(), None
        with _data(self.config, self.given["data_dir"]) as data:
            try:
                runtime = await self._open(data)
                try:
                    measured = await self._measure(runtime, gauge)
                finally:
                    self.load = None
                    gauge.close()
                    await runtime.close()
            except asyncio.CancelledError:
                if not self.caught:
                    raise
            finally:
                gauge.close()
        if measured is None:
            said = click.style("roost:", fg="red", bold=True)
            click.echo(f"{said} stopped before anything was measured", err=True)
            return 128 + self.caught
        if self.given["as_json"]:
            say_json(measured.as_json())
        else:
            measured.show()
        error = measured.load.first_error
        if error is not None:
            click.echo(f"\nthe first call that failed:\n{common.described(error)}", err=True)
        return 128 + self.caught if self.caught else 1 if error is not None else 0

    def _interrupt(self, number: int, task: asyncio.Task[Any]) -> None:
        self.caught = number
        if self.load is not None:
            self.load.stop()
        elif not task.cancelling():  # a second time, the instance's end would not be waited for
            task.cancel()

    async def _open(self, data: Path) -> AsyncRuntime:
        if self.given["data_dir"] is not None:
            with suppress(RuntimeClosed):
                return await aconnect(data)
        hosts = self.given["hosts"] or self.config.hosts or os.cpu_count() or 1
        return await started(Options(self.config, data, hosts, None, None, "error"))

    async def _measure(self, runtime: AsyncRuntime, gauge: Gauge) -> Measured:
        given = self.given
        config = runtime.connection.bindings.config
        work = self._work(runtime)
        facts = {
            "worker": config.name,
            "object": bound(config, self.namespace).class_name,
            "method": self.method,
            "objects": given["objects"],
            "order": "random" if given["at_random"] else "in turn",
            "concurrency": given["concurrency"],
            "rate": given["rate"],
            "hosts": runtime.connection.roster.hosts,
            "durability": config.durability,
        }
        if given["warmup"]:
            await self._warm_up(work, gauge)
        calls: int | None = given["calls"]
        seconds: float | None = given["duration"] or (None if calls else SECONDS)
        load = self._new_load(work, rate=given["rate"])
        gauge.follow(load, self.method, seconds=seconds, calls=calls)
        used = Used(runtime.status())
        load.on_end = lambda: used.taken(runtime.status())
        self.load = load
        await load.run(seconds=seconds, calls=calls)
        for waiter in runtime.connection.caller.unanswered():
            if isinstance(waiter, Reply):  # nobody waits for it any longer
                waiter.cancel()
        return Measured(facts, load, used.caller_ns, used.hosts)

    async def _warm_up(self, work: Work, gauge: Gauge) -> None:
        """Call every object once, then all for a while. Raises RoostError when all of that fails."""
        once, count = Load(work, concurrency=self.given["concurrency"]), len(work.methods)
        gauge.follow(once, "warm-up", seconds=None, calls=count)
        await once.run(calls=count)
        if not once.answered and once.first_error is not None:
            raise RoostError(f"every call failed\n{common.described(once.first_error)}")
        more, seconds = self._new_load(work), self.given["warmup"]
        gauge.follow(more, "warm-up", seconds=seconds, calls=None)
        await more.run(seconds=seconds)

    def _work(self, runtime: AsyncRuntime) -> Work:
        connection, method = runtime.connection, self.method
        binding = bound(connection.bindings.config, self.namespace)
        namespace, caller = runtime.env[binding.name], connection.caller
        ids = [namespace.id_from_name(f"bench-{n}") for n in range(self.given["objects"])]
        targets = [(binding.class_name, each.raw, each.name) for each in ids]
        methods = [Method(caller.way_to(target), target, method) for target in targets]
        call = timed_caller(caller, asyncio.get_running_loop())
        args, kwargs = tuple(self.args), self.kwargs
        return Work(methods, lambda index: call(targets[index], method, args, kwargs), args, kwargs)

    def _new_load(self, work: Work, rate: float | None = None) -> Load:
        given = self.given
        return Load(work, concurrency=given["concurrency"], rate=rate, at_random=given["at_random"])
