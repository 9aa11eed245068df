"""The `roost` command's first step: make sure that the packages it finds are Roost's own.

`workers` and `runtime` are common names. A folder of the user's that comes first on the path would
otherwise end in an import error that explains nothing.
"""

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Run the command line, or say which folder is in its way and how to mend it."""
    here = Path(__file__).resolve().parent
    for name in ("workers", "runtime"):
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parent.parent != here:
            where = spec.submodule_search_locations if spec is not None else None
            found = origin or (next(iter(where), None) if where else None)
            sys.exit(
                f"roost: Python finds {found or 'nothing'} where Roost's own package `{name}` "
                f"should be.\nIf that is a folder of yours: rename it, or take its parent off "
                f"PYTHONPATH.\nIf there is nothing: install Roost again (pip install roost)."
            )
    from runtime.cli import main as command  # noqa: PLC0415  (only now is it known to be ours)

    command()
