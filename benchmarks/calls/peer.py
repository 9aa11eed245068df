"""The other process of a rival: started fresh, gone with the context."""

from __future__ import annotations

import multiprocessing
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def peer(serve: Callable[[str], None]) -> Iterator[str]:
    """Run `serve(endpoint)` in a process of its own; gives the endpoint to connect to."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        endpoint = f"ipc://{directory}/peer"
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(endpoint,), daemon=True
        )
        process.start()
        try:
            yield endpoint
        finally:
            process.terminate()
            process.join()
