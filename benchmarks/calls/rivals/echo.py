"""No actors at all: asyncio streams over a Unix socket, a pickled call a message."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import struct
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.calls.rivals import System

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = struct.Struct("<Q")
_LIMIT = 1 << 20


def write(writer: asyncio.StreamWriter, value: object) -> None:
    """Send a value."""
    data = pickle.dumps(value, 5)
    writer.write(_LENGTH.pack(len(data)) + data)


async def read(reader: asyncio.StreamReader) -> Any:
    """Take a value."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def serve(path: str, ready: Any) -> None:
    """Count for ever. In a process of its own."""
    total = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        try:
            while True:
                total += len(await read(reader))
                write(writer, total)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(connected, path, limit=_LIMIT)
        ready.set()
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def system() -> Iterator[System]:
    """Start it."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        path = f"{directory}/echo"
        process = context.Process(target=serve, args=(path, ready), daemon=True)
        process.start()
        ready.wait()
        reader, writer = runner.run(asyncio.open_unix_connection(path, limit=_LIMIT))

        async def call(value: object) -> Any:
            write(writer, value)
            await writer.drain()
            return await read(reader)

        async def pipelined(calls: int) -> None:
            async def send() -> None:
                for _ in range(calls):
                    write(writer, (1,))
                    await writer.drain()

            sending = asyncio.create_task(send())
            for _ in range(calls):
                await read(reader)
            await sending

        yield System(
            lambda: runner.run(call((1,))),
            lambda calls: runner.run(pipelined(calls)),
            send=lambda array: runner.run(call(array)),
        )
        writer.close()
        process.terminate()
        process.join()
