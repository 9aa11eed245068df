"""Loads the worker script and finds its classes.

A script is a file (its folder goes on sys.path, as the original does: `import helper`, never
`import src.helper`), or classes that an embedding program sent along, pickled by value where a
host could not import them. User code runs only here, in a host; what it raises becomes a
ScriptError with the whole traceback.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.host.js import provide_js
from workers import DurableObject, WorkerEntrypoint
from workers.errors import ScriptError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from runtime.config import Config

_OURS = ("workers", "runtime")
_PACKAGES = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Script:
    """The classes of a worker."""

    objects: dict[str, type[DurableObject]]
    entrypoint: type[WorkerEntrypoint] | None


def load_script(config: Config, pickled: bytes | None) -> Script:
    """Load what the configuration names. Raises ScriptError, saying what is wrong and where."""
    provide_js()
    if pickled is not None:
        return _from_pickle(pickled)
    if config.main is None:
        raise ScriptError("the configuration has no `main`: name the worker script there")
    return _from_module(_import(config.main), config)


def _from_pickle(pickled: bytes) -> Script:
    try:
        objects, entrypoint = pickle.loads(pickled)
    except BaseException as cause:
        raise ScriptError(
            "the classes given to Runtime() cannot be loaded in a host process:\n"
            + traceback.format_exc()
        ) from cause
    return Script(objects, entrypoint)


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise ScriptError(f"there is no worker script at {path} (`main` of the configuration)")
    folder, name = path.parent, path.stem
    for ours in _OURS:
        shadow = _shadow(folder, ours)
        if shadow is not None:
            raise ScriptError(
                f"{shadow} has the name of Roost's own package `{ours}`, so a script beside it "
                "cannot import it. Rename it."
            )
    if name in sys.stdlib_module_names:
        raise ScriptError(
            f"{path} has the name of a module of Python's standard library, which others import by "
            "it: rename it"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} is not a Python file (`main` of the configuration)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        # Bytecode goes by the file's size and the second of its change: a script that is changed
        # twice within a second would be reloaded as it was before.
        spec.loader.exec_module(module)
    except BaseException as cause:  # also sys.exit() at its top level
        raise ScriptError(
            f"{path} raised {type(cause).__name__} while it was imported:\n"
            + "".join(traceback.format_exception(type(cause), cause, _from_script(cause))).rstrip()
        ) from cause
    finally:
        sys.dont_write_bytecode = wrote
    return module


def _shadow(folder: Path, ours: str) -> Path | None:
    """A module of the script's folder that goes by the name of one of our packages, or None."""
    if folder.resolve() == _PACKAGES:
        return None
    file, package = folder / f"{ours}.py", folder / ours
    if file.is_file():
        return file
    return package if any(package.glob("*.py")) else None


def _from_script(error: BaseException) -> TracebackType | None:
    """An exception's traceback without what led to the script: this file, and the import system."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace


def _from_module(module: ModuleType, config: Config) -> Script:
    objects: dict[str, type[DurableObject]] = {}
    for binding in config.objects:
        found = getattr(module, binding.class_name, None)
        if not (isinstance(found, type) and issubclass(found, DurableObject)):
            known = [
                name
                for name, value in vars(module).items()
                if isinstance(value, type)
                and issubclass(value, DurableObject)
                and value is not DurableObject
            ]
            raise ScriptError(
                f"binding {binding.name} wants a class {binding.class_name}(DurableObject) in "
                f"{config.main}; the script has: {', '.join(known) or 'no such class'}"
            )
        objects[binding.class_name] = found
    entrypoint = getattr(module, "Default", None)
    if not (isinstance(entrypoint, type) and issubclass(entrypoint, WorkerEntrypoint)):
        entrypoint = None
    return Script(objects, entrypoint)
