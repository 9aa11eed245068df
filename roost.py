"""The `roost` command's first step: make sure that the packages it finds are Roost's own.

`workers` and `runtime` are common names. A folder of the user's that comes first on the path would
otherwise end in an import error that explains nothing. Runs as `roost` and as `python -m roost`.
"""

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Run the command line, or say which folder is in its way and how to mend it."""
    for name in ("workers", "runtime"):
        found = _other(name)
        if found is not None:
            sys.exit(
                f"roost: Python finds {found} where Roost's own package `{name}` should be. If "
                "that is yours, rename it, or take the folder it is in off PYTHONPATH (`python -m` "
                "puts the current folder first: use the `roost` command instead)."
            )
    from runtime.cli import main as command  # noqa: PLC0415  (only now is it known to be ours)

    command()


def _other(name: str) -> str | None:
    """What Python would import in the place of one of our packages, or None."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return "nothing (is Roost installed whole?)"
    places = list(spec.submodule_search_locations or ()) or [spec.origin or "something built in"]
    ours = Path(__file__).resolve().parent / name
    return None if any(Path(place).resolve() == ours for place in places) else places[0]


if __name__ == "__main__":
    main()
