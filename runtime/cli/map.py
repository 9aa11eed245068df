"""`roost map`: push a file of records through objects, each to the object of its key."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli import common
from runtime.cli.records import STANDARD, Lines, Records, is_file
from runtime.cli.script import bound, worker
from runtime.cli.tallies import Tallies
from runtime.client.options import Options
from runtime.client.sync_runtime import Runtime, connect
from runtime.directories import DATA
from workers.errors import RoostError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.batch.blocking import Results
    from runtime.cli.records import Format

FAILURES: Final = 3
"""Exit code when everything was tried, and some items failed."""

BROKEN_PIPE: Final = 141
"""What shells expect of a command that SIGPIPE ended: 128 and the signal."""


@click.command()
@common.options(
    click.argument("script", type=click.Path(exists=True, path_type=Path)),
    click.argument("namespace"),
    click.argument("method"),
    click.option(
        "--input",
        "-i",
        "source",
        default=STANDARD,
        metavar="FILE",
        help="JSON lines, CSV, TSV (also with .gz) or Parquet, known by its name. Default: JSON "
        "lines from standard input.",
    ),
    click.option(
        "--key", "-k", required=True, metavar="FIELD", help="What names an item's object."
    ),
    click.option(
        "--output",
        "-o",
        default=STANDARD,
        metavar="FILE",
        help="Where results go, as JSON lines. Default: standard output.",
    ),
    click.option(
        "--format",
        "wanted",
        type=click.Choice(["jsonl", "csv", "tsv", "parquet"]),
        help="The input's format, if its name does not say.",
    ),
    click.option(
        "--hosts", type=click.IntRange(min=1), metavar="N", help="Processes. Default: one a core."
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="The method gets a list of up to N items of its key.",
    ),
    click.option(
        "--checkpoint",
        metavar="NAME",
        help="Remember what is done: the same command goes on where it stopped.",
    ),
    click.option(
        "--id",
        "id_field",
        metavar="FIELD",
        help="A field that tells items apart: one that "
        "its object has applied before is not applied again.",
    ),
    click.option("--ordered", is_flag=True, help="Write results in the order of the input."),
    click.option(
        "--keep-going", is_flag=True, help="Go on when an item fails; exit with 3 in the end."
    ),
    click.option(
        "--failures",
        metavar="FILE",
        help="Where failed items go, as JSON lines; implies --keep-going.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=5,
        show_default=True,
        metavar="N",
        help="How often to send an item again whose host died, or that may be retried.",
    ),
    click.option(
        "--timeout",
        type=common.Number(min=0, min_open=True),
        metavar="SECONDS",
        help="How long the method may wait for an item.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="No progress and no summary."),
    common.env_option,
    common.data_dir_option,
)
def map(  # noqa: A001  (a command has its own name)
    script: Path, namespace: str, method: str, **given: Any
) -> int:
    """Call a method with every record of a file, in parallel.

    Each record goes to METHOD of the object of its key.

    SCRIPT is a worker's folder, its config, or a Python file with Durable Object classes; NAMESPACE a
    binding of the config, or the name of a class. Records of one key are applied in order, those of
    different keys in parallel. A record is applied once, also when processes die meanwhile. When an
    instance runs on the data directory, its objects are used.

    Each result is a line {"key": ..., "result": ...}; progress and a summary go to standard error.
    Exit codes: 0 all done, 1 stopped by an error, 3 all tried and some failed, 130 Ctrl-C.

    \b
    Examples:
      roost map src/worker.py Account deposit --input payments.jsonl --key account -o done.jsonl
      roost map . ACCOUNTS deposit_all --input payments.csv --key account --batch 256 --hosts 8
      zcat events.gz | roost map . USERS seen --key user --checkpoint events-2026-11 > out.jsonl
    """
    command = _Map(script, namespace, method, given)
    for caught in (signal.SIGINT, signal.SIGTERM):
        signal.signal(caught, command.interrupt)
    try:
        return command.run()
    except KeyboardInterrupt:
        return command.stopped(128 + command.caught)
    except BrokenPipeError:  # whoever read the results has enough
        return command.stopped(128 + command.caught if command.caught else BROKEN_PIPE)


class _Map:
    """One run of the command."""

    def __init__(self, script: Path, namespace: str, method: str, given: dict[str, Any]) -> None:
        self._given = given
        self._method = method
        self._quiet: bool = given["quiet"]
        self._keep_going: bool = given["keep_going"] or given["failures"] is not None
        self._config = worker(script, namespace, given["env"])
        self._namespace = bound(self._config, namespace).name
        self._data = given["data_dir"] or self._config.root / DATA
        wanted: Format | None = given["wanted"]
        _apart(given["source"], given["output"], given["failures"])
        self._records = Records(given["source"], wanted)
        self._tallies = Tallies()
        self._output = self._failures = Lines(None)
        self.caught = 0
        """The signal that stops it."""
        self._writing = False
        self._results: Results | None = None
        self._runtime: Runtime | None = None

    def run(self) -> int:
        """Do it. Returns the exit code."""
        self._runtime = self._open()
        busy = {status.host: status.busy_s for status in self._runtime.status()}
        results = self._results = self._start(self._runtime)
        note = (results.checkpoint.note if results.checkpoint is not None else None) or {}
        given = self._given
        output = self._output = Lines(given["output"], note.get("output"))
        failures = Lines(given["failures"], note.get("failures"))

        def save() -> dict[str, int | None]:
            return {"output": output.make_durable(), "failures": failures.make_durable()}

        if results.checkpoint is not None:
            results.checkpoint.on_save = save
        self._failures = failures
        results.observe(self._tallies.ran)
        began = time.monotonic()
        try:
            for key, result in results:
                # In one piece: a line that is written and not settled would be written again.
                self._writing = True
                try:
                    output.write({"key": key, "result": result})
                except (TypeError, ValueError, RecursionError) as cause:
                    raise RoostError(
                        f"the result of the key {key!r} cannot be written: {cause}"
                    ) from cause
                results.settle()
                if not results.at_hand:
                    output.show()
                self._writing = False
                if self.caught:
                    raise KeyboardInterrupt
        except RuntimeClosed as ended:  # by somebody else, perhaps who had started the instance
            raise RoostError(f"{ended}; {self._where(results)}") from ended
        except Exception as error:
            if isinstance(error, RoostError | OSError) and not getattr(error, "remote", False):
                raise
            self._runtime.close()
            raise RoostError(common.described(error)) from error
        finally:
            results.close()
            output.close()
            failures.close()
        tally, kept = results.tally, results.checkpoint
        failed_before = kept.failed - tally.failed if kept is not None else 0
        if not self._quiet:
            statuses = self._runtime.status()
            seconds = time.monotonic() - began
            self._tallies.show(tally, failed_before, seconds, statuses, busy)
        self._runtime.close()
        return FAILURES if tally.failed or failed_before else 0

    def _open(self) -> Runtime:
        try:
            return connect(self._data)
        except RuntimeClosed:
            hosts = self._given["hosts"] or self._config.hosts or os.cpu_count() or 1
            asked = Options(self._config, self._data, hosts, None, None, "error")
            runtime = Runtime.__new__(Runtime)
            runtime._open(asked.start())  # noqa: SLF001
            return runtime

    def _start(self, runtime: Runtime) -> Results:
        given = self._given
        id_field = given["id_field"]
        results: Results = runtime.env[self._namespace].map(
            self._method,
            self._records,
            key=self._field(given["key"]),
            item_id=None if id_field is None else self._field(id_field),
            batch=given["batch"],
            ordered=given["ordered"],
            errors=self._failed if self._keep_going else "raise",
            retries=given["retries"],
            timeout=given["timeout"],
            progress=not self._quiet,
            checkpoint=given["checkpoint"],
        )
        return results

    def _field(self, name: str) -> Callable[[dict[str, Any]], Any]:
        """Return what takes a field of a record, and says of which record when it cannot."""

        def field(record: dict[str, Any]) -> Any:
            value = record.get(name)
            if type(value) is str or type(value) is int:
                return value
            if name not in record:
                have = ", ".join(repr(other) for other in record)
                raise RoostError(f"{self._records.where}: there is no field {name!r}, only {have}")
            raise RoostError(
                f"{self._records.where}: {name!r} must be text or an integer, and is {value!r}"
            )

        return field

    def _failed(self, key: Any, item: Any, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        self._tallies.failed(key, text)
        self._failures.write({"key": key, "item": item, "error": text})

    def interrupt(self, number: int, _: object) -> None:
        """Take a signal."""
        self.caught = number
        self._output.hurry()
        if not self._writing:
            raise KeyboardInterrupt

    def stopped(self, code: int) -> int:
        """Say where it stands, and end quickly. Returns the exit code."""
        for caught in (signal.SIGINT, signal.SIGTERM):
            signal.signal(caught, lambda *_: os._exit(code))  # once more: at once
        if self._results is not None:
            self._results.close()
            text = f"stopped; {self._where(self._results)}"
            click.echo(f"{click.style('roost:', fg='red', bold=True)} {text}", err=True)
        if self._runtime is not None:
            self._runtime.close()
        return code

    def _where(self, results: Results) -> str:
        done = f"{results.tally.done + results.tally.skipped:,} items are done"
        if self._given["checkpoint"] is not None:
            return f"{done}; the same command goes on from there"
        return f"{done} (with --checkpoint NAME, the same command would go on from there)"


def _apart(source: str, output: str, failures: str | None) -> None:
    """Raise RoostError when a file that is written is another one of the files, too."""
    read: str | int = 0 if source == STANDARD else source
    for written in (output, failures):
        if written is None or written == STANDARD or not Path(written).exists():
            continue
        if is_file(written) and os.path.samestat(os.stat(written), os.stat(read)):  # noqa: PTH116
            raise RoostError(f"{written} is the input, and would be overwritten: name another file")
    if failures is not None and os.path.realpath(failures) == os.path.realpath(output):
        raise RoostError(f"results and failures cannot both go to {failures}: name another file")
