"""Scripts are loaded as the original loads them, and whatever is wrong with one is said whole."""

import importlib
import os
import sys

import cloudpickle
import pytest

from runtime.config import load
from runtime.host.script import load_script
from workers import DurableObject, WorkerEntrypoint
from workers.errors import ScriptError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write a worker and load it; what it did to the interpreter is undone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def project_(source, *, main="src/entry_of_test.py", **files):
        folder = (tmp_path / main).parent
        folder.mkdir(exist_ok=True)
        (tmp_path / main).write_text(source)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        (tmp_path / "wrangler.toml").write_text(
            f'name = "w"\nmain = "{main}"\n[[durable_objects.bindings]]\n'
            'name = "ROOMS"\nclass_name = "Room"\n'
            '[[migrations]]\ntag = "v1"\nnew_sqlite_classes = ["Room"]\n'
        )
        return load_script(load(tmp_path / "wrangler.toml"), None)

    yield project_
    for name in set(sys.modules) - before:
        del sys.modules[name]


ROOM = """
from workers import DurableObject, WorkerEntrypoint
class Room(DurableObject):
    pass
"""


def test_classes_are_found_by_their_bindings_and_default_is_the_entrypoint(project):
    script = project(ROOM + "class Default(WorkerEntrypoint):\n    pass\n")
    assert set(script.objects) == {"Room"}
    assert issubclass(script.objects["Room"], DurableObject)
    assert issubclass(script.entrypoint, WorkerEntrypoint)
    assert project(ROOM).entrypoint is None


def test_its_folder_is_on_the_path_and_its_module_has_its_own_name(project):
    source = "from helper_of_test import Room\nassert __name__ == 'entry_of_test'\n"
    script = project(source, helper_of_test=ROOM)
    assert script.objects["Room"].__module__ == "helper_of_test"


def test_what_is_no_entrypoint_class_is_none(project):
    assert project(ROOM + "Default = 5\n").entrypoint is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_script_that_cannot_be_imported_is_told_with_its_traceback(project, line, error):
    with pytest.raises(ScriptError) as raised:
        project(f"{ROOM}{line}\n")
    text = str(raised.value)
    assert f"entry_of_test.py raised {error} while it was imported" in text
    assert error == "SyntaxError" or "Traceback" in text
    assert line in text


def test_a_missing_class_is_told_with_those_that_are_there(project):
    with pytest.raises(
        ScriptError, match=r"binding ROOMS wants a class Room\(DurableObject\).*Rom"
    ):
        project(ROOM.replace("class Room", "class Rom"))
    with pytest.raises(ScriptError, match="the script has: no such class"):
        project("class Room:\n    pass\n")


@pytest.mark.parametrize("ours", ["workers", "runtime"])
def test_a_neighbour_with_the_name_of_our_own_package_is_refused(project, ours):
    with pytest.raises(
        ScriptError, match=rf"{ours}\.py has the name of Roost's own package.*Rename"
    ):
        project(ROOM, **{ours: ""})


def test_a_script_with_the_name_of_a_standard_module_is_refused(project):
    with pytest.raises(ScriptError, match=r"calendar.*standard library.*rename"):
        project(ROOM, main="src/calendar.py")
    import calendar

    assert "entry" not in (calendar.__file__ or "")


def test_a_script_that_is_not_there_or_not_named_is_told(project, tmp_path):
    project(ROOM)
    (tmp_path / "src" / "entry_of_test.py").unlink()
    with pytest.raises(ScriptError, match="there is no worker script at"):
        load_script(load(tmp_path / "wrangler.toml"), None)
    (tmp_path / "wrangler.toml").write_text('name = "w"\n')
    with pytest.raises(ScriptError, match="has no `main`"):
        load_script(load(tmp_path / "wrangler.toml"), None)


def test_classes_of_an_embedding_program_come_by_value(tmp_path):
    class Local(DurableObject):
        def hello(self):
            return "hello"

    pickled = cloudpickle.dumps(({"Local": Local}, None))
    script = load_script(None, pickled)
    assert script.objects["Local"].hello(None) == "hello"
    assert script.entrypoint is None


def test_classes_that_cannot_be_had_in_a_host_are_told_with_the_traceback():
    class Refuses:
        def __reduce__(self):
            return exit, (1,)

    with pytest.raises(ScriptError, match=r"cannot be loaded in a host process:\nTraceback"):
        load_script(None, cloudpickle.dumps(({"Refuses": Refuses()}, None)))


def test_a_script_changed_twice_within_a_second_is_loaded_as_it_is(project, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in "12":
        sys.modules.pop("helper_of_test", None)
        importlib.invalidate_caches()
        helper = ROOM + f"VALUE = {value}\n"
        script = project("from helper_of_test import *\n", helper_of_test=helper)
        for path in (tmp_path / "src").glob("*.py"):
            os.utime(path, (1e9, 1e9))  # bytecode goes by size and second
        room = script.objects["Room"]
        assert str(sys.modules[room.__module__].VALUE) == value
    assert not (tmp_path / "src" / "__pycache__").exists()
    assert not sys.dont_write_bytecode
