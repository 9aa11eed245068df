"""The directories of an instance, without one: who may have them, and what they hold."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from runtime import directories
from runtime.directories import (
    FORMAT,
    check_private,
    claim,
    kept_free,
    make_private,
    mark_of,
    release,
    run_directory,
    write_private,
)
from workers.errors import ConfigError, DataDirInUse


@pytest.fixture
def shared_memory(tmp_path, monkeypatch):
    """What stands for /dev/shm."""
    directory = tmp_path / "shm"
    directory.mkdir()
    monkeypatch.setattr(directories, "SHARED_MEMORY", directory)
    return directory


@pytest.fixture
def runs(monkeypatch, shared_memory):
    """Where run directories stand: a short path, as sockets need one."""
    with tempfile.TemporaryDirectory(prefix="r-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory)


@pytest.fixture
def data(tmp_path, runs):
    """A data directory that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def claimed(data):
    """Claim the directory; what is claimed is released at the end."""
    held = []

    def claim_(hosts=2, slots=None):
        held.append(claim(data, hosts=hosts, slots=slots))
        return held[-1]

    yield claim_
    for one in held:
        release(one)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# --- claiming --------------------------------------------------------------------------------------


def test_a_claimed_directory_is_made_and_everything_in_it_is_private(data, runs, claimed):
    found = claimed()
    assert found.run.is_relative_to(runs)
    assert mode(data) == mode(found.run) == mode(found.run.parent) == 0o700
    assert mode(data / "lock") == mode(data / "format.json") == 0o600
    assert (found.control.parent, found.roster.parent) == (found.run, found.run)
    assert run_directory(data) == found.run
    assert len(os.fsencode(found.run / "h65535.4294967295")) <= 107


def test_a_second_claim_is_refused_and_names_the_pid_of_the_first(data):
    first = claim(data, hosts=1, slots=None)
    with pytest.raises(DataDirInUse, match=f"pid {os.getpid()}") as raised:
        claim(data, hosts=1, slots=None)
    assert raised.value.pid == os.getpid()
    assert first.run.is_dir()
    release(first)
    assert not first.run.exists()
    release(claim(data, hosts=1, slots=None))


def test_a_claim_waits_for_the_children_of_a_dead_holder_and_not_for_ever(data, monkeypatch):
    first = claim(data, hosts=1, slots=None)
    os.pwrite(first.lock, json.dumps({"pid": 2**22 + 1, "run": str(first.run)}).encode(), 0)
    waits = []
    monkeypatch.setattr(directories.time, "sleep", waits.append)
    clock = iter(range(100))
    monkeypatch.setattr(directories.time, "monotonic", lambda: next(clock))
    with pytest.raises(DataDirInUse):
        claim(data, hosts=1, slots=None)
    assert len(waits) == directories.PATIENCE
    monkeypatch.setattr(directories.time, "sleep", lambda _: release(first))
    second = claim(data, hosts=1, slots=None)
    assert second.run != first.run
    release(second)


def test_what_killed_instances_left_outside_goes_and_what_is_others_stays(data, shared_memory):
    first = claim(data, hosts=1, slots=None)
    assert mode(first.shelf) == 0o700
    assert first.shelf.parent == shared_memory
    parent = first.run.parent
    release(first)
    assert list(parent.iterdir()) == list(shared_memory.iterdir()) == []
    killed, other = f"{mark_of(data)}-0badcafe", "0123456789abcdef-0badcafe"
    for directory in (parent, shared_memory):
        for name in (killed, other):
            (directory / name).mkdir()
            (directory / name / "file").touch()
    (data.parent / "twin").symlink_to(data)
    second = claim(data.parent / "twin", hosts=1, slots=None)
    for directory in (parent, shared_memory):
        assert {path.name for path in directory.iterdir()} == {other, second.run.name}
    release(second)


def test_without_shared_memory_an_instance_has_no_shelf(data, monkeypatch, tmp_path):
    monkeypatch.setattr(directories, "SHARED_MEMORY", tmp_path / "none")
    found = claim(data, hosts=1, slots=None)
    assert found.shelf is None
    assert found.run.is_dir()
    release(found)


def test_a_claim_that_fails_lets_the_directory_go(data):
    with pytest.raises(ConfigError):
        claim(data, hosts=20, slots=16)
    release(claim(data, hosts=16, slots=16))


def test_a_long_path_does_not_make_a_socket_s_path_too_long(tmp_path, monkeypatch, data):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    found = claim(data, hosts=1, slots=None)
    assert not found.run.is_relative_to(deep)
    assert len(os.fsencode(found.run)) <= 80
    release(found)


# --- who may write ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777])
def test_a_directory_that_others_can_write_is_refused(tmp_path, data, bits):
    data.mkdir()
    data.chmod(bits)
    with pytest.raises(PermissionError, match=f"chmod 700 {data}"):
        claim(data, hosts=1, slots=None)
    assert list(data.iterdir()) == []


def test_a_run_directory_that_others_prepared_is_refused(data, runs):
    prepared = runs / f"roost-{os.getuid()}"
    prepared.mkdir()
    prepared.chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        claim(data, hosts=1, slots=None)
    prepared.chmod(0o700)
    release(claim(data, hosts=1, slots=None))


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    make_private(tmp_path / "mine")
    monkeypatch.setattr(directories.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(PermissionError):
        check_private(tmp_path / "mine")


def test_a_file_in_its_place_is_refused(data):
    data.write_text("no directory")
    with pytest.raises(ConfigError, match="is no directory"):
        claim(data, hosts=1, slots=None)


def test_a_private_file_is_written_whole(tmp_path):
    path = tmp_path / "file.json"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


# --- slots and format ------------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "slots"), [(1, 16), (8, 16), (9, 32), (24, 64), (None, 16)])
def test_there_are_at_least_two_slots_a_core_and_a_power_of_two(data, monkeypatch, cores, slots):
    monkeypatch.setattr(directories.os, "cpu_count", lambda: cores)
    found = claim(data, hosts=1, slots=None)
    assert found.slots == slots
    release(found)


def test_the_number_of_slots_is_fixed_when_the_directory_is_made(data):
    release(claim(data, hosts=1, slots=4))
    for hosts in (1, 3, 4):
        found = claim(data, hosts=hosts, slots=None)
        assert found.slots == 4
        release(found)
    release(claim(data, hosts=1, slots=4))
    with pytest.raises(ConfigError, match="made with 4 slots, which cannot change; 8 were asked"):
        claim(data, hosts=1, slots=8)
    with pytest.raises(ConfigError, match=r"5 hosts need as many slots, and .* has 4"):
        claim(data, hosts=5, slots=None)


def test_a_failed_first_claim_fixes_nothing(data):
    with pytest.raises(ConfigError):
        claim(data, hosts=5, slots=4)
    found = claim(data, hosts=5, slots=8)
    assert found.slots == 8
    release(found)


def test_the_format_of_a_newer_version_is_refused(data):
    release(claim(data, hosts=1, slots=4))
    (data / "format.json").write_text(json.dumps({"format": FORMAT + 1, "slots": 4}))
    with pytest.raises(ConfigError, match=f"made by a newer Roost \\(format {FORMAT + 1}\\)"):
        claim(data, hosts=1, slots=None)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": "x", "slots": 4}']
)
def test_a_format_that_cannot_be_read_is_refused(data, content):
    release(claim(data, hosts=1, slots=4))
    (data / "format.json").write_text(content)
    with pytest.raises(ConfigError, match=r"format\.json is not readable"):
        claim(data, hosts=1, slots=None)


@pytest.mark.parametrize("slots", [0, -4])
def test_a_format_without_slots_is_refused(data, slots):
    data.mkdir(mode=0o700)
    (data / "format.json").write_text(json.dumps({"format": FORMAT, "slots": slots}))
    with pytest.raises(ConfigError, match=f"not readable.*{slots} slots"):
        claim(data, hosts=1, slots=None)


# --- looking from outside --------------------------------------------------------------------------


def test_a_directory_kept_free_cannot_be_claimed_and_one_in_use_not_kept_free(data, monkeypatch):
    with pytest.raises(FileNotFoundError), kept_free(data):
        pass
    found = claim(data, hosts=1, slots=None)
    with pytest.raises(DataDirInUse, match=f"pid {os.getpid()}") as raised, kept_free(data):
        pass
    assert raised.value.pid == os.getpid()
    release(found)
    (data / "lock").write_text("")
    with kept_free(data), kept_free(data):
        monkeypatch.setattr(directories, "PATIENCE", 0)
        with pytest.raises(DataDirInUse):
            claim(data, hosts=1, slots=None)
    release(claim(data, hosts=1, slots=None))


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '"text"'])
def test_a_lock_that_names_no_run_directory_is_a_value_error(data, content):
    data.mkdir()
    with pytest.raises(OSError, match="lock"):
        run_directory(data)
    (data / "lock").write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011  JSON's words for what is none
        run_directory(data)
