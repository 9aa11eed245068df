"""A folder of the user's that goes by the name of one of our packages is named, with what to do."""

import pytest

PROGRAM = """
from runtime import Runtime
from workers import DurableObject
class Room(DurableObject):
    def hello(self):
        return "hello"
if __name__ == "__main__":
    with Runtime(objects={"ROOMS": Room}, hosts=1, data_dir="data") as rt:
        print(rt.env.ROOMS.getByName("a").hello())
"""


def shadow(folder, name):
    """Put a module in the way, which must not be run."""
    if name.endswith(".py"):
        place = folder / name
    else:
        (folder / name).mkdir()
        place = folder / name / "__init__.py"
    place.write_text("print('the wrong one ran')\n")
    return folder / name


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("workers", "python -m"),
        ("runtime", "PYTHONPATH"),
        ("workers.py", "PYTHONPATH"),
        ("runtime.py", "python -m"),
    ],
)
def test_the_command_names_what_is_in_its_way(tmp_path, run, name, way):
    place = shadow(tmp_path, name)
    if way == "python -m":
        done = run("python -m roost --help", tmp_path)
    else:
        done = run("roost --help", tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    package = name.removesuffix(".py")
    assert line.startswith(f"roost: Python finds {place} where Roost's own package `{package}`")
    assert "rename it, or take the folder it is in off PYTHONPATH" in line


@pytest.mark.parametrize("name", ["workers", "runtime"])
def test_the_command_is_not_troubled_by_folders_that_python_would_not_import(tmp_path, run, name):
    shadow(tmp_path, name)
    assert run("roost --help", tmp_path).returncode == 0  # the current folder is not on the path
    (tmp_path / name / "__init__.py").rename(tmp_path / name / "mine.py")
    assert run("python -m roost --help", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("workers", "python program.py"),
        ("workers.py", "python -m program"),
        ("workers", "PYTHONPATH"),
    ],
)
def test_a_program_is_told_what_stands_in_the_place_of_workers(tmp_path, run, name, way):
    place = shadow(tmp_path, name)
    (tmp_path / "program.py").write_text(PROGRAM)
    if way == "PYTHONPATH":
        done = run("python -P program.py", tmp_path, PYTHONPATH=str(tmp_path))
    else:
        done = run(way, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""  # what is in the way was not even imported
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: Python finds {place} where Roost's own package `workers`")
    assert "rename it" in last


@pytest.mark.parametrize("name", ["runtime", "runtime.py"])
def test_a_program_is_warned_of_what_stands_in_the_place_of_runtime(tmp_path, run, name):
    place = shadow(tmp_path, name)
    lines = PROGRAM.splitlines()
    lines[1:3] = lines[2], lines[1]  # workers first
    (tmp_path / "program.py").write_text("\n".join(lines))
    done = run("python program.py", tmp_path)
    assert done.returncode == 1
    assert f"{place} hides Roost's own package `runtime`" in done.stderr
    assert "rename it" in done.stderr
    # Where nothing of Roost is imported before, Python itself names the file.
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run("python program.py", tmp_path)
    assert done.returncode == 1
    assert str(place) in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["workers", "runtime"])
def test_a_program_is_not_troubled_by_a_folder_without_an_init(tmp_path, run, name):
    shadow(tmp_path, name).joinpath("__init__.py").rename(tmp_path / name / "mine.py")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run("python program.py", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize("name", ["workers", "runtime.py"])
def test_a_worker_script_cannot_have_one_beside_it(project, roost, name):
    place = shadow(project / "src", name)
    line = roost("dev", "--port", "0", cwd=project).failed()
    assert f"{place} has the name of Roost's own package" in line
    assert line.endswith("Rename it.")


@pytest.mark.parametrize("name", ["workers", "runtime"])
def test_a_worker_script_may_have_a_folder_of_data_beside_it(project, start, name):
    (project / "src" / name).mkdir()
    (project / "src" / name / "data.json").write_text("{}")
    assert start("dev", cwd=project).ready().get("/?name=ada")[0] == 200
