"""Imports point down only. Also those within functions, and those for type checkers alone.

The layers stand here from the bottom up; a module may import from the layers below its own, and from
its own package. `runtime`, the face of the whole, stands above the client. Scripts that Roost writes
for its users are no part of it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import runtime
import workers

LAYERS = [
    {"workers"},
    {"config", "control", "directories", "ids", "roster"},
    {"boot", "kv", "status", "storage", "wire"},
    {"batch", "passed"},
    {"stubs"},
    {"bindings", "migrations"},
    {"host"},
    {"gateway", "supervisor"},
    {"client"},
    {"runtime"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ROOT = Path(runtime.__file__).parent
HOUSE = {"runtime": ROOT, "workers": Path(workers.__file__).parent}
MODULES = sorted(
    path
    for folder in HOUSE.values()
    for path in folder.rglob("*.py")
    if "starter" not in path.relative_to(folder).parts
)


def room_of(name):
    """The room that a dotted module name stands in."""
    first, *rest = name.split(".")
    if first == "workers":
        return "workers"
    is_room = rest and ((ROOT / rest[0]).is_dir() or (ROOT / f"{rest[0]}.py").exists())
    return rest[0] if is_room else "runtime"


def name_of(path):
    """The dotted name of a module's file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Every import of a module from this house, wherever it stands: (line, dotted name)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in HOUSE)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down_only(path):
    room = room_of(name_of(path))
    wrong = [
        f"line {line}: {name}"
        for line, name in imports_of(path)
        if room_of(name) != room and LEVEL[room_of(name)] >= LEVEL[room]
    ]
    assert not wrong, f"{room} must not import from above"


def test_every_room_has_its_layer():
    assert {room_of(name_of(path)) for path in MODULES} == set(LEVEL)


def test_upward_imports_would_be_found(tmp_path):
    """The test itself, on a module that does everything wrong."""
    source = "if 0:\n    from runtime import cli\ndef f():\n    import runtime.host.host\n"
    path = tmp_path / "wrong.py"
    path.write_text(source + "from runtime import Runtime\nfrom workers.errors import WireError\n")
    assert [(line, room_of(name)) for line, name in sorted(imports_of(path))] == [
        (2, "cli"),
        (4, "host"),
        (5, "runtime"),
        (6, "workers"),
    ]


def test_importing_workers_loads_nothing_of_the_engine(tmp_path):
    code = "import sys, workers; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    engine = {"runtime", "zmq", "uvloop", "httptools", "apsw", "diskcache", "cloudpickle", "click"}
    assert not engine & {name.split(".")[0] for name in loaded}
