"""`import workers` is quick, light, and says what it does not have."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import workers
from workers import bindings
from workers._check import shadow_of

SOURCE = Path(workers.__file__).parent


def run(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{SOURCE.parent}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_every_name_of_the_face_is_there():
    for name in workers.__all__:
        assert getattr(workers, name) is not None
    from workers import Context

    assert Context is bindings.Context


def test_importing_loads_neither_the_engine_nor_anything_that_is_slow_to_import(tmp_path):
    code = (
        "import sys, workers;"
        "print([m for m in ('runtime', 'aiohttp', 'asyncio', 'email') if m in sys.modules])"
    )
    assert run(code, tmp_path)[0].splitlines() == ["[]"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("WorkflowEntrypoint", "Durable Object's storage"),
        ("handler", r"class Default\(WorkerEntrypoint\)"),
        ("python_to_rpc", "need no conversion"),
    ],
)
def test_what_roost_lacks_says_what_to_use_instead(name, advice):
    with pytest.raises(ImportError, match=f"workers.{name} is not part of Roost: .*{advice}"):
        exec(f"from workers import {name}", {})


def test_a_name_that_nobody_knows_is_an_ordinary_error():
    assert not hasattr(workers, "nonsense")
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec("from workers import nonsense", {})


def test_nothing_in_workers_imports_the_engine():
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not any(name.name.split(".")[0] == "runtime" for name in node.names)
            if isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] != "runtime"


@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_users_runtime_that_hides_the_engine_is_named_in_a_warning(tmp_path, kind):
    if kind == "package":
        place = tmp_path / "runtime"
        place.mkdir()
        (place / "__init__.py").touch()
    else:
        place = tmp_path / "runtime.py"
        place.touch()
    _, warning = run("import workers", tmp_path)
    assert f"UserWarning: {place} hides Roost's own package `runtime`" in warning
    assert "rename it, or take the folder it is in off the path" in warning


def test_without_a_shadow_nothing_is_said(tmp_path):
    assert run("import workers", tmp_path) == ("", "")
    _, quiet = run("import sys; sys.modules['runtime'] = sys; import workers", tmp_path)
    assert quiet == ""


def test_only_what_is_not_ours_is_a_shadow(tmp_path):
    assert shadow_of(None, str(tmp_path)) is None
    spec = find_spec("json")
    folder = Path(spec.origin).parent
    assert shadow_of(spec, str(folder)) is None
    assert shadow_of(spec, str(tmp_path)) == str(folder)


def test_every_camel_case_binding_has_its_snake_case_twin():
    for protocol in (getattr(bindings, name) for name in bindings.__all__):
        names = {name for name in vars(protocol) if not name.startswith("_")}
        for name in names:
            snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
            assert snake in names, f"{protocol.__name__}.{name}"
