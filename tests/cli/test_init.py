"""`roost init` writes a worker that runs at once, and never writes over anything."""

import json
import tomllib

import pytest


def test_what_it_writes_runs_at_once(project, roost, start):
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert files == {"wrangler.toml", "src/worker.py", ".gitignore"}
    assert roost("kv", "key", "list", cwd=project).worked() == "[]\n"
    instance = start("dev", cwd=project).ready()
    assert instance.get("/")[0] == 400
    for visits in (1, 2):
        status, body = instance.get("/?name=ada")
        assert (status, json.loads(body)) == (200, {"greeting": "Hello, ada!", "visits": visits})
    roost("kv", "key", "put", "greeting", "Good morning", cwd=project).worked()
    assert json.loads(instance.get("/?name=bob")[1]) == {
        "greeting": "Good morning, bob!",
        "visits": 1,
    }
    assert roost("kv", "key", "get", "last-visitor", cwd=project).worked() == "bob"
    assert instance.end() == 0
    assert "warning" not in instance.said.lower()
    assert "without effect" not in instance.said


def test_it_says_what_it_wrote_and_what_to_do_next(roost, tmp_path):
    out = roost("init", "my worker").worked()
    assert "wrote my worker/wrangler.toml, my worker/src/worker.py, my worker/.gitignore" in out
    assert "\n  cd 'my worker'\n  roost dev\n" in out
    (tmp_path / "here").mkdir()
    assert "cd " not in roost("init", cwd=tmp_path / "here").worked()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop.v2", "My-Shop-v2"), ("лавка", "my-worker"), ("x" * 80, "x" * 63)],
)
def test_the_worker_is_named_for_its_folder(roost, tmp_path, folder, name):
    roost("init", folder).worked()
    assert tomllib.loads((tmp_path / folder / "wrangler.toml").read_text())["name"] == name
    roost("kv", "key", "list", cwd=tmp_path / folder).worked()


@pytest.mark.parametrize("there", ["wrangler.toml", "wrangler.jsonc", "src/worker.py"])
def test_a_worker_that_is_there_stays_as_it_is(roost, tmp_path, there):
    (tmp_path / "src").mkdir()
    (tmp_path / there).write_text("mine")
    line = roost("init").failed()
    assert f"{there} is there already, and nothing was written" in line
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_a_gitignore_that_is_there_stays_and_is_spoken_of(roost, tmp_path):
    (tmp_path / ".gitignore").write_text("mine")
    done = roost("init")
    done.worked()
    assert (tmp_path / ".gitignore").read_text() == "mine"
    assert ".gitignore stays as it is; let git ignore .roost/" in done.err


def test_a_file_is_no_folder(roost, tmp_path):
    (tmp_path / "file").touch()
    assert "'file' is a file" in roost("init", "file").failed()
