"""One check at import: that `runtime` will be Roost's engine and not a folder of the user's.

`runtime` is a common name. A folder so named in the directory that Python is started in comes first
on the import path and would hide the engine, with errors that point nowhere; a warning says so.
"""

# ruff: noqa: PTH120, PTH118 - pathlib costs 3 ms of every import of `workers`
import os.path
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

__all__ = ["shadow_of", "warn_when_runtime_is_shadowed"]


def warn_when_runtime_is_shadowed() -> None:
    """Warn when `import runtime` would find anything but the package beside this one."""
    if "runtime" in sys.modules:
        return
    found = shadow_of(
        find_spec("runtime"), os.path.join(os.path.dirname(os.path.dirname(__file__)), "runtime")
    )
    if found is not None:
        warnings.warn(
            f"{found} hides Roost's own package `runtime`, so `from runtime import Runtime` will "
            "fail: rename it, or take the folder it is in off the path",
            UserWarning,
            stacklevel=3,
        )


def shadow_of(spec: ModuleSpec | None, ours: str) -> str | None:
    """The folder or file that `spec` would import in the place of `ours`, or None."""
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    if not places and spec.origin is not None:
        places = [spec.origin]
    ours = os.path.realpath(ours)
    if not places or any(os.path.realpath(place) == ours for place in places):
        return None
    return places[0]
